from dataclasses import replace

import numpy as np
import pytest
from unrun import planted_records

from windtunnel.findings.schedules import above_best, paired, schedules
from windtunnel.report.figures.schedules import schedule_drawings

HEAD = """
data: {sources: [builtin:docs]}
model: {sizes: [48x3], head_dim: 16, context: 128}
recipe: {lr: 8e-3, base_width: 32, batch_tokens: 512, warmup_steps: 50}
schedule: {shape: linear, decay_fraction: 0.1}
"""
COMMON = "    horizons: [20N, 40N, 60N, 80N]\n    seeds: 3\n"
COSINE = f"""
  - kind: grid
    name: cosine
    axes: {{schedule.shape: [cosine], schedule.decay_fraction: [1]}}
{COMMON}"""
FRACTION = f"""
  - kind: grid
    name: fraction
    axes: {{schedule.decay_fraction: [0.025, 0.05, 0.1, 0.2]}}
{COMMON}"""
SHAPE = f"""
  - kind: grid
    name: shape
    axes:
      schedule.shape: [exponential, linear, one_minus_sqrt, cosine]
      schedule.decay_fraction: [0.1]
{COMMON}"""
ALL = COSINE + FRACTION + SHAPE
SHARES = {0.025: 0.02, 0.05: 0.008, 0.1: 0.001, 0.2: 0.0, 1.0: 0.004}
SHAPES = {"linear": 0.0, "exponential": 0.003, "one_minus_sqrt": -0.002, "cosine": 0.001}


def planted(sigma=0.02, branch=0.0):
    """Losses with SHARES and SHAPES; seeds differ by sigma, which is shared by all schedules."""
    rng, seeds = np.random.default_rng(0), {}

    def loss(run):
        share = min(SHARES, key=lambda s: abs(np.log(s / run.axes["schedule.decay_fraction"])))
        own = seeds.setdefault(run.init_seed, sigma * rng.standard_normal())
        shape = 0.0 if share == 1 else SHAPES[run.axes.get("schedule.shape") or "linear"]
        noise = branch * rng.standard_normal()
        return float(1.5 + 8 * run.tokens**-0.2 + SHARES[share] + shape + own + noise)

    return loss


def quantities(finding):
    return {each.name: each for each in finding.quantities}


def test_planted_differences_come_back_whatever_the_seeds_are(tmp_path):
    (found,) = schedules(planted_records(tmp_path, ALL, planted(), head=HEAD))
    known = quantities(found)
    assert len(known) == len(found.quantities)
    for share, name in ((0.025, "2.5%"), (0.05, "5%"), (0.1, "10%"), (0.2, "20%")):
        cosine = known[f"cosine minus WSD, decay {name}"]
        assert cosine.value == pytest.approx(SHARES[1.0] - SHARES[share], abs=1e-9)
        above = known[f"loss above the best decay, decay {name}"]
        assert above.value == pytest.approx(SHARES[share], abs=1e-9)
    mean = known["cosine minus WSD, mean over the decays"].value
    assert mean == pytest.approx(0.004 - 0.029 / 4, abs=1e-9)
    for horizon in ("20N", "40N", "60N", "80N"):
        at = known[f"cosine minus WSD, decay 10%, at {horizon}"]
        assert at.value == pytest.approx(0.003, abs=1e-9)
    for shape, name in (("exponential", "exponential"), ("one_minus_sqrt", "1 - sqrt")):
        gap = known[f"shape {name} minus linear, decay 10%"].value
        assert gap == pytest.approx(SHAPES[shape], abs=1e-9)
    assert known["shape cosine minus linear, decay 10%"].value == pytest.approx(0.001, abs=1e-9)
    assert found.experiment == "cosine+fraction+shape"
    assert found.warnings == ()


def test_compute_of_the_same_lengths(tmp_path):
    (found,) = schedules(planted_records(tmp_path, ALL, planted(), head=HEAD))
    # 200N in four runs; a trunk of 72N and decays of 20N.
    times = quantities(found)["compute of cosine runs over that of WSD, same lengths"]
    assert times.value == pytest.approx(200 / 92, rel=2e-3)
    assert "take 2.17 times as much compute" in found.lead


def test_a_seed_counts_once_however_many_lengths_it_has():
    gaps = {0: 0.001, 1: 0.002, 2: 0.006}
    lengths = (10, 20, 30, 40)
    base = {(seed, tokens): 2.0 + tokens for seed in gaps for tokens in lengths}
    other = {key: loss + gaps[key[0]] for key, loss in base.items()}
    found = paired(other, base)
    half = 2.919986 * np.std([0.001, 0.002, 0.006], ddof=1) / np.sqrt(3)  # Student's t, 2 dof
    assert (found.value, found.low) == pytest.approx((0.003, 0.003 - half), abs=1e-7)
    assert paired(other, {}) is None
    alone = paired({(0, 10): 2.1}, {(0, 10): 2.0, (1, 10): 2.0})
    assert (alone.value, alone.low) == (pytest.approx(0.1), None)


def test_the_best_is_judged_over_what_all_have():
    ways = {0.1: {(0, 10): 2.0, (1, 10): 2.2}, 0.2: {(0, 10): 2.1, (1, 10): 2.25, (1, 20): 1.0}}
    found = above_best(ways)
    assert (found[0.1].value, found[0.2].value) == pytest.approx((0.0, 0.075))
    assert found[0.2].low < 0.075 < found[0.2].high
    assert above_best({}) == {} == above_best({0.1: {(0, 1): 2.0}, 0.2: {(1, 1): 2.0}})


def test_noise_of_branches_gives_intervals_that_hold_the_truth(tmp_path):
    (found,) = schedules(planted_records(tmp_path, ALL, planted(branch=5e-4), head=HEAD))
    known = quantities(found)
    assert known["cosine minus WSD, decay 2.5%"].high < 0 < known["cosine minus WSD, decay 20%"].low
    gap = known["cosine minus WSD, decay 10%"]
    assert gap.low < 0.003 < gap.high
    assert 1e-4 < gap.high - gap.low < 3e-3
    assert "Of the decays 20% is best; 2.5% ends 0.0" in found.lead


def test_diverged_and_missing_runs_are_told(tmp_path):
    def loss(run):
        full = run.axes["schedule.decay_fraction"] > 0.9
        return None if full and run.init_seed == 2 else planted()(run)

    (found,) = schedules(planted_records(tmp_path, ALL, loss, head=HEAD))
    assert [(warning.code, warning.values) for warning in found.warnings] == [
        ("unpaired-runs", {"runs": 4}),
        ("diverged-runs", {"runs": 4}),
    ]


@pytest.mark.parametrize("grids", [ALL, FRACTION, SHAPE, COSINE + SHAPE, COSINE])
def test_every_half_done_sweep_is_read_without_a_traceback(tmp_path, grids):
    records = planted_records(tmp_path, grids, planted(branch=1e-3), head=HEAD)
    for done in range(0, len(records.runs) + 1, 5):
        for found in schedules(replace(records, runs=records.runs[:done])):
            assert found.lead
            assert all(np.isfinite(each.value) for each in found.quantities)
    assert len(schedules(records)) == (grids != COSINE)


def test_one_seed_has_no_interval(tmp_path):
    one = ALL.replace("seeds: 3", "seeds: 1")
    (found,) = schedules(planted_records(tmp_path, one, planted(), head=HEAD))
    assert all(each.low is None for each in found.quantities)
    assert found.warnings[0].code == "one-seed"


def test_a_grid_that_varies_more_is_another_question(tmp_path):
    axes = "{schedule.decay_fraction: [0.1, 0.2], recipe.lr: [4e-3, 8e-3]}"
    grid = f"  - {{kind: grid, axes: {axes}, horizons: [20N]}}"
    assert schedules(planted_records(tmp_path, grid, planted(), head=HEAD)) == ()


def test_figures(tmp_path):
    (found,) = schedules(planted_records(tmp_path, ALL, planted(branch=5e-4), head=HEAD))
    made = [drawing.save(tmp_path, np.array([])).stem for drawing in schedule_drawings(found)]
    assert made == ["decay-share", "cosine-against-wsd", "decay-shape"]
    (only,) = schedules(planted_records(tmp_path, SHAPE, planted(), head=HEAD))
    assert [
        drawing.save(tmp_path, np.array([])).stem for drawing in schedule_drawings(only)
    ] == made[2:]
