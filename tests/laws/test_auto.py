"""`--law auto`: the density of its model, forms and misfit, forecasts, and the written fit."""

import copy
import dataclasses
import json

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from windtunnel.errors import FitError
from windtunnel.laws import Fit, Table, optimum
from windtunnel.laws import fit as fit_law
from windtunnel.laws.auto import rolling
from windtunnel.laws.auto.model import FORMS, Model
from windtunnel.laws.auto.rolling import Extrapolation, folds, weights_of, widening
from windtunnel.laws.chinchilla import Auto, Chinchilla, Coupled
from windtunnel.laws.misfit import Basis

LAW = Chinchilla(1.7, 400.0, 1500.0, 0.34, 0.35)
SIZES, RATIOS = np.geomspace(5e7, 2e9, 6), np.array([5.0, 20.0, 80.0, 320.0])


def grid(bend=0.0, noise=1e-3, seed=0, seeds=1, sizes=SIZES):
    """Runs of a planted law, off it by exp(bend ln N' ln D') in the middle of the table."""
    params = np.repeat(sizes, RATIOS.size * seeds)
    tokens = params * np.tile(np.repeat(RATIOS, seeds), sizes.size)
    trunk = np.repeat(np.arange(sizes.size), RATIOS.size * seeds) * seeds + np.tile(
        np.arange(seeds), params.size // seeds
    )
    rng = np.random.default_rng(seed)
    log_loss = np.log(LAW(params, tokens)) + noise * rng.standard_normal(params.size)
    log_loss += bend * np.log(params / 3e8) * np.log(tokens / 1e10)
    return Table(params=params, tokens=tokens, loss=np.exp(log_loss), trunk=trunk)


@pytest.fixture(scope="module")
def fitted():
    return fit_law(grid(), "auto")


def test_a_table_that_cannot_be_split_has_the_law_alone():
    """Three sizes, each on trunks of its own: any top takes whole sizes with it."""
    small = fit_law(grid(bend=0.004, sizes=SIZES[:3], seeds=3), "auto")
    assert "form-assumed" in [each.code for each in small.warnings]
    assert {each["form"]: each["weight"] for each in small.details["forms"]} == {
        "coupled": 0.0, "chinchilla": 1.0, "no-floor": 0.0,
    }  # fmt: skip
    assert small.details["misfit"] == 0.0
    assert small.coefficients["k"] == 1.0
    assert small.details["widening"] == {"compute": 1.7, "size": 1.7}
    far = small.predict(9 * SIZES[2], 8 * 320 * SIZES[2])
    assert far.low < far.value < far.high
    large = fit_law(grid(bend=0.004), "auto")
    assert (small.details["assumed"], large.details["assumed"]) == (True, False)
    assert "form-assumed" not in [each.code for each in large.warnings]


@pytest.mark.parametrize(("count", "tops"), [(4, 0), (5, 1), (6, 2)])
def test_one_extrapolation_does_not_tell_the_form(count, tops):
    """Sizes 1.6 times apart, each on a trunk of its own."""
    sizes = 1e8 * 1.6 ** np.arange(count)
    params = np.repeat(sizes, 6)
    tokens = np.tile(np.geomspace(2e9, 1.6e10, 6), count)
    loss = LAW(params, tokens) * np.exp(
        0.002 * np.random.default_rng(0).standard_normal(tokens.size)
    )
    table = Table(params=params, tokens=tokens, loss=loss, trunk=np.repeat(np.arange(count), 6))
    assert len(list(folds(table))) == tops
    found = fit_law(table, "auto", holdout=None)
    assert found.details["assumed"] == ("form-assumed" in [w.code for w in found.warnings])
    assert found.details["assumed"] == (tops < 2)
    assert len(found.details["extrapolations"]) == tops * len(FORMS)


def test_features_and_what_they_leave_are_the_covariance():
    params, tokens = np.geomspace(1e8, 1e9, 7), np.geomspace(3e9, 1e10, 7)
    basis = Basis.of(params, tokens)
    features, left = basis.features(params, tokens)
    u = (np.log(params) - basis.middle[0]) / basis.span[0]
    v = (np.log(tokens) - basis.middle[1]) / basis.span[1]
    variance = 8 * (np.abs(u) ** 3 + np.abs(v) ** 3) + (u * v / 0.25) ** 2
    assert np.sum(features**2, axis=1) + left == pytest.approx(variance)
    assert np.all(left >= 0)


@pytest.mark.parametrize("form", FORMS)
def test_the_density_is_that_of_the_dense_normal(form):
    table = grid(seeds=2)
    model = Model.of(table, form).reweighted(np.linspace(0.5, 1.2, table.rows))
    mean, spread = model.prior
    points = mean + spread * np.random.default_rng(0).normal(size=(3, mean.size)) / 2

    def dense(point):
        sigma = {
            name: np.exp(point[model.names.index(f"sigma_{name}")])
            for name in ("run", "misfit", "size", "trunk")
        }
        covariance = np.diag(sigma["run"] ** 2 / model.weight)
        covariance += sigma["misfit"] ** 2 * model.features @ model.features.T
        for level in model.levels:
            same = level.index[:, None] == level.index[None]
            covariance += sigma[level.name.removeprefix("sigma_")] ** 2 * same
        left = model.log_loss - model.log_law(point[None])[0]
        prior = -np.sum(((point - mean) / spread) ** 2) / 2
        likelihood = multivariate_normal(cov=covariance).logpdf(left)
        return likelihood + table.rows * np.log(2 * np.pi) / 2 + prior

    assert model.log_density(points) == pytest.approx([dense(each) for each in points])


def test_coefficients_are_those_of_the_law_that_is_evaluated():
    table = grid()
    model = Model.of(table, "coupled")
    mean, spread = model.prior
    points = mean + spread * np.random.default_rng(1).normal(size=(4, mean.size))
    order = np.lexsort((table.tokens, table.params))
    inputs = np.stack([table.params, table.tokens])[:, order]
    direct = np.log(Coupled.values(model.coefficients(points), inputs))
    assert model.log_law(points) == pytest.approx(direct)


def test_a_planted_law_is_recovered_with_its_noise(fitted):
    low, high = fitted.intervals["E"]
    assert low < LAW.E < high
    assert fitted.sigma_branch == pytest.approx(1.3e-3, rel=0.5)
    best = fitted.optimum(1e21)
    assert best.ratio.low < LAW.ratio(1e21) < best.ratio.high
    far = fitted.predict(params=2e10, tokens=4e11)
    assert LAW(2e10, 4e11) in far
    assert far.high / far.low < 1.05


@pytest.mark.slow
def test_a_smooth_misfit_is_told_and_does_not_explode_intervals():
    bent = fit_law(grid(bend=3e-3), "auto")
    assert "misfit" in {warning.code for warning in bent.warnings}
    two_level = fit_law(grid(bend=3e-3), "chinchilla", holdout=None)
    truth = LAW(1e10, 2e11) * np.exp(3e-3 * np.log(1e10 / 3e8) * np.log(2e11 / 1e10))
    at = {"params": 1e10, "tokens": 2e11}
    forecast, exploded = bent.predict(**at), two_level.predict(**at)
    assert truth in forecast
    assert forecast.high - forecast.low < (exploded.high - exploded.low) / 5


@pytest.mark.medium
def test_the_optimum_is_of_law_and_misfit_together():
    bend, flops = 0.006, 3e21
    bent = fit_law(grid(bend=bend), "auto", holdout=None)
    params = np.geomspace(1e8, 1e11, 20_001)
    tokens = flops / 6 / params
    loss = np.log(LAW(params, tokens)) + bend * np.log(params / 3e8) * np.log(tokens / 1e10)
    truth = tokens[np.argmin(loss)] / params[np.argmin(loss)]
    assert truth < 0.8 * LAW.ratio(flops)
    assert truth in bent.optimum(flops).ratio
    assert bent.optimum(flops).ratio.value == pytest.approx(truth, rel=0.3)
    log_params, log_tokens = bent.splits([1e20, flops])
    assert log_params[0, 1] + log_tokens[0, 1] == pytest.approx(np.log(flops / 6))
    wanted = optimum(bent, params=float(np.exp(log_params[0, 1])))
    assert wanted.flops == pytest.approx(flops, rel=0.02)


def test_more_knots_keep_the_features_and_leave_less_open():
    params, tokens = np.geomspace(1e7, 1e11, 9), np.geomspace(1e11, 1e9, 9)
    basis = Basis.of(np.geomspace(1e8, 1e9, 7), np.geomspace(3e9, 1e10, 7))
    wide = basis.wider()
    few, open_few = basis.features(params, tokens)
    many, open_many = wide.features(params, tokens)
    for first, second in zip(basis.knots, wide.knots, strict=True):
        assert np.array_equal(first, second[: first.size])
    start = wide.knots[0].size
    assert many[:, : basis.knots[0].size] == pytest.approx(few[:, : basis.knots[0].size])
    assert many[:, start : start + basis.knots[1].size] == pytest.approx(
        few[:, basis.knots[0].size : -1]
    )
    assert np.sum(many**2, axis=1) + open_many == pytest.approx(np.sum(few**2, axis=1) + open_few)
    assert np.all(open_many <= open_few + 1e-9)
    assert np.all(open_many < 0.5)


def test_of_rows_without_trunks_the_top_of_compute_is_held_out_too():
    table = grid()
    loose = Table(params=table.params, tokens=table.tokens, loss=table.loss)
    made = fit_law(loose, "auto", bootstrap=100)
    assert [held.rows for held in made.holdouts] == [4, 3]
    assert made.holdout_by_compute.mean_relative_error < 0.005
    read = Fit.from_json(made.to_json())
    assert read.holdout_by_compute == made.holdout_by_compute
    assert fit_law(loose, "auto", bootstrap=100, holdout="params>=1e9").holdout_by_compute is None
    assert fit_law(table, "auto", bootstrap=100).holdout_by_compute is None  # whole trunks: a size


@pytest.mark.parametrize(
    ("given", "law"),
    [
        ({}, "auto"),
        ({"fix": {"E": 1.0}}, "chinchilla"),
        ({"tie": {"beta": "alpha"}}, "chinchilla"),
        ({"objective": "mse-log"}, "chinchilla"),
        ({"intervals": "none"}, "chinchilla"),
        ({"bootstrap": 0}, "chinchilla"),
    ],
)
def test_the_default_is_auto_unless_an_option_is_of_one_form(given, law):
    assert fit_law(grid(), holdout=None, **given).law == law


def test_rows_that_no_law_explains_are_told_as_by_other_laws():
    table = grid()
    units = Table(params=table.params * 1e6, tokens=table.tokens, loss=table.loss)
    assert "odd-units" in codes(fit_law(units, "auto", bootstrap=100))
    rises = np.where(np.arange(table.rows) == 11, 1.1 * table.loss, table.loss)
    assert "non-monotone" in codes(fit_law(table.with_columns(loss=rises), "auto", bootstrap=100))


def codes(made):
    return {warning.code for warning in made.warnings}


def test_without_a_lowest_loss_within_reach_there_is_no_optimum(fitted):
    draws = fitted.draws.copy()
    draws[:, Auto.index("A")] = 0  # size is worth nothing
    flat = dataclasses.replace(fitted, draws=draws)
    assert not flat.has_optimum
    with pytest.raises(FitError) as caught:
        flat.optimum(1e21)
    assert (caught.value.code, caught.value.values["term"]) == ("no-optimum", "N")
    assert json.loads(flat.to_json())["exponents"]["a"] is None


def test_a_seed_gives_one_fit(fitted):
    again = fit_law(grid(), "auto")
    assert again.to_json() == fitted.to_json()


def test_a_written_fit_forecasts_the_same(fitted):
    read = Fit.from_json(fitted.to_json())
    at = {"params": 2e10, "tokens": 4e11}
    assert read.predict(**at) == fitted.predict(**at)
    assert read.optimum(1e22) == fitted.optimum(1e22)
    assert read.exponents == fitted.exponents
    assert read.misfit.widening == fitted.misfit.widening


def test_the_hold_out_is_forecast_by_the_same_method(fitted):
    assert fitted.holdout.rows == RATIOS.size
    assert fitted.holdout.covered == 1
    assert fitted.holdout.mean_relative_error < 0.01


def test_every_form_is_tried_on_every_fold(fitted):
    tried = fitted.details["extrapolations"]
    assert {each["form"] for each in tried} == set(FORMS)
    assert len(tried) == len(FORMS) * len(list(folds(grid())))
    assert sum(each["weight"] for each in fitted.details["forms"]) == pytest.approx(1)


def test_folds_hold_out_whole_trunks_and_keep_enough_sizes():
    table = grid(seeds=2)
    for fold in folds(table):
        held = fold.held
        assert not set(table.trunk[held]) & set(table.trunk[~held])
        assert np.unique(table.params[~held]).size >= rolling.MIN_SIZES
        assert fold.decades > 0
    assert not list(folds(grid(sizes=SIZES[:3])))


def tried(form, score, squared):
    return Extrapolation(
        form=form,
        axis="size",
        factor=2.0,
        rows=4,
        decades=0.3,
        error=0.01,
        bias=0.0,
        squared=squared,
        score=score,
    )


def test_the_form_that_extrapolates_best_weighs_most():
    found = [tried("coupled", 4.0, 1.0), tried("chinchilla", 1.0, 9.0), tried("no-floor", 0.0, 9.0)]
    weights = weights_of(found)
    assert weights["coupled"] > 0.8
    assert sum(weights.values()) == pytest.approx(1)
    even = widening(found, dict.fromkeys(FORMS, 1 / 3))
    assert widening(found, weights)["size"] < even["size"]
    assert even["compute"] < even["size"]


def test_without_folds_intervals_are_not_widened():
    assert widening((), weights_of(())) == {"compute": 1, "size": 1}


@pytest.mark.parametrize(
    "given",
    [{"delta": 1e-3}, {"fix": {"E": 1.0}}, {"objective": "mse-log"}, {"intervals": "none"}],
)
def test_options_of_one_form_are_refused(given):
    with pytest.raises(FitError) as caught:
        fit_law(grid(), "auto", **given)
    assert caught.value.code == "contradicting-options"


def test_too_few_draws_are_refused():
    with pytest.raises(FitError) as caught:
        fit_law(grid(), "auto", bootstrap=0)
    assert (caught.value.code, caught.value.values["option"]) == ("out-of-range", "bootstrap")


def test_a_fit_without_its_misfit_or_of_other_draws_is_refused(fitted):
    whole = json.loads(fitted.to_json(draws=60))
    for edit in (
        lambda fit: fit.pop("misfit"),
        lambda fit: fit["misfit"]["draws"].pop(),
        lambda fit: fit["misfit"]["draws"][3].pop(),
        lambda fit: fit["misfit"]["form"].__setitem__(0, 3),
        lambda fit: fit["misfit"]["knots"][0].reverse(),
        lambda fit: fit["misfit"].update(reach=0),
        lambda fit: fit["misfit"]["widening"].pop("size"),
    ):
        edited = copy.deepcopy(whole)
        edit(edited)
        with pytest.raises(FitError):
            Fit.from_json(json.dumps(edited))


def test_points_are_computed_in_blocks(monkeypatch):
    model = Model.of(grid(), "coupled")
    mean, spread = model.prior
    points = mean + spread * np.random.default_rng(2).normal(size=(7, mean.size)) / 2
    once = model.log_density(points)
    monkeypatch.setattr("windtunnel.laws.auto.model.BLOCK", 2 * model.features.size)
    assert model.log_density(points) == pytest.approx(once, rel=1e-12)


def test_a_failed_run_counts_less_and_is_told(fitted):
    table = grid()
    loss = np.where(np.arange(table.rows) == 5, 1.3 * table.loss, table.loss)
    spoilt = fit_law(
        Table(params=table.params, tokens=table.tokens, loss=loss), "auto", holdout=None
    )
    assert "weighted-down" in {warning.code for warning in spoilt.warnings}
    assert spoilt.details["weighted_down"] >= 1
    at = {"params": 5e9, "tokens": 1e11}
    assert spoilt.predict(**at).value == pytest.approx(fitted.predict(**at).value, rel=0.02)


def test_too_small_a_table_is_refused():
    with pytest.raises(FitError) as caught:
        fit_law(grid(sizes=SIZES[:3]).subset(np.arange(12) % 4 == np.arange(12) // 4), "auto")
    assert caught.value.code == "too-few-rows"
    with pytest.raises(FitError) as caught:
        fit_law(grid(sizes=SIZES[:2]), "auto")
    assert (caught.value.code, caught.value.values["needed"]) == ("too-few-values", 3)
