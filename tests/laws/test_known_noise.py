"""A seed noise that is known from elsewhere, for a table of one seed a cell."""

import numpy as np
import pytest
from law_errors import refuses

from windtunnel.laws import fit
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
        ("auto", 0.002, "contradicting-options", {"law": "auto"}),
        ("chinchilla", 0.0, "out-of-range", {"option": "noise", "value": 0.0}),
        ("chinchilla", 2.0, "out-of-range", {"option": "noise", "value": 2.0}),
    ],
)
def test_where_it_is_refused(table, law, noise, code, values):
    with refuses(code, **values):
        fit(table(), law, noise=noise)
