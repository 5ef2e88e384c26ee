"""`baseline-better` fires where a baseline is better beyond noise and the law's own intervals."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from windtunnel.laws import Chinchilla, Table, fit_warnings
from windtunnel.laws.validation import score_holdout

ROWS = 12
TRUNKS = np.repeat(np.arange(4), 3)


def scored(*, law, baseline, sigma=0.01, trunks=TRUNKS, draws=400, seed=0):
    """A hold-out whose law and baseline are off by these shares, and whose law says `sigma`."""
    rng = np.random.default_rng(seed)
    columns = {"params": np.full(ROWS, 1e9), "tokens": np.linspace(1e10, 9e10, ROWS)}
    held = Table(columns | {"loss": 2 * np.exp(1e-3 * rng.standard_normal(ROWS))}, trunk=trunks)
    predicted = np.full(ROWS, 2 * (1 + law))
    noise = 1e-3 * rng.standard_normal((draws, ROWS)) + sigma * rng.standard_normal((draws, 1))
    return score_holdout(
        held,
        "rows",
        Chinchilla,
        predicted,
        np.log(predicted) + noise,
        baselines={"line": np.full(ROWS, 2 * (1 + baseline))},
        level=0.9,
    )


def codes(held, level=0.9):
    return [w.values for w in fit_warnings.of_holdout(held, level) if w.code == "baseline-better"]


def test_a_clear_lead_is_told_with_its_chance():
    held = scored(law=0.03, baseline=0.005)
    (told,) = codes(held)
    assert told["p"] == held.baseline_p["line"] < 0.02
    assert told["baseline_error"] == held.baselines["line"] < told["error"]
    assert scored(law=0.005, baseline=0.03).baseline_p == {}


def test_a_lead_within_what_the_law_leaves_open_is_luck():
    held = scored(law=0.03, baseline=0.005, sigma=0.05)
    assert 0.2 < held.baseline_p["line"] < 0.5
    assert codes(held) == []
    assert len(codes(held, level=0.5)) == 1


def test_a_lead_within_the_noise_of_trunks_is_luck():
    """Law and baseline on both sides of the runs, whose noise is as large."""
    held = [scored(law=0.0011, baseline=-0.001, sigma=1e-4, seed=seed) for seed in range(20)]
    better = [each for each in held if each.baseline_p]
    assert 5 < len(better) < 20
    assert sum(len(codes(each)) for each in held) <= 3


def test_without_draws_trunks_alone_decide():
    held = scored(law=0.0012, baseline=0.001, draws=0)
    measured = np.array([point[0] for point in held.points])
    lead = np.abs(2 * 1.0012 / measured - 1) - np.abs(2 * 1.001 / measured - 1)
    expected = ttest_1samp(lead.reshape(4, 3).mean(axis=1), 0, alternative="greater").pvalue
    assert held.baseline_p["line"] == pytest.approx(expected)


def test_one_trunk_shows_nothing():
    held = scored(law=0.03, baseline=0.005, trunks=np.zeros(ROWS))
    assert held.baseline_p == {"line": 1.0}
    assert codes(held) == []
