"""Every warning fires when it should, with its number, and not where it should not.

Warnings of the laws that go through stages are tested beside those laws.
"""

import dataclasses

import numpy as np
import pytest
from law_errors import some_of

from windtunnel.laws import Chinchilla, Influence, LeaveOneOut, Table, fit_warnings
from windtunnel.laws import fit as fit_law
from windtunnel.laws.bootstrap import Resamples
from windtunnel.laws.point_estimate import best_point
from windtunnel.laws.problem import Problem

QUIET = {"sigma_trunk": 0.001, "sigma_branch": 0.001}


@pytest.fixture
def good(table):
    return table(seed=1)


def found(table, **options):
    return fit_law(table, **{"law": "chinchilla", "bootstrap": 200, **options}).warnings


def values(table, code, **options):
    fired = [w.values for w in found(table, **options) if w.code == code]
    assert fired, f"{code} did not fire"
    return fired[0]


def codes(table, **options):
    return {w.code for w in found(table, **options)}


def test_a_good_design_earns_none(table, good):
    assert found(good) == ()
    assert found(table(sigma_trunk=0, sigma_branch=0)) == ()


def test_collinear_says_r(table, good):
    runs = table(sizes=np.geomspace(1e5, 1e7, 5), horizons=(10, 15, 20, 30, 40, 60), **QUIET)
    r = np.corrcoef(np.log(runs.params), np.log(runs.tokens))[0, 1]
    assert r > 0.9
    assert values(runs, "collinear")["correlation"] == pytest.approx(r)
    assert "collinear" not in codes(good)


@pytest.mark.medium
def test_few_sizes_and_few_horizons(table, good):
    assert values(table(sizes=np.geomspace(1e5, 1e7, 4)), "few-sizes") == {"sizes": 4}
    assert values(table(horizons=(10, 40, 160)), "few-horizons") == {"horizons": 3}
    assert not codes(good) & {"few-sizes", "few-horizons"}
    # Many sizes with one run each have many horizons, though each size has one.
    scattered = table(sizes=np.geomspace(1e5, 1e7, 40), horizons=(20,), seeds=1, **QUIET)
    rng = np.random.default_rng(0)
    tokens = scattered.tokens * rng.uniform(0.2, 5, 40)
    law = Chinchilla(1.69, 406.4, 410.7, 0.34, 0.28)
    free = {"params": scattered.params, "tokens": tokens, "loss": law(scattered.params, tokens)}
    assert "few-horizons" not in codes(free, holdout=None)


@pytest.mark.medium
def test_noise_unidentified_with_one_seed(table, good):
    runs = table(seeds=1, **QUIET)
    assert values(runs, "noise-unidentified") == {"trunks": 5}
    assert values(runs, "few-trunks")["trunk_df"] == pytest.approx(2.0, abs=0.05)
    assert not codes(good) & {"noise-unidentified", "few-trunks"}


def test_too_few_trunks_get_no_interval(table):
    fit = fit_law(table(seeds=1, sizes=[1e5, 1e6, 1e7], **QUIET), "chinchilla")
    assert fit.intervals == {}
    found = [w.values for w in fit.warnings if w.code == "noise-unidentified"]
    assert any(each["trunks"] == 3 and each.get("trunk_df", 9) < 1 for each in found)
    assert "no-holdout" in [w.code for w in fit.warnings]


def test_rows_without_shared_trunks(table, good):
    runs = table(**QUIET)
    alone = Table(runs.columns, trunk=np.arange(50))
    assert values(alone, "one-row-trunks") == {"trunks": 50}
    assert "one-row-trunks" not in codes(good)


@pytest.mark.medium
def test_mixed_decay_leaves_the_undecayed_out(table):
    runs = table(**QUIET)
    mixed = Table(runs.columns, trunk=runs.trunk, decayed=np.arange(50) >= 3)
    fit = fit_law(mixed, bootstrap=0)
    assert fit.warnings[0].code == "mixed-decay"
    assert fit.warnings[0].values == {"undecayed": 3, "rows": 50}
    assert fit.rows == 47
    assert fit.dropped == (("not decayed", 3),)
    whole = Table(runs.columns, trunk=runs.trunk, decayed=np.ones(50))
    assert "mixed-decay" not in codes(whole)
    # Undecayed runs alone are one kind, and a law may go through them.
    assert fit_law(Table(runs.columns, trunk=runs.trunk, decayed=np.zeros(50))).rows == 50


def test_mixed_execution(table):
    runs = table(**QUIET)
    mixed = Table(runs.columns, trunk=runs.trunk, labels={"execution": np.arange(50) < 9})
    assert values(mixed, "mixed-execution") == {"executions": ["False", "True"]}
    same = Table(runs.columns, trunk=runs.trunk, labels={"execution": ["cpu"] * 50})
    assert "mixed-execution" not in codes(same)


def test_duplicate_rows(table, good):
    twice = {name: np.concatenate([good[name], good[name][:3]]) for name in good.columns}
    repeated = Table(twice, trunk=np.concatenate([good.trunk, good.trunk[:3]]))
    assert values(repeated, "duplicate-rows") == {"repeated": 3, "rows": 53}
    assert "duplicate-rows" not in codes(good)


def test_another_flop_rule(table, good):
    measured = good.with_columns(flops=good.budget * np.linspace(2, 1.2, 50))
    assert values(measured, "flop-rule") == {
        "low": pytest.approx(1.2),
        "high": pytest.approx(2.0),
        "rule": "6ND",
    }
    assert "flop-rule" not in codes(good.with_columns(flops=good.budget))


@pytest.mark.medium
def test_wide_ratio_bound_and_flat_direction(table, good):
    loud = table(sigma_trunk=0.05, sigma_branch=0.01)
    assert values(loud, "at-bound") == {"coefficient": "E", "value": 0.0}
    ratio = values(loud, "ratio-wide")
    assert ratio["high"] > 3 * ratio["low"]
    flat = values(loud, "flat-direction")
    assert flat["high"] > 10 * flat["low"]
    assert not codes(good) & {"at-bound", "ratio-wide", "flat-direction"}


@pytest.mark.medium
def test_lack_of_fit_and_under_tuned(table, good):
    runs = table(**QUIET)
    middle = runs.params == np.unique(runs.params)[2]
    bent = runs.with_columns(loss=runs.loss * np.where(middle, 1.02, 1.0))
    assert values(bent, "lack-of-fit")["p"] < 0.01
    assert values(bent, "under-tuned")["params"] == runs.params[middle][0]
    low = runs.with_columns(loss=runs.loss * np.where(middle, 0.98, 1.0))
    assert "under-tuned" not in codes(low)
    assert not codes(good) & {"lack-of-fit", "under-tuned"}


@pytest.mark.medium
def test_non_monotone(table, good):
    runs = table(**QUIET)
    loss = runs.loss.copy()
    loss[[3, 8]] *= 1.3  # the fourth horizon of two trunks
    assert values(runs.with_columns(loss=loss), "non-monotone") == {"rises": 2}
    assert "non-monotone" not in codes(good)


@pytest.mark.medium
def test_outliers(table, good):
    runs = table(**QUIET)
    loss = runs.loss * np.where(np.arange(50) == 49, 1.08, 1.0)
    wild = runs.with_columns(loss=loss)
    assert values(wild, "heavy-tails")["row"] == 49
    assert values(wild, "outlier-driven", objective="mse-log")["rows"] >= 1
    # Huber's objective is not moved by one row, and says so by its silence.
    assert not codes(good) & {"heavy-tails", "outlier-driven"}


@pytest.mark.medium
def test_ratio_outside_and_extrapolates(table, good):
    short = table(horizons=(1, 2, 4, 8), **QUIET)
    assert values(short, "ratio-outside")["quantity"] == "optimal D/N"
    long = table(horizons=(200, 800, 3200, 12800), **QUIET)
    beyond = values(long, "extrapolates")
    assert beyond["quantity"] == "optimal params at the largest budget"
    assert beyond["decades"] > 0
    assert not codes(good) & {"ratio-outside", "extrapolates"}


def test_a_missed_hold_out(table, good):
    off = np.where(good.params == good.params.max(), 1.05, 1.0)
    moved = good.with_columns(loss=good.loss * off)
    assert values(moved, "holdout-missed")["held"] == "largest size"
    assert "holdout-missed" not in codes(good)


@pytest.mark.medium
def test_a_hold_out_that_scatters_more_than_the_rest(table, good):
    rng = np.random.default_rng(0)
    runs = table(horizons=(5, 10, 20, 40, 80, 160, 300), sizes=np.geomspace(1e5, 3e6, 20), seeds=1)
    alone = Table(runs.columns)
    loud = alone.budget > np.quantile(alone.budget, 0.9)
    loss = alone.loss * np.exp(np.where(loud, 0.03, 0.0) * rng.standard_normal(alone.rows))
    warnings = found(alone.with_columns(loss=loss), holdout=loud)
    assert any(w.code == "holdout-missed" and w.values.get("rows") == 14 for w in warnings)
    assert "holdout-missed" not in codes(alone, holdout=loud)


def test_resamples_that_failed_or_are_few(good):
    resamples = Resamples(np.ones((100, 5)), np.ones((100, 3)), failed=2)
    (warning,) = fit_warnings.of_intervals(
        Chinchilla, resamples, np.ones((100, 5)), None, level=0.9
    )
    assert warning.code == "resamples-failed"
    assert warning.values == {"failed": 2, "resamples": 100}
    settled = dataclasses.replace(resamples, failed=1)
    assert not list(
        fit_warnings.of_intervals(Chinchilla, settled, np.ones((100, 5)), None, level=0.9)
    )
    assert values(good, "few-resamples", bootstrap=20) == {"resamples": 20}
    assert "few-resamples" not in codes(good)


def test_search_that_went_wrong(good):
    problem = Problem.of(Chinchilla, good)
    point = best_point(problem, good, "huber-log", None)
    assert list(fit_warnings.of_search(point)) == []
    bad = dataclasses.replace(point, starts_agreeing=3, converged=False, gradient_norm=0.02)
    assert [w.code for w in fit_warnings.of_search(bad)] == ["not-converged", "few-starts"]
    stuck = dataclasses.replace(point, moved=False, converged=False)
    assert [w.code for w in fit_warnings.of_search(stuck)] == ["start-point"]


@pytest.mark.parametrize(("without", "count"), [(24.0, 0), (26.0, 1), (15.0, 1)])
def test_influence_beyond_half_of_the_interval(without, count):
    # The interval 15 to 24 is x1.6 wide; half of it is x1.265, so 20 may move to 25.3 or 15.8.
    effect = LeaveOneOut("7", without, float(np.log(without / 20)))
    influence = Influence("ratio", 20.0, (), (effect,))
    warnings = list(fit_warnings.of_influence(influence, {"ratio": (15.0, 24.0)}, (0, {})))
    assert [w.code for w in warnings] == ["outlier-driven"] * count
    for warning in warnings:
        assert some_of(warning, ("label", "quantity", "without")) == {
            "label": "7",
            "quantity": "ratio",
            "without": without,
        }


@pytest.mark.parametrize(
    ("params", "tokens", "scale"),
    [
        (1e-6, 1, {"params": 1e6}),  # sizes in millions beside tokens
        (1e-3, 1e3, {"params": 1e6}),
        (1, 1e-6, {"tokens": 1e6}),
        (1e-6, 1e3, {"params": 1e9}),
    ],
)
def test_odd_units_advises_what_makes_the_ratio_usual(table, params, tokens, scale):
    large = table(sizes=np.geomspace(7e7, 1.2e10, 6), **QUIET)
    runs = large.with_columns(params=large.params * params, tokens=large.tokens * tokens)
    assert values(runs, "odd-units", holdout=None, bootstrap=0)["scale"] == scale
    ((name, factor),) = scale.items()
    right = runs.with_columns(**{name: runs[name] * factor})
    assert 1 < np.median(right.tokens / right.params) < 1000


def test_odd_units_says_that_columns_are_swapped_or_no_counts(table):
    large = table(sizes=np.geomspace(1e6, 1e8, 6), horizons=(80, 160, 320, 640), **QUIET)
    swapped = large.with_columns(params=large.tokens, tokens=large.params)
    assert values(swapped, "odd-units", holdout=None, bootstrap=0)["swapped"]
    none = large.with_columns(params=large.params * 1e9)
    odd = values(none, "odd-units", holdout=None, bootstrap=0)
    assert (odd["swapped"], odd["scale"]) == (False, {})


@pytest.mark.medium
def test_repeated_data(table, good):
    once = good.with_columns(epochs=np.full(good.rows, 0.4), unique_tokens=good.tokens)
    assert "repeated-data" not in codes(once, bootstrap=0)
    passes = np.linspace(1, 4, good.rows)
    twice = good.with_columns(unique_tokens=good.tokens / passes)
    repeated = values(twice, "repeated-data", bootstrap=0)
    assert repeated == {"repeated": 49, "rows": 50, "passes": pytest.approx(4.0)}
    few = twice.subset(np.arange(twice.rows) % 3 == 0)
    assert "repeated-data" in codes(few, bootstrap=0, holdout=None)
    assert "repeated-data" not in codes(few, law="data-constrained", bootstrap=0, holdout=None)
    assert "repeated-data" in codes(good.with_columns(epochs=passes), bootstrap=0)


def test_undecayed_rows(table, good):
    runs = Table(good.columns, trunk=good.trunk, decayed=np.zeros(good.rows))
    assert values(runs, "undecayed-rows", bootstrap=0) == {"rows": good.rows}
    ends = Table(good.columns, trunk=good.trunk, decayed=np.ones(good.rows))
    assert "undecayed-rows" not in codes(ends, bootstrap=0)


@pytest.mark.medium
@pytest.mark.parametrize("law", ["chinchilla", "coupled"])
def test_the_top_of_compute_is_held_out_too(table, law):
    """Rows of their own trunks, so that it is not a size."""
    loose = Table(table(seed=1, **QUIET).columns)
    top = loose.budget >= np.sort(loose.budget)[-5]
    plain = fit_law(loose, law, bootstrap=100)
    held = plain.holdout_by_compute
    assert (held.rows, held.trunks, held.covered) == (top.sum(), top.sum(), 1.0)
    assert held.low < held.error < held.high
    assert held.baselines["power law in compute"] > held.mean_relative_error
    assert plain.holdouts == (plain.holdout, held)
    off = fit_law(loose.with_columns(loss=loose.loss * np.where(top, 1.05, 1)), law, bootstrap=100)
    fired = [w.values for w in off.warnings if w.code == "holdout-missed"]
    (by_compute,) = (each for each in fired if each.get("held") == held.what)
    assert by_compute["error"] == off.holdout_by_compute.error < by_compute["low"]
    # Where whole trunks of the largest size are that top, or others are asked for, once is enough.
    assert fit_law(table(seed=1), law, bootstrap=0).holdout_by_compute is None
    assert fit_law(loose, law, bootstrap=0, holdout="params>=3e6").holdout_by_compute is None


@pytest.mark.medium
@pytest.mark.parametrize("law", ["chinchilla", "coupled"])
def test_a_power_law_in_compute_forecasts_better(table, law):
    loose = Table(table().columns)
    noise = 2e-4 * np.random.default_rng(0).standard_normal(loose.rows)
    plain = loose.with_columns(loss=1.5 * (loose.budget / 1e15) ** -0.06 * np.exp(noise))
    found = fit_law(plain, law, bootstrap=100)
    fired = [w.values for w in found.warnings if w.code == "baseline-better"]
    assert [each["held"] for each in fired] == [held.what for held in found.holdouts]
    for each, held in zip(fired, found.holdouts, strict=True):
        assert each["baseline"] == "power law in compute"
        assert each["baseline_error"] == held.baselines[each["baseline"]] < each["error"]
        assert each["error"] == held.mean_relative_error
        assert each["p"] == held.baseline_p[each["baseline"]] < 0.1
    quiet = fit_law(loose, law, bootstrap=100)
    assert "baseline-better" not in {warning.code for warning in quiet.warnings}


def test_intervals_under_what_is_fixed(good):
    held = {"bootstrap": 30, "holdout": None}
    assert values(good, "conditional-intervals", fix={"E": 1.7}, **held) == {
        "fixed": {"E": 1.7},
        "tied": {},
    }
    tied = values(good, "conditional-intervals", tie={"alpha": "beta"}, **held)
    assert tied == {"fixed": {}, "tied": {"alpha": "beta"}}
    assert "conditional-intervals" not in codes(good, **held)
    assert "conditional-intervals" not in codes(good, fix={"E": 1.7}, bootstrap=0, holdout=None)
