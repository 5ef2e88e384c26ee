import numpy as np
import pytest
from law_errors import refuses
from scipy.optimize import minimize_scalar

from windtunnel.laws import Chinchilla

# MiniCPM (arXiv 2404.06395) Figure 10: N and D in 1e9, C in 1e18, loss per byte; last column D/N
# at 1e21 FLOPs, recomputed from the rounded constants (methodology 3.4).
MINICPM = [
    (3.32e-2, 0.37, 2.17e-1, 0.34, 0.17, 193.7),
    (8.08e-2, 0.26, 2.97e-1, 0.18, 0.27, 176.9),
    (5.14e-2, 0.35, 3.90e-1, 0.18, 0.40, 879.0),
    (7.54e-2, 0.30, 2.92e-1, 0.30, 0.25, 91.2),
    (1.53e-1, 0.19, 3.76e-1, 0.17, 0.35, 105.8),
    (7.15e-2, 0.29, 3.00e-1, 0.23, 0.31, 183.9),
]


def minicpm(constants, unit=1e9):
    A, alpha, B, beta, E = constants
    return Chinchilla.from_units(
        E=E, A=A, B=B, alpha=alpha, beta=beta, params_unit=unit, tokens_unit=unit
    )


@pytest.mark.parametrize("row", MINICPM)
def test_optimal_ratio_of_the_published_constants(row):
    *constants, ratio = row
    assert minicpm(constants).ratio(1e21) == pytest.approx(ratio, abs=0.06)


def test_constants_read_in_the_wrong_unit_give_nonsense():
    *average, _ = MINICPM[-1]
    assert minicpm(average, unit=1.0).ratio(1e21) == pytest.approx(2.2e4, rel=0.01)


def test_ratio_follows_the_budget_by_eta():
    *average, _ = MINICPM[-1]
    law = minicpm(average)
    ratios = [law.ratio(flops) for flops in (1e18, 1e20, 1e21, 1e22, 1e23)]
    assert ratios == pytest.approx([83, 141, 184, 240, 313], abs=0.6)
    assert law.exponent == pytest.approx(-0.06 / 0.52)
    assert np.diff(np.log(ratios)[:2])[0] == pytest.approx(-law.exponent * np.log(100))


def test_optimum_spends_the_budget_and_no_other_split_is_better(planted):
    best = planted.optimum(5.76e23, flop_factor=6.5)
    assert 6.5 * best.params * best.tokens == pytest.approx(5.76e23)
    found = minimize_scalar(
        lambda x: float(planted(np.exp(x), 5.76e23 / 6.5 / np.exp(x))),
        bounds=(np.log(1e9), np.log(1e12)),
        method="bounded",
        options={"xatol": 1e-10},
    )
    assert best.loss == pytest.approx(found.fun, rel=1e-12)
    assert np.log(best.params) == pytest.approx(found.x, abs=1e-4)


def test_predict_broadcasts(planted):
    loss = planted(np.array([[1e8], [1e9]]), np.array([1e9, 1e10, 1e11]))
    assert loss.shape == (2, 3)
    assert loss[1, 2] == pytest.approx(1.69 + 406.4 * 1e9**-0.34 + 410.7 * 1e11**-0.28)


@pytest.mark.parametrize("bad", [{"alpha": 0.0}, {"beta": -0.1}, {"E": -1e-9}, {"A": np.nan}])
def test_impossible_coefficients_are_refused(bad):
    with refuses("out-of-range", law="chinchilla", coefficient=next(iter(bad))):
        Chinchilla(**{"E": 1.0, "A": 1.0, "B": 1.0, "alpha": 0.3, "beta": 0.3, **bad})
