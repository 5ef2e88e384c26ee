import dataclasses
import math

import numpy as np
import pytest
from unrun import planted_records, with_losses

from windtunnel.findings import findings_of
from windtunnel.findings.scaling_law import Laws, data_model_laws
from windtunnel.laws import Chinchilla
from windtunnel.report.figures.frontier import loss_against_compute
from windtunnel.report.figures.registry import finding_drawings

HEAD = """
data: {sources: [builtin:docs, builtin:code]}
model: {sizes: [32x3, 48x3, 64x3, 96x3, 128x3], head_dim: 16, context: 128}
recipe: {lr: 8e-3, base_width: 32, batch_tokens: 512, warmup_steps: 50}
schedule: {shape: linear, decay_fraction: 0.2}
"""
SCALING = """
  - kind: scaling
    name: law
    horizons: [10N, 20N, 40N, 60N]
    extra_horizons: {32x3: [150N, 300N], 48x3: [150N, 300N]}
    seeds: 2
"""
MEAN = Chinchilla(E=0.8, A=65.0, B=90.0, alpha=0.40, beta=0.36)
CODE = Chinchilla(E=0.6, A=65.0, B=90.0, alpha=0.40, beta=0.36)  # the same but for its floor
ALONE = {"": MEAN}
LONG = 2 * 2 * 2
"""Rows of the extra horizons: two sizes, two horizons, two seeds."""


def planted(folder, *, sigma=0.002, laws=None, experiments=SCALING):
    """Losses of the mean and of both sets, each under its own law; noise of trunks is shared."""
    laws = laws or {"": MEAN, "docs": MEAN, "code": CODE}
    rng, trunks = np.random.default_rng(1), {}
    records = planted_records(folder, experiments, lambda run: 1.0, head=HEAD)

    def measured(run):
        noise = trunks.setdefault(run.trunk, sigma * rng.standard_normal())
        noise += 0.3 * sigma * rng.standard_normal()
        nats = {k: float(law(run.params, run.tokens)) * math.exp(noise)
                for k, law in laws.items()}  # fmt: skip
        bits = {name: value / math.log(2) for name, value in nats.items()}
        return dataclasses.replace(
            run,
            loss=nats.pop(""),
            bits_per_byte=bits.pop(""),
            losses=nats,
            bits_per_byte_by_set=bits,
        )

    return dataclasses.replace(records, runs=tuple(map(measured, records.runs)))


def by_name(finding):
    found = {each.name: each for each in finding.quantities}
    assert len(found) == len(finding.quantities)
    return found


@pytest.mark.medium
def test_planted_exponents_and_ratios_are_recovered_without_noise(tmp_path):
    (finding,) = data_model_laws(planted(tmp_path, sigma=1e-6))
    of = by_name(finding)
    assert of["alpha, mean of both sets"].value == pytest.approx(0.40, rel=1e-3)
    assert of["beta, mean of both sets"].value == pytest.approx(0.36, rel=1e-3)
    assert of["eta, mean of both sets"].value == pytest.approx(-0.04 / 0.76, rel=1e-2)
    largest = of["largest fitted budget"].value
    for times in ("", "10 times ", "100 times "):
        want = MEAN.ratio(largest * float(times.split()[0] if times else 1))
        name = f"D/N at {times}the largest fitted budget, mean of both sets"
        assert of[name].value == pytest.approx(want, rel=1e-2)
    # A floor moves no optimum.
    assert of["D/N of code over D/N of docs"].value == pytest.approx(1, rel=1e-2)
    # Small models cost more than 6N a token, so that money goes further in a larger one.
    assert 0.5 < of["D/N under exact FLOPs over D/N under 6ND"].value < 1


def test_intervals_cover_the_truth_and_long_horizons_narrow_them(tmp_path):
    (finding,) = data_model_laws(planted(tmp_path))
    of = by_name(finding)
    for name, truth in (("alpha", 0.40), ("beta", 0.36)):
        found = of[f"{name}, mean of both sets"]
        assert found.low < truth < found.high
    ratio = of["D/N at the largest fitted budget, mean of both sets"]
    assert ratio.low < MEAN.ratio(finding.largest_budget) < ratio.high
    assert finding.short.auto.rows == finding.fit.rows - LONG
    short = of["D/N at the largest fitted budget, without long horizons"]
    widths = [math.log(each.high / each.low) for each in (short, ratio)]
    over = of["width of the interval of D/N without long horizons over with"]
    assert over.value == pytest.approx(widths[0] / widths[1])
    assert "MiniCPM's 0.29 and 0.23 lie outside both intervals" in finding.lead
    codes = [warning.code for warning in finding.warnings]
    assert "extrapolates" in codes
    assert "ratio-without-compute" in codes


def test_figures_and_words_with_and_without_an_optimum(tmp_path):
    records = planted(tmp_path, laws=ALONE)
    (finding,) = data_model_laws(records)
    law = finding.mean.chinchilla
    sizeless = dataclasses.replace(law, form=dataclasses.replace(law.form, A=0.0))
    both = Laws(auto=sizeless, chinchilla=sizeless)
    blind = dataclasses.replace(finding, mean=both, short=None)
    for each, names in (
        (finding, ["ratio-by-compute", "exponents-by-fit"]),
        (blind, ["exponents-by-fit"]),
    ):
        drawn = [
            *finding_drawings(each),
            loss_against_compute(records.curves, records.of("law"), each.fit),
        ]
        files = [drawing.save(tmp_path, records.table("law").params) for drawing in drawn]
        assert [path.stem for path in files] == [*names, "loss-against-compute"]
        assert min(path.stat().st_size for path in files) > 10_000
    assert "No best ratio exists yet" in blind.lead
    assert not any("D/N" in name for name in by_name(blind))


def test_the_forecast_is_scored_by_the_newest_written_before_its_runs(tmp_path):
    records = planted(tmp_path, laws=ALONE)
    held = [run for run in records.runs if run.held_out and run.decayed]

    def forecast(factor, *, blind):
        points = [
            {"segment": run.segment, "loss": run.loss * factor, "low": run.loss * low,
             "high": run.loss * 1.02, "naive": {"nearest size": run.loss * 1.1}}
            for run, low in zip(held, [1.01] + [0.98] * (len(held) - 1), strict=True)
        ]  # fmt: skip
        return {"held_out_trained_before": not blind, "sigma": 0.002, "points": points}

    told = (forecast(1.3, blind=True), forecast(1.01, blind=True), forecast(1.0, blind=False))
    (finding,) = data_model_laws(dataclasses.replace(records, forecasts=told))
    of = by_name(finding)
    assert finding.forecast.blind
    off = of["rms error of the forecast of the largest size"].value
    assert off == pytest.approx(math.log(1.01), rel=1e-6)
    assert of["rms error of nearest size"].value == pytest.approx(math.log(1.1), rel=1e-6)
    share = of["share of the largest size's points inside the forecast's interval"].value
    assert share == pytest.approx(1 - 1 / len(held))
    assert f"{len(held) - 1} of {len(held)} runs" in finding.lead


def test_half_done_sweeps_have_no_finding_or_a_smaller_one(tmp_path):
    records = planted(tmp_path, laws=ALONE)
    trunks = [run for run in records.runs if run.kind == "trunk"]
    for runs in ((), trunks, records.runs[:4]):
        assert data_model_laws(dataclasses.replace(records, runs=tuple(runs))) == ()
    # Only the usual horizons so far: nothing was left out, so there is no second fit.
    longest = 60 * 1.01
    short = [run for run in records.runs if run.tokens <= longest * run.params]
    (finding,) = data_model_laws(dataclasses.replace(records, runs=tuple(short)))
    assert finding.short is None


def test_a_diverged_run_is_left_out_and_a_set_without_a_loss_has_no_fit(tmp_path):
    records = planted(tmp_path)
    lost = next(run.segment for run in records.runs if run.decayed)
    runs = [
        with_losses(
            dataclasses.replace(run, losses={"docs": run.losses["docs"]}),
            None if run.segment == lost else run.loss,
        )
        for run in records.runs
    ]
    (finding,) = data_model_laws(dataclasses.replace(records, runs=tuple(runs)))
    assert finding.fit.rows == sum(run.decayed for run in runs) - 1
    assert finding.by_set == {}
    assert "alpha" in by_name(finding)


def test_loss_per_byte_where_bytes_are_known_else_per_token(tmp_path):
    records = planted(tmp_path, laws=ALONE)
    (finding,) = data_model_laws(records)
    assert finding.fit.loss_unit == "nats per byte"
    unknown = tuple(dataclasses.replace(run, bits_per_byte=None) for run in records.runs)
    (finding,) = data_model_laws(dataclasses.replace(records, runs=unknown))
    assert finding.fit.loss_unit == "nats per token"


def test_a_grid_is_no_data_model_law(tmp_path):
    grid = """
  - kind: grid
    name: rates
    axes: {size: [32x3], recipe.lr: [4e-3, 8e-3]}
    horizons: [10N]
"""
    records = planted_records(tmp_path, grid, lambda run: 3.0, head=HEAD)
    assert not any(type(each).__name__ == "DataModelLaw" for each in findings_of(records))
