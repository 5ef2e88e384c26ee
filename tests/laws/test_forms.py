"""The other formulas: planted truths come back, with intervals, through the same `fit`."""

import numpy as np
import pytest
from law_errors import refuses

from windtunnel.laws import (
    LAWS,
    DataConstrained,
    ExpOffset,
    Fit,
    Power,
    Power2,
    PowerOffset,
    Sigmoid,
    Table,
    predict,
)
from windtunnel.laws import fit as fit_law
from windtunnel.laws.bootstrap import refit
from windtunnel.laws.forms import Law
from windtunnel.laws.point_estimate import search
from windtunnel.laws.problem import Problem
from windtunnel.laws.solver import Objective

X = np.geomspace(1e17, 1e21, 14)
POINT_ONLY = {"intervals": "none", "holdout": None}


def noisy(values, sigma, seed=0):
    return values * np.exp(sigma * np.random.default_rng(seed).standard_normal(values.size))


@pytest.mark.parametrize(
    ("law", "x"),
    [
        (Power(3e4, -0.21), X),
        (Power(2e-9, 0.57), X),
        (PowerOffset(1.7, 3e3, -0.19), X),
        (PowerOffset(-0.1, 2e-3, 0.11), X),
        (PowerOffset(5.0, -40.0, -0.3), np.geomspace(1e4, 1e7, 12)),
        (ExpOffset(3.1, 1.4, 3e-20), X),
        (ExpOffset(0.2, -0.15, 0.4), np.linspace(0.1, 9, 12)),
    ],
)
def test_one_input_laws_recover_a_planted_truth(law, x):
    fit = fit_law({"x": x, "y": law(x)}, law.name, **POINT_ONLY)
    assert fit.coefficients == pytest.approx(law.coefficients, rel=1e-5)
    assert fit.converged
    assert fit.form(x) == pytest.approx(law(x), rel=1e-8)


def test_a_power_law_by_least_squares_is_a_line_in_logs():
    y = noisy(Power(3e4, -0.21)(X), 0.02)
    fit = fit_law({"x": X, "y": y}, "power", objective="mse-log", holdout=None)
    slope, offset = np.polyfit(np.log(X), np.log(y), 1)
    assert fit.coefficients == pytest.approx({"a": np.exp(offset), "b": slope}, rel=1e-6)
    # The interval of a line: 1.78 is Student's t at 95% for 12 degrees of freedom.
    left = np.log(y) - offset - slope * np.log(X)
    error = np.sqrt(np.sum(left**2) / 12) / np.sqrt(np.sum((np.log(X) - np.log(X).mean()) ** 2))
    low, high = fit.intervals["b"]
    # Wider by what is not known of noise that may change along x: 14% measured.
    assert 0.97 < (high - low) / 2 / (1.78 * error) < 1.25


def test_profile_and_two_level_agree_on_a_line():
    y = noisy(Power(3e4, -0.21)(X), 0.02)
    ends = [
        fit_law({"x": X, "y": y}, "power", objective="mse-log", intervals=method).intervals["b"]
        for method in ("two-level", "profile")
    ]
    widths = [high - low for low, high in ends]
    # A profile takes sigma as known and equal for all rows: narrower by t over normal, and more.
    assert 1.78 / 1.64 * 0.97 < widths[0] / widths[1] < 1.78 / 1.64 * 1.25


def test_power2_recovers_steplaw_from_optima():
    n, d = (
        each.ravel() for each in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 5))
    )
    law = Power2(1.79, -0.713, 0.307)
    fit = fit_law({"x": n, "z": d, "y": law(n, d)}, "power2", **POINT_ONLY)
    assert fit.coefficients == pytest.approx(law.coefficients, rel=1e-6)


def test_power2_of_scattered_optima_measures_its_delta():
    # With 1e-3, a loss's, every row is an outlier, and a whole line of laws is as good as the best.
    n, d = (each.ravel() for each in np.meshgrid(np.geomspace(1e7, 1e9, 3), [1e9, 2e9, 4e9, 8e9]))
    law, scatter = Power2(1.79, -0.713, 0.307), np.tile([-0.05, 0.1, -0.1, 0.05], 3)
    fit = fit_law({"x": n, "z": d, "y": law(n, d) * np.exp(scatter)}, "power2", **POINT_ONLY)
    assert fit.delta == pytest.approx(1.345 * 0.11, rel=0.4)
    squares = fit_law(
        {"x": n, "z": d, "y": law(n, d) * np.exp(scatter)},
        "power2", objective="mse-log", **POINT_ONLY,
    )  # fmt: skip
    assert fit.coefficients == pytest.approx(squares.coefficients, rel=0.05)


RATES = np.geomspace(1e-4, 1e-1, 15)


def trials(*, rates=RATES, sharpness=0.05):
    law, rows = Power2(1.79, -0.713, 0.307), []
    for n in np.geomspace(1e7, 1e9, 5):
        for d in np.geomspace(1e9, 1e11, 4):
            away = np.log(rates / law(n, d))
            rows += [
                (n, d, rate, 3 + sharpness * off**2) for rate, off in zip(rates, away, strict=True)
            ]
    return dict(zip(("x", "z", "y", "loss"), np.array(rows).T, strict=True)), law


def test_power2_from_trials_is_judged_by_regret():
    table, law = trials()
    fit = fit_law(table, "power2", bootstrap=50)
    assert fit.coefficients == pytest.approx(law.coefficients, rel=1e-6)
    assert fit.rows == 20
    # Trials are x1.64 apart: interpolating between two of them costs at most .05 (ln 1.64 / 2)^2.
    assert 0 <= fit.details["regret_mean"] <= fit.details["regret_worst"] < 0.05 * 0.25**2 + 1e-9
    assert len(fit.details["cells"]) == 20
    assert "edge-minimum" not in [warning.code for warning in fit.warnings]


def test_power2_leaves_cells_at_an_edge_out_and_says_so():
    table, law = trials(rates=np.geomspace(8e-4, 1e-1, 11))
    fit = fit_law(table, "power2", bootstrap=50)
    assert fit.coefficients == pytest.approx(law.coefficients, rel=1e-6)
    (warning,) = [warning for warning in fit.warnings if warning.code == "edge-minimum"]
    assert warning.values == {"edge": 20 - fit.rows, "cells": 20}
    with refuses("too-few-optima", needed=4):
        fit_law(trials(rates=np.geomspace(0.1, 0.3, 5))[0], "power2")


@pytest.mark.parametrize("g", [-4.0, 6.0])
def test_sigmoid_recovers_a_planted_truth(g):
    law = Sigmoid(0.22, 0.6, g, 2.4)
    loss = np.linspace(1.4, 3.6, 16)
    fit = fit_law({"loss": loss, "score": law(loss)}, "sigmoid", **POINT_ONLY)
    assert fit.coefficients == pytest.approx(law.coefficients, rel=1e-4)
    assert law.loss_at(law(2.0)) == pytest.approx(2.0)
    assert np.isnan(law.loss_at(0.1))


@pytest.mark.medium
def test_sigmoid_noise_is_additive_and_scores_may_be_zero():
    law, rng = Sigmoid(0.0, 0.6, -9.0, 2.0), np.random.default_rng(0)
    loss = np.linspace(1.2, 3.6, 40)
    fit = fit_law({"loss": loss, "score": law(loss) + 0.01 * rng.standard_normal(40)}, "sigmoid")
    assert fit.objective == "huber"
    assert fit.sigma_trunk == pytest.approx(0.01, rel=0.3)
    found = predict(fit, loss=2.0)
    assert found.high - found.low == pytest.approx(2 * 1.7 * 0.01, rel=0.35)


def test_data_constrained_is_chinchilla_while_nothing_repeats():
    law = DataConstrained(1.87, 521.0, 1488.0, 0.353, 0.353, 5.31, 15.39)
    # At the optimum of its tokens no parameter is in excess, and fresh tokens count whole.
    best = law.unconstrained.optimum(1e20)
    assert law(best.params, best.tokens, best.tokens * 2) == pytest.approx(best.loss, rel=1e-12)
    assert law(best.params, best.tokens, best.tokens) == pytest.approx(best.loss, rel=1e-9)


def test_slopes_of_data_constrained_are_those_of_complex_steps():
    rng = np.random.default_rng(0)
    low, high = [0.5, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05], [3, 2, 2, 1.5, 1.5, 1e3, 1e3]
    theta = np.exp(rng.uniform(np.log(low), np.log(high), (200, 7)))
    inputs = np.exp(rng.normal(size=(3, 60)))
    values, jacobian = DataConstrained.slopes(theta, inputs)
    exact, by_steps = Law.slopes.__func__(DataConstrained, theta, inputs)
    assert values == pytest.approx(exact, rel=1e-12)
    assert jacobian == pytest.approx(by_steps, rel=1e-6, abs=1e-9)
    theta[:, 1:3] *= rng.integers(0, 2, (200, 2))  # a law of one term, or of none
    assert np.isfinite(DataConstrained.slopes(theta, inputs)[1]).all()


@pytest.mark.medium
def test_refits_of_data_constrained_need_no_second_start():
    law, rng = (
        DataConstrained(1.87, 521.0, 1488.0, 0.353, 0.353, 5.31, 15.39),
        np.random.default_rng(2),
    )
    params, unique = np.exp(rng.uniform(np.log([1e8, 1e9]), np.log([8e9, 2e11]), (90, 2))).T
    tokens = unique * np.exp(rng.uniform(-1, 4, 90))
    loss = law(params, tokens, unique) * np.exp(0.01 * rng.standard_normal(90))
    table = Table(params=params, tokens=tokens, unique_tokens=unique, loss=loss)
    problem, objective = Problem.of(DataConstrained, table), Objective("huber-log", 1e-3)
    point = search(problem, objective)
    assert (point.starts, point.converged) == (36, True)
    outputs = problem.predict(point.theta) * np.exp(0.01 * rng.standard_normal((60, 90)))
    found = refit(point, outputs)
    starts, squares = problem.projected_starts(outputs, problem.predict(point.theta))
    nearest = starts[np.arange(60), squares.argmin(axis=1)]
    first = problem.solve(objective, outputs, np.broadcast_to(point.theta, nearest.shape))
    both = first.better(problem.solve(objective, outputs, nearest))
    assert np.mean(found.cost <= both.cost * (1 + 1e-6)) >= 0.95
    assert np.all(found.cost <= both.cost * 1.01)


def test_data_constrained_by_hand():
    # Muennighoff et al. 2023: 4 epochs of U tokens count as U (1 + R (1 - exp(-3 / R))), R = 15.39.
    law = DataConstrained(1.87, 521.0, 1488.0, 0.353, 0.353, 5.31, 15.39)
    unique, params = 1e10, 1e8
    effective = unique * (1 + 15.39 * (1 - np.exp(-3 / 15.39)))
    assert law(params, 4 * unique, unique) == pytest.approx(
        float(law.unconstrained(params, effective))
    )


@pytest.mark.parametrize("name", LAWS)
def test_every_law_has_its_formula_and_source(name):
    from windtunnel.laws.registry import TWO_STEP, written_law

    law = TWO_STEP[name].law if name in TWO_STEP else written_law(name, None)
    assert law.formula
    assert law.source
    assert law.names()
    assert law.columns()


@pytest.mark.parametrize(
    ("x", "y", "law", "code", "values"),
    [
        ([1, 2], [1, 2], "power-offset", "too-few-values", {"column": "x", "needed": 3}),
        ([1, 2, 3], [1, 2, 3], "power-offset", "too-few-rows", {"rows": 3, "needed": 4}),
        ([1, -2, 3], [1, 2, 3], "power", "out-of-range", {"column": "x", "row": 1, "value": -2}),
        ([1, 2, 3], [1, 0, 3], "power", "out-of-range", {"column": "y", "row": 1, "value": 0}),
        ([1, 2, 3], ["a", "b", "c"], "power", "not-a-number", {"column": "y"}),
        ([1, 2], [1, 2], "powr", "unknown-law", {"law": "powr"}),
    ],
)
def test_bad_tables_are_named(x, y, law, code, values):
    with refuses(code, **values):
        fit_law({"x": x, "y": y}, law)


@pytest.mark.medium
def test_written_fits_of_every_formula_read_back():
    for law in (Power(3e4, -0.21), PowerOffset(1.7, 3e3, -0.19), ExpOffset(3.1, 1.4, 3e-20)):
        fit = fit_law({"x": X, "y": noisy(law(X), 0.01)}, law.name, bootstrap=50)
        again = Fit.from_json(fit.to_json())
        assert again.predict(3e19).high == pytest.approx(fit.predict(3e19).high, rel=1e-6)
