import json
import time

import numpy as np
import pytest
from law_errors import refuses

from windtunnel.laws.table import Table
from windtunnel.laws.two_step.envelope import (
    ExpEnvelope,
    PowerEnvelope,
    _fitted,
    _Power,
    two_step_problem,
)

ALPHA, BETA = 0.34, 0.28
EXPONENT = -ALPHA * BETA / (ALPHA + BETA)


def curves(seed=0, *, sizes=20, rows=100, sigma_run=0.0, sigma=0.0, seeds=1):
    """Chinchilla curves of `sizes` models from 1 to 300 tokens per parameter."""
    rng = np.random.default_rng(seed)
    params = np.repeat(np.geomspace(1e7, 1e9, sizes), seeds)[:, None]
    tokens = params * np.geomspace(1, 300, rows)
    loss = 1.69 + 406.4 * params**-ALPHA + 410.7 * tokens**-BETA
    noise = sigma_run * rng.standard_normal((sizes * seeds, 1))
    loss = loss * np.exp(noise + sigma * rng.standard_normal(loss.shape))
    return {
        "flops": (6 * params * tokens).ravel(),
        "loss": loss.ravel(),
        "params": np.broadcast_to(params, loss.shape).ravel(),
        "labels": {"run": np.repeat([f"run {i}" for i in range(sizes * seeds)], rows)},
    }


def touching(envelope, touch, rows=80, width=1.5):
    """One curve per entry of `touch`, each on the envelope at that compute and above it around."""
    flops = np.asarray(touch)[:, None] * np.exp(np.linspace(-width, width, rows))
    loss = envelope(flops) + 0.05 * np.log(flops / np.asarray(touch)[:, None]) ** 2
    run = np.repeat(np.arange(len(touch)), rows)
    return Table(flops=flops.ravel(), loss=loss.ravel(), labels={"run": run})


def chinchilla_envelope(flops):
    g = (ALPHA * 406.4 / (BETA * 410.7)) ** (1 / (ALPHA + BETA))
    params = g * (flops / 6) ** (BETA / (ALPHA + BETA))
    return 1.69 + 406.4 * params**-ALPHA + 410.7 * (flops / 6 / params) ** -BETA


def solved(made):
    return made.solved


def codes(made):
    return {diagnostic.code for diagnostic in made.diagnostics}


def test_recovers_the_power_law_under_chinchilla_curves():
    made = two_step_problem(Table(**curves(sizes=40)))
    law = solved(made)
    assert isinstance(law, PowerEnvelope)
    assert law.b == pytest.approx(EXPONENT, abs=1e-4)
    assert law.c == pytest.approx(1.69, abs=2e-3)
    flops = np.geomspace(1e17, 1e20, 5)
    assert law(flops) == pytest.approx(chinchilla_envelope(flops), rel=3e-4)
    assert codes(made) == {"lucky-envelope"}


def test_recovers_a_planted_exponential():
    truth = ExpEnvelope(c=3.0, a=1.5, b=2e-18)
    made = two_step_problem(touching(truth, np.geomspace(5e16, 2e18, 40), width=0.8))
    law = solved(made)
    assert isinstance(law, ExpEnvelope)
    assert made.details["form"] == "exp-offset"
    assert law.b == pytest.approx(2e-18, rel=0.05)
    assert law.c == pytest.approx(3.0, abs=0.05)
    forms = made.details["forms"]
    assert forms["exp-offset"]["aic"] < forms["power-offset"]["aic"]
    assert forms["exp-offset"]["last_third_rms"] < forms["power-offset"]["last_third_rms"]


def test_only_nodes_between_the_first_and_the_last_crossing_count():
    made = two_step_problem(Table(**curves(sizes=6)))
    nodes = made.details["envelope"]
    assert set(nodes["run"]) == {"run 1", "run 2", "run 3", "run 4"}
    assert made.details["dropped_nodes"]["crossings"] == 5
    assert np.all(np.diff(nodes["loss"]) < 0)
    # Of the largest size only, where no other run reaches, nothing counts.
    assert max(nodes["flops"]) < 6 * 1e9 * 1e9 * 300


def test_a_curve_that_ends_low_does_not_lift_the_envelope_behind_it():
    rows = curves(sizes=12)
    run, loss = rows["labels"]["run"], rows["loss"].copy()
    tail = np.flatnonzero(run == "run 5")[60:62]
    keep = np.ones(loss.size, bool)
    keep[np.flatnonzero(run == "run 5")[62:]] = False
    loss[tail] *= 0.97
    dipped = Table(
        flops=rows["flops"][keep],
        loss=loss[keep],
        params=rows["params"][keep],
        labels={"run": run[keep]},
    )
    made = two_step_problem(dipped)
    assert made.details["dropped_nodes"]["beaten by a cheaper node"] > 0
    assert np.all(np.diff(made.details["envelope"]["loss"]) < 0)


def test_seeds_of_one_size_do_not_cross_each_other():
    rows = curves(sizes=4, seeds=3, sigma=0.002)
    known = two_step_problem(Table(**rows)).details["dropped_nodes"]["crossings"]
    del rows["params"]
    unknown = two_step_problem(Table(**rows)).details["dropped_nodes"]["crossings"]
    assert known < unknown


def test_two_forms_that_cannot_be_told_apart_say_so():
    truth = ExpEnvelope(c=3.0, a=1.5, b=2e-18)
    table = touching(truth, np.geomspace(4e17, 5e17, 5), width=0.3)
    noise = 0.002 * np.random.default_rng(0).standard_normal(table.rows)
    assert "undecided-form" in codes(
        two_step_problem(table.with_columns(loss=table.loss * np.exp(noise)))
    )


def test_a_curve_that_rises_is_named():
    rows = curves(sigma=0.001)
    assert "non-monotone" not in codes(two_step_problem(Table(**rows)))
    bump = np.flatnonzero(rows["labels"]["run"] == "run 7")[40:75]
    rows["loss"][bump] *= 1.15
    made = two_step_problem(Table(**rows))
    assert "non-monotone" in codes(made)
    assert "1 of 20 curves rise" in str(made.diagnostics[0])
    assert "'run 7'" in str(made.diagnostics[0])


def test_noise_of_single_rows_is_no_rise():
    assert "non-monotone" not in codes(two_step_problem(Table(**curves(sigma=0.02, rows=400))))


def test_many_tables_at_once_are_each_solved_as_one():
    made = two_step_problem(Table(**curves(sigma_run=0.003)))
    rng = np.random.default_rng(1)
    other = made.expected + 0.003 * rng.standard_normal((20, made.observed.size))
    one_by_one = np.concatenate([made.solve(row[None]) for row in other])
    assert made.solve(other) == pytest.approx(one_by_one, rel=1e-6)
    assert made.tangent.shape == (3, made.observed.size)


def test_tangent_holds_every_direction_of_the_reference():
    made = two_step_problem(Table(**curves()))
    vector = made.solve(made.observed[None])[0]
    step = np.array([1e-4, 1e-4, 1e-5])
    moved = np.log(made.law.of(made.law.raw(vector + step))(made.details["envelope"]["flops"]))
    basis = np.linalg.qr(made.tangent.T)[0]
    change = moved - made.expected
    assert basis @ (basis.T @ change) == pytest.approx(change, rel=0.01)


def test_hundred_thousand_rows_and_a_thousand_resamples_take_seconds():
    table = Table(**curves(sizes=50, rows=2000, sigma_run=0.002, sigma=0.001))
    start = time.perf_counter()
    made = two_step_problem(table)
    rng = np.random.default_rng(1)
    draws = made.solve(made.expected + 0.002 * rng.standard_normal((1000, made.observed.size)))
    assert time.perf_counter() - start < 30
    assert np.isfinite(draws).all()


def test_details_are_json():
    text = json.dumps(two_step_problem(Table(**curves())).details, allow_nan=False)
    assert set(json.loads(text)["forms"]) == {"power-offset", "exp-offset"}


def test_the_offset_is_never_negative():
    x = np.linspace(np.log(1e17), np.log(1e20), 50)
    loss = 5 - 0.2 * (x - x[0])
    c, *_ = _fitted(_Power, x, np.log(loss)).form.vector
    assert c >= 0


@pytest.mark.parametrize(
    ("change", "code", "values"),
    [
        ({"labels": {}}, "missing-column", {"column": "run"}),
        ({"labels": {"run": ["one"] * 2000}}, "too-few-curves", {"curves": 1, "needed": 3}),
        ({"loss": -np.ones(2000)}, "out-of-range", {"column": "loss", "row": 0, "value": -1.0}),
    ],
)
def test_what_it_refuses(change, code, values):
    with refuses(code, **values):
        two_step_problem(Table(**{**curves(), **change}))


def test_curves_that_never_cross_have_no_envelope():
    flops = np.geomspace(1e17, 1e20, 50)
    loss = np.concatenate([3 + shift + (flops / 1e17) ** -0.1 for shift in (0, 0.1, 0.2)])
    run = np.repeat(["a", "b", "c"], 50)
    with refuses("too-few-points", crossings=0, runs=3):
        two_step_problem(Table(flops=np.tile(flops, 3), loss=loss, labels={"run": run}))


@pytest.mark.parametrize(
    "law", [PowerEnvelope(c=1.7, a=2.0, b=-0.15), ExpEnvelope(c=1.7, a=2.0, b=3e-19)]
)
def test_vector_form_and_back(law):
    again = law.of(law.raw(law.log_vector))
    assert again.coefficients == pytest.approx(law.coefficients, rel=1e-12)
    assert law([1e18, 1e19]).shape == (2,)


def test_its_exponent_has_the_bounds_of_its_regression():
    assert PowerEnvelope.bounds()["b"] == (-4.0, -0.005)
    assert ExpEnvelope.bounds()["b"] == (0.0, np.inf)


def test_curves_of_decayed_rows_and_of_ends_are_told():
    rows = curves(sizes=12)
    plain = Table(**rows)
    assert "decayed-curves" not in codes(two_step_problem(plain))
    labels = rows["labels"]

    def told(decayed, keep=slice(None)):
        columns = {name: values[keep] for name, values in plain.columns.items()}
        run = {"run": labels["run"][keep]}
        made = two_step_problem(Table(columns, labels=run, decayed=decayed[keep]))
        return [d.values for d in made.diagnostics if d.code == "decayed-curves"]

    whole = np.ones(plain.rows, bool)
    (every,) = told(whole)
    assert every == {"decayed": 1200, "rows": 1200, "rows_per_run": 100}
    last = np.arange(plain.rows) % 100 == 99
    (some,) = told(last)
    assert some == {"decayed": 12, "rows": 1200, "rows_per_run": 100}
    assert told(~whole) == []
    (ends,) = told(whole, np.isin(np.arange(plain.rows) % 100, (20, 60, 99)))
    assert ends == {"decayed": 36, "rows": 36, "rows_per_run": 3}
