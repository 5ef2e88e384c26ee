"""The coupled law: known answers, its optimum, and what it is at k = 1."""

import csv
from pathlib import Path

import numpy as np
import pytest

from windtunnel.laws import Table
from windtunnel.laws import fit as fit_law
from windtunnel.laws.chinchilla import Chinchilla, Coupled
from windtunnel.laws.forms import STEP

DATA = Path(__file__).parents[3] / "shared" / "data"
POINT_ONLY = {"intervals": "none", "holdout": None}
LAW = Coupled(E=1.7, A=2305.0, B=9957.0, alpha=0.42, beta=0.43, k=0.6)
SIZES, RATIOS = np.geomspace(5e7, 4e9, 6), np.array([5.0, 20.0, 80.0, 320.0])
needs_data = pytest.mark.skipif(not DATA.exists(), reason="shared data is not beside the repo")


def grid(law=LAW, noise=0.0, seed=0):
    params = np.repeat(SIZES, RATIOS.size)
    tokens = params * np.tile(RATIOS, SIZES.size)
    normal = np.random.default_rng(seed).standard_normal(params.size)
    return Table(params=params, tokens=tokens, loss=law(params, tokens) * np.exp(noise * normal))


def rows_of(path, *names):
    with path.open() as lines:
        rows = list(csv.DictReader(lines))
    return [np.array([float(row[name]) for row in rows]) for name in names]


def test_recovers_a_planted_law():
    fit = fit_law(grid(), "coupled", **POINT_ONLY)
    assert fit.form.vector == pytest.approx(LAW.vector, rel=1e-5)


def test_the_interval_of_k_tells_a_coupled_table_from_a_separable_one():
    coupled = fit_law(grid(noise=1e-3), "coupled", holdout=None, bootstrap=200)
    low, high = coupled.intervals["k"]
    assert low < LAW.k < high < 1
    plain = Chinchilla(1.7, 400.0, 1500.0, 0.34, 0.35)
    separable = fit_law(grid(plain, noise=1e-3), "coupled", holdout=None, bootstrap=200)
    low, high = separable.intervals["k"]
    assert low < 1 < high


def test_slopes_are_the_derivatives():
    inputs = np.array([[0.3, 1.0, 4.0], [2.0, 0.5, 1.0]])
    theta = np.array([[1.0, 0.7, 0.4, 0.4, 0.5, 0.6], [0.0, 0.0, 0.9, 0.3, 0.2, 0.3]])
    values, jacobian = Coupled.slopes(theta, inputs)
    assert values == pytest.approx(Coupled.values(theta, inputs))
    for k in range(6):
        stepped = theta.astype(complex)
        stepped[:, k] += 1j * STEP
        assert jacobian[:, k] == pytest.approx(Coupled.values(stepped, inputs).imag / STEP)


def test_the_optimum_is_the_lowest_loss_of_the_budget():
    flops = 1e22
    log_params, log_tokens = Coupled.log_optimum(LAW.vector, flops)
    sizes = np.exp(log_params) * np.geomspace(0.2, 5, 2001)
    losses = LAW(sizes, flops / 6 / sizes)
    assert sizes[np.argmin(losses)] == pytest.approx(float(np.exp(log_params)), rel=2e-3)
    assert 6 * np.exp(log_params + log_tokens) == pytest.approx(flops)


@needs_data
def test_the_chinchilla_points_have_the_published_coupling():
    params, flops, loss = rows_of(
        DATA / "chinchilla_points.csv", "Model Size", "Training FLOP", "loss"
    )
    keep = loss < np.sort(loss)[-5]
    table = Table(params=params[keep], tokens=(flops / 6 / params)[keep], loss=loss[keep])
    fit = fit_law(table, "coupled", delta=1e-3, **POINT_ONLY)
    assert fit.objective_value == pytest.approx(9.54185e-4, rel=1e-5)
    assert fit.form.k == pytest.approx(0.774, abs=1e-3)


@needs_data
@pytest.mark.slow
def test_farseers_far_runs_are_foretold():
    params, tokens, loss = rows_of(DATA / "scalebench" / "farseer_train.csv", "N", "D", "loss")
    fit = fit_law(
        Table(params=params, tokens=tokens, loss=loss), "coupled", delta=1e-3, **POINT_ONLY
    )
    assert fit.objective_value == pytest.approx(5.826e-4, rel=1e-4)
    assert fit.form.k == pytest.approx(0.47, abs=5e-3)
    params, tokens, loss = rows_of(DATA / "scalebench" / "farseer_test.csv", "N", "D", "loss")
    assert np.mean(np.abs(fit.form(params, tokens) / loss - 1)) < 5e-3
