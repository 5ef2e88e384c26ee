"""A coefficient fixed to a band: the law at both ends and in the middle."""

import json

import pytest
from law_errors import refuses

from windtunnel.laws import Fit, fit

QUICK = {"bootstrap": 30, "holdout": None}


def test_the_laws_of_a_band_are_those_of_single_fits(table):
    runs = table(seed=2)
    found = fit(runs, "chinchilla", fix={"E": (1.4, 1.9)}, **QUICK)
    band = found.details["band"]
    assert (band["fixed"], band["low"], band["high"]) == ("E", 1.4, 1.9)
    assert [law["E"] for law in band["laws"]] == pytest.approx([1.4, 1.65, 1.9])
    assert found.coefficients["E"] == pytest.approx(1.65)
    for law in band["laws"]:
        alone = fit(runs, "chinchilla", fix={"E": law["E"]}, **QUICK)
        assert law["alpha"] == pytest.approx(alone.coefficients["alpha"])
        assert law["objective"] == pytest.approx(alone.objective_value)
        best = alone.optimum(band["flops"])
        assert law["ratio"] == pytest.approx(best.ratio.value)
        assert law["loss"] == pytest.approx(best.loss.value)
    low, middle, high = (law["ratio"] for law in band["laws"])
    assert low != middle != high
    (warning,) = [w for w in found.warnings if w.code == "conditional-intervals"]
    assert warning.values["fixed"] == {"E": pytest.approx(1.65)}
    assert Fit.from_json(found.to_json()).details["band"] == json.loads(json.dumps(band))


def test_laws_without_a_split_have_a_band_of_coefficients():
    x = [1.0, 2, 5, 10, 30, 100]
    runs = {"x": x, "y": [1 + 2 * each**-0.5 for each in x]}
    band = fit(runs, "power-offset", fix={"c": (0.8, 1.2)}, **QUICK).details["band"]
    assert band["flops"] is None
    assert set(band["laws"][0]) == {"c", "a", "b", "objective", "residual_rms"}
    assert band["laws"][1]["b"] == pytest.approx(-0.5)


@pytest.mark.parametrize(
    ("fix", "code", "values"),
    [
        ({"E": (1, 2), "A": (1, 2)}, "contradicting-options", {"coefficients": ["E", "A"]}),
        ({"E": (2, 1)}, "out-of-order", {"coefficient": "E", "low": 2, "high": 1}),
        ({"alpha": (-1, 1)}, "out-of-range", {"coefficient": "alpha", "value": 0.0}),
    ],
)
def test_which_bands_it_refuses(table, fix, code, values):
    with refuses(code, **values):
        fit(table(), "chinchilla", fix=fix, **QUICK)
