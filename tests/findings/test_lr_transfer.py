import math
from dataclasses import replace

import numpy as np
import pytest
from unrun import HEAD, planted_records, with_losses

from windtunnel.findings.lr_transfer import transfers
from windtunnel.report.figures.lr import transfer_drawings, views

SIZES = "32x3, 64x3, 128x3, 256x3, 64x2, 64x4, 64x8, 64x16"
WIDE = HEAD.replace("32x3, 64x3, 128x3", SIZES)
RATES = "[1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2]"


def grid(name, axes, horizons="[700 steps]", seeds=2):
    lines = "".join(f"      {axis}: {values}\n" for axis, values in axes.items())
    return (
        f"  - kind: grid\n    name: {name}\n    axes:\n{lines}"
        f"      recipe.lr: {RATES}\n    horizons: {horizons}\n    seeds: {seeds}\n"
    )


WIDTH = grid("width", {"size": "[32x3, 64x3, 128x3, 256x3]",
                       "recipe.parametrization": "[mup, standard]"})  # fmt: skip
DEPTH = grid("depth", {"size": "[64x2, 64x4, 64x8, 64x16]"})
LENGTH = grid("length", {"size": "[32x3, 64x3]"},
              "[400 steps, 800 steps, 1600 steps, 3200 steps]")  # fmt: skip
DECAY = grid("weight-decay", {"size": "[32x3, 64x3, 128x3, 256x3]",
                              "recipe.weight_decay_rule": "[scaled, constant]"})  # fmt: skip

BEND = 0.03


def curve(lr, best, lowest=2.2):
    return lowest * math.exp(BEND * math.log(lr / best) ** 2)


def drift_of(run):
    return 0.6 if run.axes["recipe.parametrization"] == "standard" else 0.95


def of_width(run, rng=None):
    best = 8e-3 * drift_of(run) ** math.log2(run.width / 32)
    return curve(run.lr, best) + (0.01 * rng.standard_normal() if rng else 0.0)


def known(finding):
    found = {each.name: each for each in finding.quantities}
    assert len(found) == len(finding.quantities)
    return found


def test_recovers_planted_drifts_and_what_a_carried_rate_gives_up(tmp_path):
    (finding,) = transfers(planted_records(tmp_path, WIDTH, of_width, head=WIDE))
    found = known(finding)
    assert finding.along == "width"
    drift = "drift of the best rate per doubling of width"
    assert found[f"{drift}, muP"].value == pytest.approx(0.95, rel=1e-6)
    assert found[f"{drift}, standard"].value == pytest.approx(0.6, rel=1e-6)
    assert found[f"{drift}, muP over standard"].value == pytest.approx(0.95 / 0.6, rel=1e-6)
    assert found["best rate at width 256, standard"].value == pytest.approx(8e-3 * 0.6**3, rel=1e-6)
    lost = found["loss given up at 2 times the width by the rate of the smallest, standard"]
    assert lost.value == pytest.approx(curve(1.0, 0.6) - 2.2, rel=1e-3)
    assert "muP" in finding.lead
    assert not finding.warnings


def test_intervals_hold_the_truth_under_noise_between_seeds(tmp_path):
    rng = np.random.default_rng(1)
    records = planted_records(tmp_path, WIDTH, lambda run: of_width(run, rng), head=WIDE)
    (finding,) = transfers(records)
    found = known(finding)
    for name, truth in (("muP", 0.95), ("standard", 0.6)):
        drift = found[f"drift of the best rate per doubling of width, {name}"]
        assert drift.low < truth < drift.high
        assert drift.high / drift.low < 1.2
    noise = found["noise between seeds"]
    assert noise.low < 0.01 < noise.high
    apart = found["best loss at 8 times the width, standard minus muP"]
    assert apart.low < 0 < apart.high
    mup = found["loss given up at 8 times the width by the rate of the smallest, muP"]
    standard = found["loss given up at 8 times the width by the rate of the smallest, standard"]
    assert mup.high < 0.01
    assert standard.low > 0.1
    times = found["loss given up at 8 times the width by the rate of the smallest, standard, "
                  "over the noise between seeds"]  # fmt: skip
    assert times.value == pytest.approx(standard.value / noise.value)


def test_raw_rates_of_hidden_matrices_follow_the_role_table(tmp_path):
    (finding,) = transfers(planted_records(tmp_path, WIDTH, of_width, head=WIDE))
    mup, standard = (variant.largest for variant in finding.variants)
    assert (mup.at, mup.width_ratio, mup.hidden_scale) == (256, 8, 1 / 8)
    assert (standard.width_ratio, standard.hidden_scale) == (8, 1)
    raw, rescaled = views(finding)
    assert (raw.factor(mup), rescaled.factor(mup)) == (1 / 8, 1)
    assert (raw.factor(standard), rescaled.factor(standard)) == (1, 8)


def test_depth_and_weight_decay_rules_are_recognised(tmp_path):
    def loss(run):
        return curve(run.lr, 8e-3 * 0.8 ** math.log2(run.depth / 3))

    depth, decay = transfers(planted_records(tmp_path, DEPTH + DECAY, loss, head=WIDE))
    assert depth.along == "depth"
    drift = known(depth)["drift of the best rate per doubling of depth"]
    assert drift.value == pytest.approx(0.8, rel=1e-6)
    assert [variant.name for variant in decay.variants] == [
        "scaled weight decay",
        "constant weight decay",
    ]
    assert len(views(decay)) == 1
    assert any("constant weight decay minus scaled weight decay" in name for name in known(decay))


def test_length_of_training_drifts_for_each_size_and_on_average(tmp_path):
    def loss(run):
        drift = 0.9 if run.width == 32 else 0.7
        return curve(run.lr, 1e-2 * drift ** math.log2(run.tokens / (400 * 512)))

    (finding,) = transfers(planted_records(tmp_path, LENGTH, loss, head=WIDE))
    found = known(finding)
    drift = "drift of the best rate per doubling of training length"
    assert found[f"{drift}, 32x3"].value == pytest.approx(0.9, rel=1e-6)
    assert found[f"{drift}, 64x3"].value == pytest.approx(0.7, rel=1e-6)
    assert found[drift].value == pytest.approx(math.sqrt(0.9 * 0.7), rel=1e-6)
    assert "best rate at 3200 steps, 64x3" in found
    assert not any("minus" in name for name in found)


def test_a_rate_that_diverged_is_told_and_gives_up_no_number(tmp_path):
    def loss(run):
        rising = run.axes["recipe.parametrization"] == "standard" and run.width == 256
        return None if rising and run.lr > 6e-3 else of_width(run)

    (finding,) = transfers(planted_records(tmp_path, WIDTH, loss, head=WIDE))
    found = known(finding)
    assert found["diverged runs, standard"].value == 8  # four rates, two seeds
    transferred = "loss given up at 8 times the width by the rate of the smallest"
    assert f"{transferred}, muP" in found
    assert f"{transferred}, standard" not in found
    assert "diverged" in finding.lead
    (diverged,) = (each for each in finding.warnings if each.code == "diverged-runs")
    assert diverged.values == {"runs": 8, "variant": "standard"}
    assert "width 256 at 0.008, 0.016, 0.032, 0.064" in diverged.message


def test_variants_and_sizes_that_diverged_altogether_are_told(tmp_path):
    def loss(run):
        if run.axes["recipe.parametrization"] == "standard":
            return None
        return None if run.width == 256 and run.lr > 3e-3 else of_width(run)

    (finding,) = transfers(planted_records(tmp_path, WIDTH, loss, head=WIDE))
    assert [variant.name for variant in finding.variants] == ["muP"]
    told = {warning.code: warning.values for warning in finding.warnings}
    assert told["too-few-places"]["diverged"] == 56
    assert told["few-rates"] == {"places": ("width 256",), "variant": "muP"}
    assert finding.missing == 0


def test_one_seed_that_diverged_spoils_its_rate(tmp_path):
    """The seeds that survived an unstable rate would make it look better than it is."""

    def loss(run):
        unlucky = run.width == 64 and run.lr == 1.6e-2 and run.init_seed == 1
        return None if unlucky else of_width(run)

    (finding,) = transfers(planted_records(tmp_path, WIDTH, loss, head=WIDE))
    spoilt = finding.variants[0].curves[1]
    assert spoilt.diverged == (1.6e-2,)
    assert 1.6e-2 not in spoilt.rates
    assert np.isnan(spoilt.above_best(1.6e-2)) or spoilt.near[-1] > 1.6e-2


def test_a_trunk_that_diverged_takes_its_unfinished_lengths_with_it(tmp_path):
    records = planted_records(tmp_path, LENGTH, lambda run: curve(run.lr, 1e-2), head=WIDE)
    gone = {run.trunk for run in records.runs if run.width == 32 and run.lr == 6.4e-2}
    reached = 1000 * 512
    runs = tuple(
        replace(with_losses(run, None), tokens=reached)
        if run.trunk in gone and run.kind == "trunk"
        else run
        for run in records.runs
        if run.kind == "trunk" or run.trunk not in gone or run.tokens < reached
    )
    (finding,) = transfers(replace(records, runs=runs))
    lost = [curve.diverged for curve in finding.variants[0].curves]
    assert lost == [(), (), (6.4e-2,), (6.4e-2,)]
    assert known(finding)["diverged runs, 32x3"].value == 2
    assert finding.missing == 0


def test_an_optimum_at_the_edge_is_a_bound_and_says_so(tmp_path):
    def loss(run):
        return curve(run.lr, 8e-3 * 0.25 ** math.log2(run.width / 32))

    (finding,) = transfers(planted_records(tmp_path, WIDTH, loss, head=WIDE))
    assert [curve.bound for curve in finding.variants[0].curves] == [
        None, None, "at most", "at most",
    ]  # fmt: skip
    assert "at least" in finding.lead
    assert "edge-minimum" in [warning.code for warning in finding.warnings]


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_a_flat_valley_is_told_and_its_best_value_lies_inside_its_interval(tmp_path, seed):
    rng = np.random.default_rng(seed)

    def loss(run):
        off = math.log(run.lr / 8e-3)
        if run.axes["recipe.parametrization"] == "standard":
            off = max(abs(off) - 1.4, 0.0)  # the same from 2e-3 to 3.2e-2
        return 2.2 * math.exp(0.06 * off**2) + 0.01 * rng.standard_normal()

    (finding,) = transfers(planted_records(tmp_path, WIDTH, loss, head=WIDE))
    steep, flat = finding.variants
    assert not any(curve.flat for curve in steep.curves)
    assert any(curve.flat for curve in flat.curves)
    for curve in (*steep.curves, *flat.curves):
        assert curve.best is None or curve.best.low <= curve.best.value <= curve.best.high
    for each in finding.quantities:
        assert each.low is None or each.low <= each.value <= each.high, each.name
    (told,) = (each for each in finding.warnings if each.code == "flat-valley")
    assert told.values["variant"] == "standard"
    assert set(told.values["places"]) == {curve.label for curve in flat.curves if curve.flat}


def test_unequal_tokens_are_told(tmp_path):
    tens = grid("width", {"size": "[32x3, 64x3]"}, "[10N]")
    (finding,) = transfers(
        planted_records(tmp_path, tens, lambda run: curve(run.lr, 8e-3), head=WIDE)
    )
    assert "different-lengths" in [warning.code for warning in finding.warnings]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("experiments", [WIDTH, LENGTH])
def test_a_half_done_sweep_says_what_it_can(tmp_path, share, experiments):
    whole = planted_records(tmp_path, experiments, of_any, head=WIDE)
    rng = np.random.default_rng(0)
    some = tuple(run for run in whole.runs if rng.uniform() < share)
    for finding in transfers(replace(whole, runs=some)):
        assert finding.lead
        known(finding)
        assert "missing-runs" in [warning.code for warning in finding.warnings]
        assert transfer_drawings(finding)
    assert bool(transfers(replace(whole, runs=some))) == (share > 0)


def of_any(run):
    return curve(run.lr, 8e-3)


def test_without_seeds_there_is_no_noise_to_compare_with(tmp_path):
    one = grid("width", {"size": "[32x3, 64x3, 128x3]"}, seeds=1)
    (finding,) = transfers(planted_records(tmp_path, one, of_any, head=WIDE))
    found = known(finding)
    assert finding.noise is None
    assert not any("noise" in name for name in found)
    assert found["best loss at width 128"].low is None


def test_figures_are_drawn_and_named_by_the_experiment(tmp_path):
    def loss(run):
        if run.axes["recipe.parametrization"] == "standard" and run.lr > 3e-2:
            return None
        return of_width(run)

    (finding,) = transfers(planted_records(tmp_path, WIDTH, loss, head=WIDE))
    sizes = np.array([curve.params for curve in finding.variants[0].curves])
    paths = [drawing.save(tmp_path, sizes) for drawing in transfer_drawings(finding)]
    assert [path.name for path in paths] == ["width-lr-curves.png", "width-given-up.png"]
