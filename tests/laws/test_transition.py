"""Transitions told by planted copy gains: within a ladder, ahead of it, and in its forecasts."""

import json

import numpy as np
import pytest

from windtunnel.laws import Fit, Table
from windtunnel.laws import fit as fit_law
from windtunnel.laws.transition import AFTER, BEFORE, EFFECT, FEWEST, CopyTrend, within

N, D = (each.ravel() for each in np.meshgrid([1e5, 2e5, 4e5], [2e6, 4e6, 8e6, 16e6]))
DOMAIN = {"params": (1e5, 4e5), "tokens": (2e6, 16e6)}
QUICK = {"law": "chinchilla", "bootstrap": 60, "holdout": None}


def power(params, tokens):
    """0.02 nats in the middle of the ladder, 30% more a doubling of tokens, 10% of size."""
    at = np.log2(np.asarray(params) / 2e5), np.log2(np.asarray(tokens) / np.sqrt(2e6 * 16e6))
    return 0.02 * 1.1 ** at[0] * 1.3 ** at[1]


def a_table(gain, error=0.001):
    copying = np.stack([gain, np.full(gain.shape, error)], axis=1)
    return Table(params=N, tokens=D, loss=np.full(N.size, 2.0), copying=copying)


def test_a_ladder_on_both_sides_is_told():
    gain = np.full(N.size, 0.01)
    gain[:3], gain[3:5] = AFTER + 0.02, (AFTER + BEFORE) / 2
    found = within(a_table(gain))
    assert found.code == "transition"
    assert found.values == {"where": "ladder", "before": 7, "after": 3, "rows": 12}


@pytest.mark.parametrize(
    ("gain", "error"),
    [(BEFORE - 0.001, 0.001), (AFTER + 0.001, 0.001), ((BEFORE + AFTER) / 2, 0.001)],
)
def test_a_ladder_on_one_side_is_not(gain, error):
    assert within(a_table(np.full(N.size, gain), error)) is None


def test_a_gain_within_its_error_is_no_copying():
    gain = np.full(N.size, 0.01)
    gain[0] = 0.09
    assert within(a_table(gain, error=0.031)) is None
    assert within(a_table(gain, error=0.029)).values["after"] == 1
    assert within(a_table(gain, error=np.nan)) is None


def test_the_trend_of_a_planted_power_is_recovered():
    trend = CopyTrend.of(a_table(power(N, D)))
    assert trend.powers == pytest.approx((np.log2(1.1), np.log2(1.3)))
    assert trend.gain(8e5, 64e6) == pytest.approx(float(power(8e5, 64e6)))
    assert (trend.rows, trend.before, trend.after) == (12, 12, 0)
    assert trend.highest == power(N, D).max()
    tokens = trend.crossing(2e5)
    assert power(2e5, tokens) == pytest.approx(BEFORE)
    assert CopyTrend.read(json.loads(json.dumps(trend.document()))) == trend
    assert CopyTrend.read(None) is None


def test_a_trend_along_compute_alone_is_shared_by_size_and_tokens():
    count = np.arange(4)
    copying = np.stack([0.01 * 1.5**count, np.full(4, 0.001)], axis=1)
    table = Table(params=1e5 * 2.0**count, tokens=1e6 * 2.0**count, copying=copying)
    trend = CopyTrend.of(table)
    assert trend.powers == pytest.approx((np.log2(1.5) / 2, np.log2(1.5) / 2))
    assert trend.gain(1e5 * 2**5, 1e6 * 2**5) == pytest.approx(0.01 * 1.5**5)


def test_gains_of_nothing_have_no_trend_that_crosses():
    rng = np.random.default_rng(0)
    trend = CopyTrend.of(a_table(0.001 * rng.standard_normal(N.size)))
    assert trend.gain(1e6, 1e8) < BEFORE
    falling = CopyTrend.of(a_table(0.02 * (D / 2e6) ** -0.5))
    assert falling.crossing(1e5) is None


def test_rows_without_a_copy_gain_are_left_out_and_few_have_no_trend():
    gain = power(N, D)
    gain[FEWEST:] = np.nan
    assert CopyTrend.of(a_table(gain)).rows == FEWEST
    gain[0] = np.nan
    assert CopyTrend.of(a_table(gain)) is None
    assert Table(params=N, tokens=D, copying=np.full((12, 2), np.nan)).copying is None


def test_a_target_beyond_the_ladder_is_told_where_the_trend_crosses():
    trend = CopyTrend.of(a_table(power(N, D)))
    tokens = trend.crossing(8e5)
    assert tokens > DOMAIN["tokens"][1]
    assert trend.ahead(DOMAIN, 8e5, tokens * 0.99) == ()
    (found,) = trend.ahead(DOMAIN, 8e5, tokens * 1.01)
    assert found.code == "transition"
    assert found.values == {
        "where": "trend", "before": 12, "after": 0, "rows": 12, "highest": trend.highest,
        "threshold": BEFORE, "crossing": tokens, "share": EFFECT,
    }  # fmt: skip
    steep = CopyTrend.of(a_table(np.minimum(power(N, D) * 3, 0.045)))
    assert steep.ahead(DOMAIN, 4e5, 16e6) == ()  # no extrapolation


def test_a_target_beyond_a_ladder_on_both_sides_is_told_and_one_beyond_the_transition_is_not():
    both = CopyTrend.of(a_table(np.where(D > 1e7, 0.2, 0.01)))
    (found,) = both.ahead(DOMAIN, 4e5, 32e6)
    assert (found.values["where"], found.values["after"]) == ("ladder", 3)
    assert CopyTrend.of(a_table(np.full(12, 0.2))).ahead(DOMAIN, 4e5, 1e9) == ()


def with_copying(table, gain):
    runs = table()
    return runs, Table(
        runs.columns, trunk=runs.trunk,
        copying=np.stack([gain(runs.params, runs.tokens), np.full(runs.rows, 0.001)], axis=1),
    )  # fmt: skip


@pytest.mark.parametrize("law", ["chinchilla", pytest.param("auto", marks=pytest.mark.medium)])
def test_a_forecast_holds_a_transition_that_its_trend_foresees(table, law):
    options = QUICK | {"law": law}
    runs, copying = with_copying(table, lambda n, d: 0.01 * (d / 1e7) ** 0.2)
    plain, found = fit_law(runs, **options), fit_law(copying, **options)
    assert found.coefficients == plain.coefficients
    assert [w.code for w in found.warnings] == [w.code for w in plain.warnings]
    far, near = (6.4e6, 1e12), (1e6, 1e8)
    law_alone, held = plain.predict(*far), found.predict(*far)
    assert (held.value, held.high) == (law_alone.value, law_alone.high)
    assert held.low == pytest.approx(law_alone.low * (1 - EFFECT))
    assert (held.transition.share, held.transition.low) == (EFFECT, law_alone.low)
    assert held.warnings[-1].code == "transition"
    assert held.warnings[:-1] == law_alone.warnings
    assert found.predict(*near) == plain.predict(*near)
    assert found.predict(*near).transition is None
    again = Fit.from_json(found.to_json())
    assert again.predict(*far).transition.low == pytest.approx(law_alone.low)
    assert [w.code for w in again.warnings] == [w.code for w in found.warnings]


def test_a_fit_across_a_transition_warns_and_its_sides_do_not(table):
    _, copying = with_copying(table, lambda n, d: np.where(d > 1e7, 0.1, 0.01))
    found = fit_law(copying, **QUICK)
    codes = {w.code: w for w in found.warnings}
    assert codes["transition"].values["where"] == "ladder"
    side = copying.subset(copying.copying[:, 0] < BEFORE)
    assert "transition" not in {w.code for w in fit_law(side, **QUICK).warnings}


def test_columns_of_copy_gains_are_taken_and_missing_ones_drop_no_row(table):
    runs = table()
    gain = np.where(runs.tokens > 1e7, 0.1, 0.01)
    gain[:2] = np.nan
    columns = dict(runs.columns, trunk=runs.trunk, copy_gain=gain)
    found = fit_law(columns | {"copy_gain_se": np.full(runs.rows, 0.002)}, **QUICK)
    assert found.rows == runs.rows
    assert found.details["copy_gain"]["rows"] == runs.rows - 2
    told = next(w for w in found.warnings if w.code == "transition")
    assert told.values["before"] + told.values["after"] == runs.rows - 2
    unsure = fit_law(columns, **QUICK)
    assert "copy_gain" not in unsure.details
    assert "transition" not in {w.code for w in unsure.warnings}
