"""A seed noise that is known from elsewhere, for a table of one seed a cell."""

import numpy as np
import pytest
from law_errors import refuses
from scipy.stats import multivariate_normal

from windtunnel.laws import Fit, Table, fit
from windtunnel.laws.auto.model import SAME_INTERVAL, Model
from windtunnel.laws.noise import gls
from windtunnel.laws.point_estimate import DELTA_PER_SIGMA

SIGMA = float(np.hypot(0.003, 0.001))
"""Of the tables of `conftest`."""
QUICK = {"bootstrap": 100, "holdout": None}


def width(found, name):
    low, high = found.intervals[name]
    return high - low


def codes(found):
    return {warning.code for warning in found.warnings}


@pytest.mark.medium
@pytest.mark.parametrize("law", ["chinchilla", "coupled"])
def test_it_narrows_intervals_and_sets_the_delta(table, law):
    runs = table(seed=1, seeds=1)
    plain, told = (fit(runs, law, noise=noise, **QUICK) for noise in (None, SIGMA))
    assert told.delta == pytest.approx(DELTA_PER_SIGMA * SIGMA)
    assert told.sigma_seed == SIGMA
    assert np.hypot(told.sigma_trunk, told.sigma_branch) == pytest.approx(SIGMA)
    assert width(told, "beta") < width(plain, "beta")
    assert {"noise-unidentified", "few-trunks"} <= codes(plain)
    assert not {"noise-unidentified", "few-trunks", "lack-of-fit"} & codes(told)
    assert 0.01 < told.lack_of_fit_p <= 1


@pytest.mark.medium
def test_nine_in_ten_intervals_hold_the_truth(table, planted):
    inside = []
    for seed in range(20):
        spans = fit(table(seed=seed, seeds=1), "chinchilla", noise=SIGMA, **QUICK).intervals
        inside += [spans[n][0] <= v <= spans[n][1] for n, v in planted.coefficients.items()]
    assert 0.75 <= np.mean(inside) <= 1


def test_too_few_trunks_have_intervals_with_it(table):
    runs = table(seeds=1, sizes=[1e5, 1e6, 1e7])
    assert fit(runs, "chinchilla", **QUICK).intervals == {}
    found = fit(runs, "chinchilla", noise=SIGMA, bootstrap=100)
    assert np.isfinite(found.intervals["beta"]).all()
    assert np.isfinite(found.predict(2e6, 4e7).low)


def test_residuals_beyond_it_are_lack_of_fit_and_count_as_noise(table):
    runs = table(seed=0, seeds=1)
    found = fit(runs, "chinchilla", noise=5e-4, delta=1e-3, **QUICK)
    (told,) = (w.values for w in found.warnings if w.code == "lack-of-fit")
    assert (told["sigma_seed"], told["p"]) == (5e-4, found.lack_of_fit_p)
    assert told["p"] < 1e-6
    plain = fit(runs, "chinchilla", delta=1e-3, **QUICK)
    assert found.intervals == plain.intervals
    assert found.sigma_trunk == plain.sigma_trunk


def test_measured_seeds_come_first(table):
    runs = table(seed=0)
    plain, told = (fit(runs, "chinchilla", noise=noise, **QUICK) for noise in (None, 0.01))
    (warning,) = (w for w in told.warnings if w.code == "noise-measured")
    assert warning.values == {"given": 0.01, "measured": told.sigma_seed}
    assert (told.intervals, told.delta) == (plain.intervals, plain.delta)


def test_squares_of_noise_alone_are_chi_square():
    rng = np.random.default_rng(0)
    trunk = np.repeat(np.arange(12), 4)
    design = np.stack([np.ones(48), np.tile([1.0, 2, 3, 4], 12), trunk])
    drawn = []
    for _ in range(300):
        noise = 0.3 * rng.standard_normal(12)[trunk] + 0.1 * rng.standard_normal(48)
        squares, df = gls(noise, design, trunk, 0.09, 0.01)
        drawn.append(squares)
    assert df == 45
    assert np.mean(drawn) == pytest.approx(45, rel=0.05)
    assert np.var(drawn) == pytest.approx(90, rel=0.3)


@pytest.mark.parametrize(
    ("law", "noise", "code", "values"),
    [
        ("power", 0.002, "contradicting-options", {"law": "power", "options": ["noise"]}),
        ("isoflop", 0.002, "contradicting-options", {"law": "isoflop"}),
        ("lr-valley", 0.002, "contradicting-options", {"law": "lr-valley"}),
        ("chinchilla", 0.0, "out-of-range", {"option": "noise", "value": 0.0}),
        ("chinchilla", 2.0, "out-of-range", {"option": "noise", "value": 2.0}),
    ],
)
def test_where_it_is_refused(table, law, noise, code, values):
    with refuses(code, **values):
        fit(table(), law, noise=noise)


# `--law auto`


def loose(runs):
    """The same table without its trunk column."""
    return Table(runs.columns)


def single_runs(table, seed, sigma=0.003):
    """Six sizes of four lengths each, one run a cell, rows independent."""
    sizes, horizons = np.geomspace(1e5, 3.2e6, 6), (10, 30, 90, 270)
    runs = table(
        seed=seed, seeds=1, sizes=sizes, horizons=horizons, sigma_trunk=0, sigma_branch=sigma
    )
    return loose(runs)


def half_width(found, times=1):
    params = times * found.domain["params"][1]
    forecast = found.predict(params, 20 * params)
    return np.log(forecast.high / forecast.low) / 2


@pytest.mark.medium
def test_auto_takes_it_and_stays_the_default(table):
    runs = single_runs(table, 0)
    plain, told = (fit(runs, noise=noise, **QUICK) for noise in (None, 0.003))
    assert (plain.law, told.law) == ("auto", "auto")
    assert "known_noise" not in plain.details
    assert told.details["known_noise"] == {"given": 0.003, "used": True}
    assert (told.sigma_seed, told.sigma_trunk) == (0.003, 0.0)
    assert told.sigma_branch == pytest.approx(0.003)
    assert np.ptp(told.sigma_draws[:, 1]) < 1e-9 < np.ptp(plain.sigma_draws[:, 1])
    assert 0.01 < told.lack_of_fit_p <= 1
    assert plain.lack_of_fit_p is None
    read = Fit.from_json(told.to_json())
    assert (read.details["known_noise"], read.sigma_seed) == (told.details["known_noise"], 0.003)
    loud = fit(runs, noise=0.009, **QUICK)
    assert half_width(loud) > 1.5 * half_width(told)


@pytest.mark.medium
def test_auto_splits_it_between_trunks_and_runs(table):
    found = fit(table(seed=1, seeds=1), "auto", noise=SIGMA, **QUICK)
    both = np.hypot(found.sigma_draws[:, 0], found.sigma_draws[:, 1])
    assert both == pytest.approx(SIGMA, rel=1e-6)
    assert found.sigma_branch == pytest.approx(0.001, rel=0.5)
    assert found.sigma_trunk > 0.002


@pytest.mark.medium
def test_auto_refuses_a_noise_that_rows_exceed(table):
    runs = single_runs(table, 1)
    plain, told = (fit(runs, "auto", noise=noise, **QUICK) for noise in (None, 5e-4))
    assert told.details["known_noise"] == {"given": 5e-4, "used": False}
    (values,) = (w.values for w in told.warnings if w.code == "lack-of-fit")
    assert (values["sigma_seed"], values["p"]) == (5e-4, told.lack_of_fit_p)
    assert told.lack_of_fit_p < 0.01
    assert told.intervals == plain.intervals
    assert np.array_equal(told.sigma_draws, plain.sigma_draws)


@pytest.mark.medium
def test_auto_lets_measured_seeds_come_first(table):
    runs = table(seed=0)
    plain, told = (fit(runs, "auto", noise=noise, **QUICK) for noise in (None, 0.01))
    (warning,) = (w for w in told.warnings if w.code == "noise-measured")
    assert warning.values == {"given": 0.01, "measured": told.sigma_seed}
    assert told.details["known_noise"] == {"given": 0.01, "used": False}
    assert told.intervals == plain.intervals


@pytest.mark.slow
def test_auto_with_it_covers_new_runs(table, planted):
    """Of 8 tables of a trunk a size: forecasts at the largest, 2 and 8 times as large."""
    inside = {None: [], SIGMA: []}
    for seed in range(8):
        runs, rng = table(seed=seed, seeds=1), np.random.default_rng([seed, 1])
        for noise, found in inside.items():
            made = fit(runs, "auto", noise=noise, **QUICK)
            for times in (1, 2, 8):
                params = times * runs.params.max()
                run = planted(params, 20 * params) * np.exp(SIGMA * rng.standard_normal())
                found.append(run in made.predict(params, 20 * params))
    assert np.mean(inside[SIGMA]) >= 0.85
    assert np.mean(inside[SIGMA]) >= np.mean(inside[None])


@pytest.mark.parametrize("trunks", [True, False])
def test_the_density_with_it_is_that_of_the_dense_normal(table, trunks):
    runs = table(seed=2, seeds=1)
    model = Model.of(runs if trunks else loose(runs), "coupled", 0.004)
    assert ("trunk_share" in model.names) is trunks
    assert not {"sigma_run", "sigma_trunk", "off"} & set(model.names)
    mean, spread = model.prior
    point = (mean + spread * np.random.default_rng(0).normal(size=mean.size) / 2)[None]
    run, trunk = (model.sigma(point, f"sigma_{name}")[0, 0] for name in ("run", "trunk"))
    assert np.hypot(SAME_INTERVAL * run, trunk) == pytest.approx(0.004)
    covariance = np.diag(np.full(runs.rows, run**2))
    covariance += model.sigma(point, "sigma_misfit")[0] ** 2 * model.features @ model.features.T
    for level in model.levels:
        same = level.index[:, None] == level.index[None]
        covariance += model.sigma(point, level.name)[0] ** 2 * same
    left = model.log_loss - model.log_law(point)[0]
    expected = multivariate_normal(cov=covariance).logpdf(left)
    expected += runs.rows * np.log(2 * np.pi) / 2 - np.sum(((point - mean) / spread) ** 2) / 2
    assert model.log_density(point) == pytest.approx([expected])
