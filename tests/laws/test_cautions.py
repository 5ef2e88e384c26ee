"""Every warning fires when it should, with its number, and a good design earns none."""

import dataclasses

import numpy as np
import pytest

from windtunnel.laws import Influence, cautions, fit_chinchilla
from windtunnel.laws.point import best_point
from windtunnel.laws.uncertainty import Resamples

SMALL = {"sigma_trunk": 0.001, "sigma_branch": 0.001}


def warnings_of(runs, **options):
    return fit_chinchilla(runs, **{"bootstrap": 200, **options}).warnings


def fires(warnings, start):
    return [w for w in warnings if w.startswith(start)]


def test_a_good_design_earns_none(table):
    assert warnings_of(table(seed=1)) == ()
    assert warnings_of(table(sigma_trunk=0, sigma_branch=0)) == ()


def test_collinear_horizons_say_r(table):
    runs = table(sizes=np.geomspace(1e5, 1e7, 5), horizons=(10, 15, 20, 30, 40, 60), **SMALL)
    r = np.corrcoef(np.log(runs.params), np.log(runs.tokens))[0, 1]
    assert r > 0.9
    assert fires(warnings_of(runs), f"ln N and ln D are collinear (r = {r:.2f})")


def test_one_seed(table):
    found = warnings_of(table(seeds=1, **SMALL))
    assert fires(found, "no cell has two seeds")
    assert fires(found, "trunk noise rests on 2.0 degrees of freedom")
    runs = table(**SMALL)
    part = runs.subset(runs.trunk != "9")
    assert fires(warnings_of(part), "5 of 25 cells have one seed only")


def test_too_few_trunks_get_no_interval(table):
    fit = fit_chinchilla(table(seeds=1, sizes=[1e5, 1e6, 1e7], **SMALL))
    assert fit.intervals == {}
    assert fires(fit.warnings, "3 trunks leave no degree of freedom")
    assert fires(fit.warnings, "no hold-out of the largest size")


def test_rows_without_shared_trunks(table):
    runs = dataclasses.replace(table(**SMALL), trunk=np.arange(50))
    assert fires(warnings_of(runs), "every trunk has one row")


def test_mixed_decayed_and_undecayed_rows(table):
    runs = table(**SMALL)
    mixed = dataclasses.replace(runs, decayed=np.arange(50) >= 3)
    assert fires(warnings_of(mixed), "3 of 50 rows are not decayed")
    assert not fires(warnings_of(dataclasses.replace(runs, decayed=np.ones(50))), "0 of")


def test_another_flop_rule(table):
    runs = table(**SMALL)
    exact = dataclasses.replace(runs, flops=runs.budget * np.linspace(2, 1.2, 50))
    assert fires(warnings_of(exact), "the flops column is 1.20 to 2.00 times 6ND")


def test_wide_ratio_and_bound(table):
    found = warnings_of(table(sigma_trunk=0.05, sigma_branch=0.01))
    assert fires(found, "E is at its bound (0)")
    assert fires(found, "the interval of the optimal D/N at the largest budget is")


def test_lack_of_fit(table):
    runs = table(**SMALL)
    bent = runs.loss * np.where(runs.size_index == 2, 1.02, 1.0)
    assert fires(warnings_of(dataclasses.replace(runs, loss=bent)), "lack of fit (p = ")


def test_outliers(table):
    runs = table(**SMALL)
    wild = runs.loss * np.where(np.arange(50) == 7, 1.05, 1.0)
    assert fires(warnings_of(dataclasses.replace(runs, loss=wild)), "residuals have outliers")


def test_disagreeing_starts_and_no_convergence(table):
    good = best_point(table(), "huber-log", None)
    assert list(cautions.of_search(good)) == []
    bad = dataclasses.replace(good, starts_agreeing=31, converged=False, gradient=0.02)
    found = list(cautions.of_search(bad))
    assert found[0] == "the optimiser did not converge (scaled gradient 2.0e-02, not 0)"
    assert found[1] == "only 31 of 64 starts reached this optimum"


@pytest.mark.parametrize(("without", "count"), [(24.0, 0), (26.0, 1), (15.0, 1)])
def test_influence_beyond_half_of_the_interval(without, count):
    # The interval 15 to 24 is x1.6 wide; half of it is x1.265, so 20 may move to 25.3 or 15.8.
    influence = Influence("7", 1e16, 20.0, without)
    found = list(cautions.of_intervals((15.0, 24.0), Resamples.none(), influence))
    assert len(found) == count
    assert not found or found[0].startswith(f"without trunk 7 the optimal D/N is {without:.3g}")
