from dataclasses import replace

import numpy as np
import pytest
from unrun import planted_records

from windtunnel.findings.batch import batches
from windtunnel.report.figures.scaling import batch_drawings

K, P, BEND = 50e3, 6.0, 0.05
HEAD = """
data: {sources: [builtin:docs]}
model: {sizes: [32x3, 64x3, 96x3], head_dim: 16, context: 128}
recipe: {lr: 8e-3, base_width: 32, batch_tokens: 512, warmup_steps: 50}
schedule: {shape: linear, decay_fraction: 0.2}
"""
GRID = """
  - kind: grid
    name: batch
    axes: {size: [32x3, 64x3, 96x3], recipe.batch_tokens: [128, 256, 512, 1024, 2048, 4096]}
    horizons: [5e5 tokens, 8e5 tokens, 1.25e6 tokens, 2e6 tokens, 3.2e6 tokens, 5e6 tokens]
    seeds: 2
"""


def planted(sigma=0.0, k=K, seed=0):
    """Losses whose tokens are fewest at batch k / L^P: BEND ln(batch / best)^2 more elsewhere."""
    rng, trunks = np.random.default_rng(seed), {}

    def loss(run):
        floor = 1.0 + 12 * run.params**-0.28
        losses = floor + np.geomspace(1e-3, 4, 4000)
        off = np.log(run.batch_tokens * losses**P / k)
        log_tokens = np.log(3.5e5) - 3.2 * np.log(losses - floor) + BEND * off**2
        found = np.interp(-np.log(run.tokens), -log_tokens, losses)
        noise = trunks.setdefault(run.trunk, sigma * rng.standard_normal())
        return float(found * np.exp(noise + 0.3 * sigma * rng.standard_normal()))

    return loss


def quantities(finding):
    return {each.name: each for each in finding.quantities}


def test_a_planted_law_its_best_batches_and_its_regret(tmp_path):
    (found,) = batches(planted_records(tmp_path, GRID, planted(), head=HEAD))
    known = quantities(found)
    assert known["exponent of the batch law"].value == pytest.approx(P, rel=0.03)
    assert known["growth of the best batch as loss falls by 10%"].value == pytest.approx(
        0.9**-P, rel=0.02
    )
    extra = 100 * np.expm1(BEND * np.log([2, 4]) ** 2)
    for off, want in zip(("2x", "4x"), extra, strict=True):
        name = f"extra tokens for a batch {off} off"
        assert known[name].value == pytest.approx(want, rel=0.1)
    for size in ("32x3", "64x3", "96x3"):
        loss = next(loss for name, loss, _ in found._bests() if name == size)
        best = known[f"best batch of {size} at its lowest loss"]
        assert best.value == pytest.approx(K / loss**P, rel=0.05)
    assert len(known) == len(found.quantities)
    assert "only the exponents" in found.lead


def test_noise_widens_the_interval_and_it_holds_the_truth(tmp_path):
    (found,) = batches(planted_records(tmp_path, GRID, planted(sigma=0.002), head=HEAD))
    exponent = quantities(found)["exponent of the batch law"]
    assert exponent.low < P < exponent.high
    assert exponent.high - exponent.low > 0.5
    assert f"{exponent.low:.2f} to {exponent.high:.2f}" in found.lead
    assert "lies inside" in found.lead  # of MiniCPM's 6.24


def test_diverged_cells_are_counted_and_minima_at_an_edge_told(tmp_path):
    def loss(run):
        gone = run.batch_tokens == 128 and run.width == 96
        return None if gone else planted(sigma=0.002)(run)

    (found,) = batches(planted_records(tmp_path, GRID, loss, head=HEAD))
    told = {warning.code: warning.values for warning in found.warnings}
    assert told["diverged-runs"] == {"runs": 12, "cells": ["96x3 at 128"]}
    assert "edge-minimum" in told


def test_a_best_batch_beyond_all_those_tried_is_said_not_extrapolated(tmp_path):
    records = planted_records(tmp_path, GRID, planted(k=1e4 * K), head=HEAD)
    (found,) = batches(records)
    assert found.quantities == ()
    assert batch_drawings(found) == []
    assert "Add smaller and larger batches" in found.lead


@pytest.mark.medium
def test_every_half_done_sweep_is_read_without_a_traceback(tmp_path):
    records = planted_records(tmp_path, GRID, planted(), head=HEAD)
    numbers = []
    for done in range(0, len(records.runs) + 1, 24):
        for found in batches(replace(records, runs=records.runs[:done])):
            assert found.lead
            numbers.append(len(found.quantities))
    assert batches(replace(records, runs=())) == ()
    assert numbers[-1] == 7


def test_two_batches_alone_say_what_is_missing(tmp_path):
    few = GRID.replace("[128, 256, 512, 1024, 2048, 4096]", "[256, 512]")
    (found,) = batches(planted_records(tmp_path, few, planted(), head=HEAD))
    assert found.quantities == ()
    assert "batch sizes per size of model: 2, 2, 2" in found.lead


@pytest.mark.parametrize(
    "axes",
    [
        "{recipe.batch_tokens: [256, 512], recipe.lr: [4e-3, 8e-3]}",
        "{size: [32x3, 64x3]}",
    ],
)
def test_other_grids_are_not_this_question(tmp_path, axes):
    grid = f"  - {{kind: grid, axes: {axes}, horizons: [5e5 tokens, 1e6 tokens]}}"
    assert batches(planted_records(tmp_path, grid, planted(), head=HEAD)) == ()


@pytest.mark.medium
def test_figures_of_the_law_and_of_every_size(tmp_path):
    (found,) = batches(planted_records(tmp_path, GRID, planted(), head=HEAD))
    made = [
        drawing.save(tmp_path, np.array(sorted(found.sizes))) for drawing in batch_drawings(found)
    ]
    assert [path.stem for path in made] == [
        "batch-law",
        "batch-levels-32x3",
        "batch-levels-64x3",
        "batch-levels-96x3",
    ]
