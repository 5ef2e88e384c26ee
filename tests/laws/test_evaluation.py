"""A given law on a table it was not fitted to: objective, errors, coverage and drift."""

import json

import numpy as np
import pytest
from law_errors import refuses

from windtunnel.laws import Table, evaluate, fit
from windtunnel.laws.two_step.isoflop import Isoflop

TREND = 0.003
"""Of ln loss per unit of ln compute."""


@pytest.fixture(scope="module")
def law(table):
    return fit(table(seed=0), "chinchilla", bootstrap=150, holdout=None)


def drifted(found):
    return [warning.values for warning in found.warnings if warning.code == "law-drifted"]


def moved(runs):
    return runs.with_columns(loss=runs.loss * (runs.budget / 1e13) ** TREND)


def test_the_errors_of_stated_coefficients(table, planted):
    runs = table(seed=3)
    found = evaluate(planted, runs, objective="mse-log")
    off = np.log(planted(runs.params, runs.tokens) / runs.loss)
    assert found.objective_value == pytest.approx(np.sum(off**2) / 2)
    assert found.score.error == pytest.approx(off.mean())
    assert found.residual_rms == pytest.approx(np.sqrt(np.mean(off**2)))
    assert (found.score.inside, found.score.covered, found.score.rows) == (None, None, 50)
    assert drifted(found) == []
    huber = evaluate(planted, runs, delta=1e-3)
    clipped = np.minimum(np.abs(off), 1e-3)
    assert huber.objective_value == pytest.approx(np.sum(clipped * (np.abs(off) - clipped / 2)))


def test_the_table_of_the_fit_gives_its_objective(table, law):
    found = evaluate(law, table(seed=0))
    assert (found.objective, found.delta) == (law.objective, law.delta)
    assert found.objective_value == pytest.approx(law.objective_value)


def test_a_fit_covers_runs_like_its_own(table, law):
    scores = [evaluate(law, table(seed=seed)).score for seed in range(1, 11)]
    assert np.mean([score.covered for score in scores]) > 0.8
    assert np.mean([score.inside for score in scores]) >= 0.8
    off = table(seed=1)
    found = evaluate(law, off.with_columns(loss=1.03 * off.loss))
    assert found.score.inside is False
    assert "holdout-missed" in {warning.code for warning in found.warnings}
    assert drifted(found) == []


def test_a_drift_with_compute_is_told_and_noise_is_not(table, planted):
    assert sum(len(drifted(evaluate(planted, table(seed=seed)))) for seed in range(20)) <= 1
    (told,) = drifted(evaluate(planted, moved(table(seed=3))))
    assert told["against"] == "flops"
    assert told["slope"] == pytest.approx(TREND, abs=3 * told["standard_error"])
    assert told["p"] < 0.01
    alone = Table(moved(table(seed=3, sigma_trunk=0)).columns)
    (told,) = drifted(evaluate(planted, alone))
    assert told["slope"] == pytest.approx(TREND, abs=3 * told["standard_error"])


def test_auto_is_evaluated_with_its_misfit(table):
    given = fit(table(seed=0), bootstrap=60, holdout=None)
    found = evaluate(given, table(seed=4))
    assert found.objective == "mse-log"
    assert found.score.covered > 0.75
    assert found.score.inside


def test_other_laws_drift_along_their_input():
    x = np.geomspace(1, 100, 12)
    given = fit({"x": x, "y": 3 * x**-0.4}, "power", bootstrap=0, holdout=None)
    found = evaluate(given, {"x": x, "y": 3 * x**-0.42})
    assert found.drift.against == "x"
    assert found.drift.slope == pytest.approx(-0.02)
    assert evaluate(given, {"x": x[:2], "y": 3 * x[:2] ** -0.42}).drift is None


def test_the_document_is_json(table, planted):
    found = evaluate(planted, moved(table(seed=3)))
    document = json.loads(found.to_json())
    assert document["n"] == document["holdout"]["n"] == 50
    assert document["drift"]["slope"] == found.drift.slope
    assert document["holdout"]["covered"] is None
    assert document["objective"]["value"] == found.objective_value


def test_what_it_refuses(table, planted):
    with refuses("wrong-law", law="isoflop"):
        evaluate(Isoflop(0.1, 0.5, 1.7, 0.5), table())
    with refuses("contradicting-options", objective="mse"):
        evaluate(planted, table(), objective="mse", delta=0.1)
