from dataclasses import replace

import numpy as np
import pytest
from unrun import planted_records

from windtunnel.findings.overtraining import Ends, noise_of, overtraining_pairs, tokens_to_match
from windtunnel.laws import Table
from windtunnel.report.figures.schedules import overtraining_drawings

HEAD = """
data: {sources: [builtin:docs]}
model: {sizes: [32x3, 64x3, 96x3], head_dim: 16, context: 128}
recipe: {lr: 8e-3, base_width: 32, batch_tokens: 512, warmup_steps: 50}
schedule: {shape: linear, decay_fraction: 0.1}
"""
LONG = """
  - kind: scaling
    name: long
    sizes: [32x3, 64x3, 96x3]
    horizons: [10N, 20N, 40N, 60N]
    extra_horizons: {32x3: [100N, 150N, 240N, 380N, 600N]}
    seeds: 3
    hold_out: none
"""
E, B, BETA = 0.9, 60.0, 0.33
SMALL, LARGE = 35552, 141760


def planted(*, a=16.0, sigma=0.0, branch=0.0, seed=0):
    """Losses E + a N^-0.34 + B D^-BETA, with noise of trunks and branches."""
    rng, trunks = np.random.default_rng(seed), {}

    def loss(run):
        shared = trunks.setdefault(run.trunk, sigma * rng.standard_normal())
        law = E + a * run.params**-0.34 + B * run.tokens**-BETA
        return float(law * np.exp(shared + branch * rng.standard_normal()))

    return loss


def needed(large_tokens, a=16.0):
    """Tokens of the small size for the loss of the large one: the planted law solved."""
    gap = a * (SMALL**-0.34 - LARGE**-0.34)
    return ((large_tokens**-BETA) - gap / B) ** (-1 / BETA)


def quantities(finding):
    return {each.name: each for each in finding.quantities}


@pytest.mark.medium
def test_planted_crossing_compute_and_break_even(tmp_path):
    (found,) = overtraining_pairs(planted_records(tmp_path, LONG, planted(), head=HEAD))
    known = quantities(found)
    assert len(known) == len(found.quantities)
    assert (found.pair.small.params, found.pair.large.params) == (
        SMALL,
        LARGE,
    )  # 4.0 times, not 9.0
    assert found.best.horizon == "20N"
    tokens = needed(20 * LARGE)
    at = "32x3 to match 64x3 at 20N"
    assert known[f"tokens of {at}"].value == pytest.approx(tokens, rel=0.02)
    assert known[f"tokens per parameter of {at}"].value == pytest.approx(tokens / SMALL, rel=0.02)
    ratio = SMALL * tokens / (LARGE * 20 * LARGE)
    assert known[f"training compute of {at}, 6ND"].value == pytest.approx(ratio, rel=0.02)
    saved = known["inference compute of 64x3 over 32x3, 6ND"].value
    assert saved == pytest.approx(LARGE / SMALL)
    exact = known["inference compute of 64x3 over 32x3, exact"].value
    assert known[f"training compute of {at}, exact"].value == pytest.approx(
        ratio * saved / exact, rel=0.02
    )
    # 6 N D more in training, 2 (N - n) less for each token of inference.
    paid = known[f"inference that pays for {at}, 6ND"].value
    mine = known[f"tokens of {at}"].value
    assert paid == pytest.approx(3 * (SMALL * mine - 20 * LARGE**2) / (LARGE - SMALL), rel=3e-3)
    assert known["inference that pays for 32x3 to match 64x3 at 10N, 6ND"].value == 0.0


@pytest.mark.medium
def test_the_power_law_wins_where_it_was_planted(tmp_path):
    (found,) = overtraining_pairs(planted_records(tmp_path, LONG, planted(sigma=1e-3), head=HEAD))
    known = quantities(found)
    floor = known["loss of 32x3 at endless compute, power law"]
    assert floor.low < E + 16 * SMALL**-0.34 < floor.high
    assert known["power of compute in the loss of 32x3"].value == pytest.approx(-BETA, rel=0.05)
    assert known["AIC of the exponential minus the power law"].value > 10
    errors = [known[f"error on the last third of compute, {w}"].value
              for w in ("power law", "exponential")]  # fmt: skip
    assert errors[0] < 1 < errors[1]
    assert "a power law is the better form:" in found.lead


@pytest.mark.medium
def test_intervals_hold_the_truth_in_nine_of_ten():
    hits = sum(covered(seed) for seed in range(60))
    assert 48 <= hits <= 60


def covered(seed):
    """Whether the interval of one noisy table, three seeds of each size, holds the crossing."""
    rng = np.random.default_rng(seed)
    ratios = {SMALL: [10, 20, 40, 60, 100, 150, 240, 380, 600], LARGE: [10, 20, 40, 60]}
    rows = [
        (size, size * ratio, f"{size}-{trunk}")
        for size, lengths in ratios.items()
        for trunk in range(3)
        for ratio in lengths
    ]
    params, tokens, trunk = (np.array(column) for column in zip(*rows, strict=True))
    shared = {each: 2e-3 * rng.standard_normal() for each in np.unique(trunk)}
    noise = np.array([shared[each] for each in trunk]) + 1e-3 * rng.standard_normal(len(rows))
    loss = (E + 16.0 * params**-0.34 + B * tokens**-BETA) * np.exp(noise)
    table = Table(params=params, tokens=tokens, loss=loss, trunk=trunk)
    small, large = Ends.of(table, SMALL), Ends.of(table, LARGE)
    exact = np.log(E + 16.0 * SMALL**-0.34 + B * small.tokens**-BETA)
    level = np.log(E + 16.0 * LARGE**-0.34 + B * (20.0 * LARGE) ** -BETA)
    truth = np.exp(np.interp(-level, -exact, np.log(small.tokens)))
    return truth in tokens_to_match(small, large, noise_of(table))[1]


@pytest.mark.medium
def test_what_is_never_reached_is_compared_with_the_floor(tmp_path):
    (found,) = overtraining_pairs(planted_records(tmp_path, LONG, planted(a=60.0), head=HEAD))
    assert found.best is None
    assert "32x3 does not reach the loss of 64x3 at 10N within 600 tokens" in found.lead
    assert "above the" in found.lead
    assert found.warnings[0].code == "loss-not-reached"
    assert found.warnings[0].values["horizons"] == ["10N", "20N", "40N", "60N"]


@pytest.mark.medium
def test_a_small_model_that_is_better_from_the_start_is_said_to_be(tmp_path):
    law = planted(a=-60.0)
    records = planted_records(tmp_path, LONG, lambda run: 3.0 + law(run), head=HEAD)
    (found,) = overtraining_pairs(records)
    assert found.best is None
    assert found.lead.startswith("The shortest run of 32x3 is below all of 64x3.")


@pytest.mark.medium
def test_one_seed_has_no_interval_and_says_so(tmp_path):
    one = LONG.replace("seeds: 3", "seeds: 1")
    (found,) = overtraining_pairs(planted_records(tmp_path, one, planted(), head=HEAD))
    assert quantities(found)["tokens of 32x3 to match 64x3 at 20N"].low is None
    assert "crossing-unsure" in [warning.code for warning in found.warnings]
    assert [
        drawing.save(tmp_path, np.array([SMALL, LARGE])).stem
        for drawing in overtraining_drawings(found)
    ]


def test_a_crossing_before_the_shortest_and_beyond_the_longest():
    small = Ends(np.array([1e6, 4e6]), np.log([2.0, 1.5]), np.ones(2))
    large = Ends(np.array([1e5, 1e6, 1e7]), np.log([2.5, np.sqrt(3.0), 1.2]), np.ones(3))
    found = [interval.value for interval in tokens_to_match(small, large, None)]
    assert found == [0.0, pytest.approx(2e6), np.inf]


@pytest.mark.medium
def test_every_half_done_sweep_is_read_without_a_traceback(tmp_path):
    def loss(run):
        gone = run.width == 64 and run.init_seed == 1
        return None if gone else planted(sigma=1e-3)(run)

    records = planted_records(tmp_path, LONG, loss, head=HEAD)
    for done in range(0, len(records.runs) + 1, 16):
        for found in overtraining_pairs(replace(records, runs=records.runs[:done])):
            assert found.lead
    (found,) = overtraining_pairs(records)
    assert {warning.code: warning.values for warning in found.warnings}["diverged-runs"] == {
        "runs": 4
    }
    assert overtraining_pairs(replace(records, runs=())) == ()


def test_no_pair_where_nothing_trains_for_long(tmp_path):
    short = LONG.replace("240N, 380N, 600N", "180N")
    assert overtraining_pairs(planted_records(tmp_path, short, planted(), head=HEAD)) == ()


@pytest.mark.medium
def test_figures(tmp_path):
    (found,) = overtraining_pairs(planted_records(tmp_path, LONG, planted(sigma=1e-3), head=HEAD))
    made = [
        drawing.save(tmp_path, np.array([SMALL, LARGE])).stem
        for drawing in overtraining_drawings(found)
    ]
    assert made == ["overtraining-32x3", "approach-32x3"]
