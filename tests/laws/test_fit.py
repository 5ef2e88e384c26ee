import csv
import json
from pathlib import Path

import numpy as np
import pytest
from law_errors import refuses
from scipy.optimize import least_squares

from windtunnel.errors import ConfigError
from windtunnel.laws import Chinchilla, Fit, Power, Table
from windtunnel.laws import fit as fit_law
from windtunnel.laws.interval import beyond_bounds
from windtunnel.laws.problem import Problem
from windtunnel.laws.solver import Solution
from windtunnel.laws.validation import score_holdout

POINT_ONLY = {"intervals": "none", "holdout": None}
MINICPM_AVERAGE = Chinchilla.from_units(
    E=0.31, A=7.15e-2, B=0.3, alpha=0.29, beta=0.23, params_unit=1e9, tokens_unit=1e9
)
CHINCHILLA_POINTS = Path(__file__).parents[3] / "shared" / "data" / "chinchilla_points.csv"


@pytest.mark.parametrize("objective", ["huber-log", "mse-log", "mse", "huber"])
def test_recovers_a_planted_law_without_noise(table, planted, objective):
    runs = table(sigma_trunk=0, sigma_branch=0)
    fit = fit_law(runs, objective=objective, **POINT_ONLY)
    assert fit.form.vector == pytest.approx(planted.vector, rel=1e-6)
    assert fit.converged
    assert fit.starts_agreeing == fit.starts == 64


def test_recovers_the_minicpm_grid_and_its_ratio(table):
    # Methodology 3.4: 36 noiseless cells, D/N = 11 .. 66 at six sizes, N in raw parameters.
    sizes = np.array([0.031, 0.11, 0.25, 0.49, 0.85, 2.0]) * 1e9
    runs = table(
        law=MINICPM_AVERAGE,
        sizes=sizes,
        horizons=(11, 16.5, 22, 33, 44, 66),
        seeds=1,
        sigma_trunk=0,
        sigma_branch=0,
    )
    fit = fit_law(runs, **POINT_ONLY)
    assert fit.form.vector == pytest.approx(MINICPM_AVERAGE.vector, rel=1e-5)
    assert fit.form.ratio(1e21) == pytest.approx(183.9, abs=0.05)


def test_refit_of_minicpm_figure_9_code():
    # Methodology 3.7: 12 end points, plain squared error on the loss; printed D/N is 195.
    params = np.tile([0.031e9, 0.11e9, 0.25e9, 0.49e9, 0.85e9, 2.0e9], 2)
    flops = 1e18 * np.array([0.067, 0.75, 4.4, 16, 53, 280, 0.42, 4.7, 27, 100, 340, 1700])
    loss = [0.602, 0.451, 0.372, 0.337, 0.307, 0.277, 0.456, 0.362, 0.311, 0.284, 0.257, 0.231]
    trunk = np.tile(np.arange(6), 2)
    runs = Table(params=params, tokens=flops / 6 / params, loss=loss, trunk=trunk)
    fit = fit_law(runs, objective="mse", **POINT_ONLY)
    assert fit.form.ratio(1e21) == pytest.approx(197, abs=0.5)
    rmse = np.sqrt(2 * fit.objective_value / 12)
    assert rmse == pytest.approx(0.004, abs=0.0005)


@pytest.mark.parametrize("delta", [1e-3, 4e-3, 0.1])
def test_reaches_the_optimum_that_scipy_reaches_from_the_truth(table, planted, delta):
    runs = table(seed=3)

    def residual(theta):
        law = theta[0] + np.exp(theta[1]) * runs.params ** -theta[3]
        return np.log(law + np.exp(theta[2]) * runs.tokens ** -theta[4]) - np.log(runs.loss)

    e, a, b, alpha, beta = planted.vector
    start = [e, np.log(a), np.log(b), alpha, beta]
    # scipy's Huber is delta^2/2 sum rho((r/delta)^2), the same function as ours.
    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "max_nfev": 10_000}
    reference = least_squares(residual, start, loss="huber", f_scale=delta, x_scale="jac", **tight)
    fit = fit_law(runs, delta=delta, **POINT_ONLY)
    assert fit.objective_value <= reference.cost * (1 + 1e-9)
    assert fit.objective_value == pytest.approx(reference.cost, rel=1e-3)


@pytest.mark.skipif(not CHINCHILLA_POINTS.exists(), reason="shared data is not beside the repo")
def test_beats_the_published_refit_of_the_chinchilla_points():
    # Besiroglu et al. 2024 (arXiv 2404.10102): 240 of 245 points, Huber delta 1e-3 of ln loss.
    with CHINCHILLA_POINTS.open() as lines:
        rows = list(csv.DictReader(lines))
    params, flops, loss = (
        np.array([float(row[name]) for row in rows])
        for name in ("Model Size", "Training FLOP", "loss")
    )
    every = Table(params=params, tokens=flops / 6 / params, loss=loss, trunk=np.arange(245))
    runs = every.subset(loss < np.sort(loss)[-5], why="the five highest losses")
    assert runs.rows == 240
    fit = fit_law(runs, delta=1e-3, **POINT_ONLY)

    published = Chinchilla(1.8172, 482.01, 2085.43, 0.3478, 0.3658)
    size = np.abs(np.log(published(runs.params, runs.tokens)) - np.log(runs.loss))
    theirs = np.sum(np.where(size < 1e-3, size**2 / 2, 1e-3 * (size - 5e-4)))
    assert fit.objective_value < theirs
    assert fit.objective_value == pytest.approx(1.01827e-3, rel=1e-5)
    # Within a tenth of the published standard errors .0316, 125, 1293, .0150 and .0200.
    errors = np.abs(fit.form.vector - published.vector)
    assert np.all(errors < 0.1 * np.array([0.0316, 124.58, 1293.23, 0.0150, 0.0200]))
    assert fit.starts_agreeing == 64
    assert fit.filters == ("the five highest losses",)


def test_objective_is_a_sum_so_doubling_the_rows_doubles_it(table):
    runs = table()
    twice = {c: np.tile(getattr(runs, c), 2) for c in ("params", "tokens", "loss", "trunk")}
    once = fit_law(runs, delta=0.003, **POINT_ONLY)
    both = fit_law(Table(**twice), delta=0.003, **POINT_ONLY)
    assert both.objective_value == pytest.approx(2 * once.objective_value, rel=1e-9)


def test_one_wild_row_moves_huber_less_than_least_squares(table):
    runs = table(sigma_trunk=0.0005, sigma_branch=0.0005)
    loss = runs.loss.copy()
    loss[-1] *= 1.1
    wild = Table(params=runs.params, tokens=runs.tokens, loss=loss, trunk=runs.trunk)

    def shift(**objective):
        clean = fit_law(runs, **objective, **POINT_ONLY)
        return abs(fit_law(wild, **objective, **POINT_ONLY).form.E - clean.form.E)

    assert shift(delta=1e-3) < 0.2 * shift(objective="mse-log")


@pytest.mark.medium
def test_delta_is_measured_from_seeds_and_else_from_residuals(table):
    noise = {"sigma_trunk": 0.004, "sigma_branch": 0.001, "sizes": np.geomspace(1e5, 1e7, 20)}
    with_seeds = fit_law(table(**noise), **POINT_ONLY)
    assert with_seeds.delta == pytest.approx(1.345 * with_seeds.sigma_seed)
    alone = fit_law(table(seeds=1, **noise), delta="auto", **POINT_ONLY)
    assert alone.sigma_seed is None
    assert fit_law(table(seeds=1, **noise), **POINT_ONLY).delta == 1e-3
    assert alone.delta == pytest.approx(1.345 * 0.0041, rel=0.4)
    in_nats = fit_law(table(**noise), objective="huber", **POINT_ONLY)
    assert in_nats.delta == pytest.approx(with_seeds.delta * np.median(table(**noise).loss))
    assert fit_law(table(), objective="mse", **POINT_ONLY).delta is None


def test_delta_has_a_floor_on_a_noiseless_table(table):
    fit = fit_law(table(sigma_trunk=0, sigma_branch=0), **POINT_ONLY)
    assert fit.delta == 1e-4


def test_a_law_without_irreducible_loss_lands_on_the_bound_and_says_so(table):
    law = Chinchilla(0.0, 406.4, 410.7, 0.34, 0.28)
    fit = fit_law(table(law=law, sigma_trunk=0, sigma_branch=0), **POINT_ONLY)
    assert fit.form.vector == pytest.approx(law.vector, rel=1e-4, abs=1e-3)
    # Noise that pushes E below zero: the bound holds and the rest is still an optimum.
    noisy = fit_law(table(law=law, seed=0), **POINT_ONLY)
    assert noisy.form.E == 0
    assert noisy.converged
    assert any(
        warning.code == "at-bound" and warning.values == {"coefficient": "E", "value": 0.0}
        for warning in noisy.warnings
    )


def test_an_answer_equal_to_a_start_is_told_and_has_not_converged(table, monkeypatch):
    def lazy(self, objective, output, start, **_):
        return Solution(np.array(start), np.ones(64), np.zeros(64), np.zeros(64), np.ones(64, bool))

    monkeypatch.setattr(Problem, "solve", lazy)
    fit = fit_law(table(), **POINT_ONLY)
    assert not fit.converged
    assert "start-point" in [warning.code for warning in fit.warnings]


@pytest.mark.parametrize(
    ("change", "code", "values"),
    [
        ({"sizes": [1e6, 2e6]}, "too-few-values", {"column": "params", "values": 2, "needed": 3}),
        ({"sizes": [1e6]}, "too-few-values", {"column": "params", "values": 1, "needed": 3}),
        (
            {"horizons": [20]},
            "collinear",
            {"columns": ["params", "tokens"], "correlation": pytest.approx(1)},
        ),
        (
            {"sizes": [1e6, 2e6, 4e6], "horizons": [20], "seeds": 1},
            "too-few-rows",
            {"rows": 3, "needed": 6},
        ),
    ],
)
def test_a_table_that_cannot_carry_the_law_says_what_to_add(table, change, code, values):
    with refuses(code, **values):
        fit_law(table(**change))


@pytest.mark.parametrize(
    ("arguments", "code", "values"),
    [
        ({"objective": "huber_log"}, "unknown-value", {"option": "objective"}),
        ({"objective": "mse", "delta": 0.1}, "contradicting-options", {"objective": "mse"}),
        ({"delta": -1.0}, "out-of-range", {"option": "delta", "value": -1.0}),
        ({"level": 90}, "out-of-range", {"level": 90}),
        (
            {"intervals": "rows"},
            "unknown-value",
            {"option": "intervals", "known": ["two-level", "case", "profile", "none"]},
        ),
        ({"holdout": "smallest"}, "incomplete-condition", {"condition": "smallest"}),
        ({"holdout": ["99"]}, "unknown-trunk", {"trunk": "99"}),
        ({"holdout": np.arange(50) < 3}, "split-trunk", {"trunk": "0"}),
        ({"holdout": np.ones(50, bool)}, "empty-holdout", {"held": 50, "rows": 50}),
        ({"holdout": np.arange(40) < 5}, "empty-holdout", {"held": 0, "kept": 50, "rows": 50}),
    ],
)
def test_bad_arguments_are_named(table, arguments, code, values):
    with refuses(code, **values):
        fit_law(table(), **{"bootstrap": 10, **arguments})


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (0.0, "out-of-range"),
        (-1.0, "out-of-range"),
        (1e31, "out-of-range"),
        (1e-31, "out-of-range"),
        (np.inf, "not-finite"),
    ],
)
def test_a_diverged_loss_is_refused_with_its_row(table, value, code):
    runs = table()
    loss = runs.loss.copy()
    loss[7] = value
    with refuses(code, column="loss", row=7):
        fit_law({"params": runs.params, "tokens": runs.tokens, "loss": loss})


def test_a_column_that_no_law_reads_may_hold_any_number(table):
    runs = table()
    ids = np.linspace(1e38, 2e38, runs.rows)
    columns = {"params": runs.params, "tokens": runs.tokens, "loss": runs.loss, "id": ids}
    assert fit_law(columns, bootstrap=0, holdout=None).rows == runs.rows


def test_a_missing_loss_is_left_out_and_counted(table):
    runs = table()
    loss = runs.loss.copy()
    loss[7] = np.nan
    fit = fit_law({"params": runs.params, "tokens": runs.tokens, "loss": loss}, bootstrap=0)
    assert fit.rows == 49
    assert fit.warnings[0].code == "incomplete-rows"
    assert fit.dropped == (("a number is missing", 1),)


def test_a_mask_counts_the_rows_of_the_table_whatever_is_left_out(table):
    runs = table()
    loss = runs.loss.copy()
    loss[7] = np.nan
    columns = {"params": runs.params, "tokens": runs.tokens, "loss": loss, "trunk": runs.trunk}
    columns["decayed"] = np.arange(50) != 12
    law = {"law": "chinchilla", "bootstrap": 0}
    fit = fit_law(columns, holdout=runs.params == runs.params.max(), **law)
    assert (fit.rows, fit.holdout.rows) == (48, 10)
    by_condition = fit_law(columns, **law, holdout="params>3e6").holdout
    assert (by_condition.rows, by_condition.error) == (10, fit.holdout.error)
    for other in (np.arange(50) == 7, np.arange(48) < 10):
        with refuses("empty-holdout", held=0, kept=48, rows=50):
            fit_law(columns, holdout=other, **law)
    with refuses("empty-holdout", ConfigError, held=0, kept=48, rows=50):
        fit_law(columns, holdout="params>1e9", **law)


def test_the_fewest_rows_that_a_law_takes_leave_one_degree_of_freedom():
    """Five coefficients and six rows: an answer with a warning, as a sweep that has just begun."""
    params = np.array([35552, 35552, 35552, 79000, 79000, 142000.0])
    tokens = params * np.array([10, 20, 40, 10, 20, 10.0])
    loss = 0.9 + 60 * params**-0.42 + 40 * tokens**-0.32
    noisy = loss * np.exp(0.003 * np.random.default_rng(0).standard_normal(6))
    trunk = params.astype(int).astype(str)
    columns = {"params": params, "tokens": tokens, "loss": noisy, "trunk": trunk}
    fit = fit_law(columns, bootstrap=20)
    assert fit.rows == 6
    assert fit.warnings


def test_columns_of_different_length_are_refused():
    with refuses("wrong-length", column="trunk", length=1, rows=2):
        Table(params=[1, 2], tokens=[1, 2], loss=[1, 2], trunk=["a"])


@pytest.mark.parametrize(
    ("ends", "bounds", "told"),
    [
        ((0.0, 2.0), (0.0, np.inf), (0.0, 2.0)),
        ((0.01, 0.4), (0.01, 3.0), (-np.inf, 0.4)),
        ((0.3, 3.0), (0.01, 3.0), (0.3, np.inf)),
        ((0.02, 2.9), (0.01, 3.0), (0.02, 2.9)),
        ((-20.0, 20.0), (-20.0, 20.0), (-np.inf, np.inf)),
        ((-1.0, 1.0), (-np.inf, np.inf), (-1.0, 1.0)),
    ],
)
def test_an_end_at_a_bound_of_the_search_is_no_end(ends, bounds, told):
    assert beyond_bounds(ends, bounds) == told


@pytest.mark.medium
def test_which_ends_of_a_loud_table_are_unbounded(table):
    loud = table(sigma_trunk=0.05, sigma_branch=0.01)
    options = {"bootstrap": 100, "holdout": None}
    coupled = fit_law(loud, "coupled", intervals="profile", **options)
    assert coupled.intervals["k"][1] == np.inf
    assert coupled.intervals["E"][0] == 0.0
    written = json.loads(coupled.to_json())["intervals"]
    assert (written["k"][1], written["E"][0]) == ("inf", 0.0)
    assert Fit.from_json(coupled.to_json()).intervals["k"] == coupled.intervals["k"]
    fixed = fit_law(loud, "chinchilla", fix={"alpha": 3.0}, **options)
    assert fixed.intervals["alpha"] == (3.0, 3.0)


@pytest.mark.parametrize("objective", ["mse", "mse-log"])
def test_least_squares_are_half_a_sum(table, objective):
    runs = table(sigma_trunk=0.01)
    fit = fit_law(runs, "chinchilla", objective=objective, **POINT_ONLY)
    predicted = fit(runs.params, runs.tokens)
    off = predicted - runs.loss if objective == "mse" else np.log(predicted / runs.loss)
    assert fit.objective_value == pytest.approx(np.sum(off**2) / 2)


@pytest.mark.parametrize("intervals", ["two-level", "case", "profile", "none"])
def test_four_rows_have_no_hold_out_of_nan(intervals):
    x, y = [1e18, 2e18, 5e18, 1e19], [416320605, 560239841, 741495903, 988644331]
    found = fit_law({"x": x, "y": y}, "power", intervals=intervals, bootstrap=100)
    held = found.holdout
    known = intervals != "none"
    assert (held.inside is not None, held.covered is not None) == (known, known)
    assert np.isfinite([held.low, held.high]).all() == known
    assert "holdout-missed" not in {warning.code for warning in found.warnings}


def test_a_forecast_of_infinite_draws_has_unbounded_ends():
    held = Table(x=[1.0, 2.0], y=[1.0, 1.0])
    draws = np.array([[0.0, -np.inf], [0.1, -np.inf], [0.2, 0.0], [0.3, np.inf], [0.4, np.inf]])
    scored = score_holdout(held, "rows", Power, np.ones(2), draws, baselines={}, level=0.9)
    assert scored.points[1][2:] == (0.0, np.inf)
    assert scored.covered == 0.5
    none = score_holdout(held, "rows", Power, np.ones(2), draws[:0], baselines={}, level=0.9)
    assert (none.inside, none.covered) == (None, None)
    negative = score_holdout(held, "rows", Power, -np.ones(2), draws, baselines={}, level=0.9)
    assert negative.inside is None


def test_resamples_without_an_optimum_leave_the_ratio_open(table):
    rng = np.random.default_rng(3)
    runs = table(seeds=1, horizons=(10, 20, 40), sigma_trunk=0.3, sigma_branch=0.3)
    flat = Table(runs.columns).with_columns(loss=3 * np.exp(0.3 * rng.standard_normal(runs.rows)))
    found = fit_law(flat, "chinchilla", bootstrap=60, holdout=None)
    assert np.isnan(found.splits(1e15)[0][1:] - found.splits(1e15)[1][1:]).any()
    assert found.intervals["ratio"] == (0.0, np.inf)
