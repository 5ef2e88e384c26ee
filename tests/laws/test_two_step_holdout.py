"""Hold-outs of two-step laws: points of the largest budget or size, forecast with an interval."""

import json
import math

import numpy as np
import pytest
from law_errors import refuses
from test_isoflop import make
from test_lr_valley import planted

from windtunnel.laws import Fit, fit

SIZES = (4e7, 8e7, 1.6e8, 3.2e8, 6.4e8)


def fitted(table, law, **options):
    return fit(table, law, **{"bootstrap": 150, **options})


def missed(found):
    return [warning.values for warning in found.warnings if warning.code == "holdout-missed"]


def moved(law):
    """A planted table, and the same with the optimum of its largest budget or size moved."""
    if law == "isoflop":
        table, column, by, top = make(1, sigma=0.002), "params", 2.5, 5e20
        return table, table.with_columns(
            params=np.where(table["flops"] > top, by, 1) * table[column]
        )
    table = planted(1, sizes=SIZES, sigma=0.002, seeds=2)
    return table, table.with_columns(lr=np.where(table.params > 6e8, 3, 1) * table["lr"])


@pytest.mark.medium
@pytest.mark.parametrize(("law", "rows"), [("isoflop", 9), ("lr-valley", 14)])
def test_a_moved_optimum_is_outside_its_interval(law, rows):
    plain, off = (fitted(table, law) for table in moved(law))
    held = plain.holdout
    assert (held.rows, held.trunks, len(held.points)) == (rows, rows, 1)
    assert held.low < held.error < held.high
    assert (held.inside, held.covered) == (True, 1.0)
    ((measured, forecast, low, high),) = held.points
    assert low < measured < high
    assert forecast == pytest.approx(measured * math.exp(held.error))
    assert missed(plain) == []
    (values,) = missed(off)
    assert (off.holdout.inside, off.holdout.covered) == (False, 0.0)
    assert values["error"] == off.holdout.error < values["low"] == off.holdout.low
    assert values["high"] == off.holdout.high


@pytest.mark.medium
def test_several_points_are_held_out_by_a_mask():
    table = make(1, sigma=0.002)
    held = fitted(table, "isoflop", holdout=table["flops"] > 9e19).holdout
    assert (held.rows, len(held.points), held.covered) == (27, 3, 1.0)
    assert list(held.by_group) == ["flops=1e+20", "flops=3e+20", "flops=6e+20"]
    again = fitted(table, "isoflop", holdout="flops>9e19")
    assert again.holdout == held
    assert Fit.from_json(json.dumps(json.loads(again.to_json()))).holdout == held


def test_two_points_leave_no_scatter_and_no_interval():
    found = fitted(planted(1, sizes=SIZES[:3], sigma=0.002, seeds=2), "lr-valley")
    held = found.holdout
    assert (held.inside, held.covered) == (None, None)
    assert np.isnan([held.low, held.high]).all()
    assert missed(found) == []


@pytest.mark.parametrize("law", ["isoflop", "lr-valley"])
def test_which_rows_it_refuses(law):
    table, _ = moved(law)
    with refuses("unknown-trunk", trunk="9999"):
        fitted(table, law, holdout=["9999"])
    with refuses("empty-holdout", held=0, rows=table.rows):
        fitted(table, law, holdout=np.zeros(table.rows, bool))


@pytest.mark.medium
def test_nine_in_ten_points_lie_inside():
    tables = (planted(seed, sizes=SIZES, sigma=0.003, seeds=2) for seed in range(40))
    inside = [fitted(table, "lr-valley").holdout.inside for table in tables]
    assert sum(inside) >= 32
