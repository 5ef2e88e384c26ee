import dataclasses
import json
import math

import numpy as np
import pytest
from law_errors import refuses

from windtunnel.laws import Fit
from windtunnel.laws import fit as fit_law
from windtunnel.laws.interval import beyond, decades_beyond


@pytest.fixture(scope="module")
def fit(table):
    return fit_law(table(seed=5, filters=["dropped 1 diverged run"]), "chinchilla")


def test_a_fit_says_where_it_came_from(fit):
    assert (fit.rows, fit.trunks, fit.seeds_per_cell) == (50, 10, (2, 2))
    assert (fit.loss_unit, fit.params_convention) == ("nats per token", "non-embedding")
    assert (fit.flop_rule, fit.law, fit.level) == ("6ND", "chinchilla", 0.9)
    assert fit.filters == ("dropped 1 diverged run",)
    assert fit.domain["params"] == pytest.approx((1e5, 3.2e6))
    assert fit.domain["tokens"] == pytest.approx((1e6, 5.12e8))
    assert fit.domain["flops"] == pytest.approx((6e11, 6 * 3.2e6 * 5.12e8))
    assert fit.domain["ratio"] == pytest.approx((10, 160))
    assert fit.coefficients["alpha"] == fit.form.alpha
    assert fit.draws.shape == (1000, 5)


def test_sigmas_are_those_planted(fit):
    assert fit.sigma_branch == pytest.approx(0.001, rel=0.3)
    assert fit.sigma_trunk == pytest.approx(0.003, rel=0.6)
    assert fit.sigma_seed == pytest.approx(0.0032, rel=0.6)


def test_intervals_hold_the_fit_and_widen_with_the_level(fit, table):
    a, b = fit.form.split(fit.form.vector)
    assert a + b == pytest.approx(1)
    named = {**fit.coefficients, "a": a, "b": b}
    named["ratio"] = fit.form.ratio(fit.domain["flops"][1])
    assert set(named) == set(fit.intervals)
    wide = fit_law(table(seed=5), "chinchilla", level=0.99, holdout=None).intervals
    for name, value in named.items():
        low, high = fit.intervals[name]
        assert low < value < high
        assert wide[name][0] < low
        assert wide[name][1] > high


def test_the_same_seed_gives_the_same_fit_and_another_does_not(table):
    again = [fit_law(table(), bootstrap=50, seed=s).intervals["ratio"] for s in (1, 1, 2)]
    assert again[0] == again[1] != again[2]


def test_prediction_adds_run_noise_to_the_law(fit):
    inside = fit.predict(1e6, 3e7)
    mean_of_four = fit.predict(1e6, 3e7, trunks=4)
    law = fit.predict(1e6, 3e7, trunks=math.inf)
    assert inside.value == mean_of_four.value == pytest.approx(float(fit.form(1e6, 3e7)))
    widths = [math.log(i.high / i.low) for i in (inside, mean_of_four, law)]
    assert widths[0] > widths[1] > widths[2] > 0
    # 90% of normal noise of one new run is 3.29 sigma wide, and a little more for unknown sigma.
    noise = math.hypot(fit.sigma_trunk, fit.sigma_branch)
    expected = math.hypot(3.29 * noise, widths[2])
    assert widths[0] == pytest.approx(expected, rel=0.25)
    assert inside.warnings == ()
    assert inside.value in inside


def test_extrapolation_is_told_in_decades(fit):
    warnings = fit.predict(3.2e7, 3.2e8).warnings
    assert warnings[0].code == "extrapolates"
    assert warnings[0].message == (
        "params = 3.2e+07 is 1.00 decades above the largest fitted (3.2e+06): extrapolated"
    )
    assert len(warnings) == 2  # params and flops; tokens and D/N are inside
    (low,) = fit.predict(1e6, 1e6).warnings
    assert low.values["quantity"] == "D/N"
    assert low.values["decades"] == pytest.approx(-1)


@pytest.mark.parametrize(
    ("value", "decades"),
    [
        (1e3, 0), (5e3, 0), (1e4, 0), (1.01e4, 0), (1.02e4, 0.0086), (1e5, 1),
        (1e3 / 1.01, 0), (1e3 / 1.02, -0.0086), (1e2, -1), (0.0, -math.inf),
    ],
)  # fmt: skip
def test_a_percent_beyond_the_domain_is_inside(value, decades):
    assert decades_beyond(value, (1e3, 1e4)) == pytest.approx(decades, abs=1e-4)
    warning = beyond("params", value, (1e3, 1e4))
    assert (warning is None) == (decades == 0)
    assert warning is None or warning.values["decades"] == pytest.approx(decades, abs=1e-4)


def test_optimum_agrees_with_the_law_and_keeps_its_interval_consistent(fit):
    flops = fit.domain["flops"][1]
    best = fit.optimum(flops)
    params, tokens, loss = fit.form.optimum(flops)
    assert (best.params.value, best.tokens.value) == pytest.approx((params, tokens))
    assert best.loss.value == pytest.approx(loss)
    assert (best.ratio.low, best.ratio.high) == pytest.approx(fit.intervals["ratio"])
    # At a fixed budget N and D are reciprocal, draw by draw.
    assert 6 * best.params.low * best.tokens.high == pytest.approx(flops)
    assert best.warnings == ()


def test_optimum_warns_outside_the_budgets_and_outside_the_sampled_ratio(fit, table):
    far = fit.optimum(fit.domain["flops"][1] * 100)
    assert far.warnings[0].values["quantity"] == "flops"
    assert far.warnings[0].values["decades"] == pytest.approx(2)
    short = fit_law(table(horizons=(1, 2, 4, 8)), bootstrap=50)
    at_end = short.optimum(short.domain["flops"][1])
    assert "ratio-outside" in [w.code for w in at_end.warnings]
    assert "ratio-outside" in [w.code for w in short.warnings]


def test_optimum_without_one_of_the_terms_is_refused(fit):
    flat = dataclasses.replace(fit, form=dataclasses.replace(fit.form, A=0.0))
    with refuses("no-optimum", law="chinchilla", term="N"):
        flat.optimum(1e16)


@pytest.mark.parametrize("bad", [{"params": 0}, {"tokens": -1}, {"trunks": 0}])
def test_predict_refuses_what_is_not_positive(fit, bad):
    ((name, value),) = bad.items()
    with refuses("out-of-range", input=name, value=value):
        fit.predict(**{"params": 1e6, "tokens": 1e7, **bad})


def test_no_intervals_are_nan_and_not_zero(table):
    bare = fit_law(table(), intervals="none")
    assert bare.intervals == {}
    assert math.isnan(bare.predict(1e6, 1e7).low)
    assert math.isnan(bare.optimum(1e15).ratio.high)
    assert bare.holdout.inside is None


def test_hold_out_of_the_largest_size_is_a_forecast(table):
    runs = table(seed=2)
    rest = runs.subset(runs.params < runs.params.max())
    seen = fit_law(rest, holdout=None, bootstrap=0).form
    held = runs.subset(runs.params == runs.params.max())
    errors = np.log(seen(held.params, held.tokens) / held.loss)
    score = fit_law(runs, "chinchilla").holdout
    assert (score.what, score.rows, score.trunks) == ("largest size", 10, 2)
    assert score.error == pytest.approx(errors.mean(), abs=1e-9)
    assert score.rms == pytest.approx(np.sqrt(np.mean(errors**2)), abs=1e-9)
    assert score.low < score.error < score.high
    assert score.inside


def test_hold_out_by_mask_or_by_label_is_the_same(table):
    runs = table()
    by_label = fit_law(runs, holdout=["2", "5"], bootstrap=50).holdout
    by_mask = fit_law(runs, holdout=np.isin(runs.trunk, ["2", "5"]), bootstrap=50).holdout
    assert by_label == by_mask
    assert (by_label.rows, by_label.trunks) == (10, 2)


def test_hold_out_notices_a_size_that_leaves_the_law(table):
    runs = table()
    off = np.where(runs.params == runs.params.max(), 1.05, 1.0)
    fit = fit_law(runs.with_columns(loss=runs.loss * off))
    assert fit.holdout.inside is False
    assert any(
        warning.code == "holdout-missed" and warning.values.get("held") == "largest size"
        for warning in fit.warnings
    )


def test_influence_is_leave_one_trunk_out(table):
    runs = table(seed=4)
    fit = fit_law(runs, delta=0.003, intervals="none", holdout=None)
    top = runs.budget.max()
    shifts = {}
    for trunk in runs.trunk_labels:
        rest = runs.subset(runs.trunk != trunk)
        again = fit_law(rest, delta=0.003, intervals="none", holdout=None)
        shifts[trunk] = np.log(again.form.ratio(top) / fit.form.ratio(top))
    worst = max(shifts, key=lambda trunk: abs(shifts[trunk]))
    assert fit.influence.quantity == "ratio"
    assert fit.influence.value == pytest.approx(fit.form.ratio(top))
    assert fit.influence.trunks[0].label == worst
    assert fit.influence.trunks[0].shift == pytest.approx(shifts[worst], rel=1e-3)
    assert len(fit.influence.trunks) == len(fit.influence.rows) == 5


def test_json_gives_the_same_fit_back(fit):
    text = fit.to_json()
    again = Fit.from_json(text)
    assert json.loads(text)["schema"] == 2
    assert again.holdout == fit.holdout
    assert again.influence == fit.influence
    assert again.warnings == fit.warnings
    # Draws are kept to ten digits; everything else exactly.
    for name in ("value", "low", "high"):
        ours, theirs = (getattr(each.predict(1e7, 1e8), name) for each in (fit, again))
        assert theirs == pytest.approx(ours, rel=1e-7)
    assert again.optimum(1e17).ratio.value == fit.optimum(1e17).ratio.value
    assert again.optimum(1e17).ratio.low == pytest.approx(fit.optimum(1e17).ratio.low, rel=1e-7)


def test_json_is_plain_even_where_numbers_are_not(fit, tmp_path):
    open_ended = dataclasses.replace(fit, intervals={"ratio": (1.0, math.inf)})
    path = tmp_path / "fit.json"
    text = open_ended.to_json(path, draws=10)
    json.loads(text, parse_constant=pytest.fail)
    again = Fit.from_json(path.read_text())
    assert again.intervals == {"ratio": (1.0, math.inf)}
    assert again.draws.shape == (10, 5)
    assert again.sigma_draws.shape == (10, 3)


@pytest.mark.parametrize(
    ("text", "code", "values"),
    [
        ("{", "not-json", {"where": "not a fit"}),
        ("[]", "unknown-version", {"schema": "None", "reads": 2}),
        ('{"schema": 99}', "later-version", {"schema": "99", "reads": 2}),
        ('{"schema": 2, "law": "chinchilla"}', "missing-key", {"key": "n"}),
    ],
)
def test_other_json_is_refused(text, code, values):
    with refuses(code, **values):
        Fit.from_json(text)
