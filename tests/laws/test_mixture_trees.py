"""Boosted trees of many tables at once: those of scikit-learn, and the ranks of resamples."""

import numpy as np
import pytest

from windtunnel.laws.mixture.models import MOST_BY_SCIKIT, TREE_DEPTH, TREE_RATE, TREES, boosting
from windtunnel.laws.mixture.selection import _ranks
from windtunnel.laws.mixture.trees import Forest, ScikitTrees, grow


def tables(count, sources, *, many=3, seed=0):
    rng = np.random.default_rng(seed)
    mixtures = np.round(rng.dirichlet(np.ones(sources), count), 6)
    slopes = rng.normal(size=(sources, many))
    log_loss = np.log(1.5 + np.exp(mixtures @ slopes)) + 0.1 * (mixtures[:, :1] > 0.3)
    return mixtures, log_loss + 0.003 * rng.standard_normal(log_loss.shape)


@pytest.mark.parametrize(("count", "sources"), [(MOST_BY_SCIKIT + 1, 3), (200, 6)])
def test_the_trees_are_those_of_scikit_learn(count, sources):
    from sklearn.ensemble import GradientBoostingRegressor

    mixtures, log_loss = tables(count, sources)
    forest = grow(mixtures, log_loss, trees=TREES, rate=TREE_RATE)
    between = np.random.default_rng(1).dirichlet(np.ones(sources), 500)
    for b, column in enumerate(log_loss.T):
        theirs = GradientBoostingRegressor(
            n_estimators=TREES, max_depth=TREE_DEPTH, learning_rate=TREE_RATE, random_state=0
        ).fit(mixtures, column)
        assert forest(mixtures)[:, b] == pytest.approx(theirs.predict(mixtures), abs=1e-12)
        # Of equally good splits another one may be taken: seen between the mixtures alone.
        apart = np.abs(forest(between)[:, b] - theirs.predict(between))
        assert np.mean(apart > 1e-9) < 0.15


def test_a_table_has_the_same_trees_in_any_company():
    mixtures, log_loss = tables(150, 4, many=80)
    together = grow(mixtures, log_loss, trees=5, rate=0.2)
    alone = grow(mixtures, log_loss[:, [70]], trees=5, rate=0.2)
    assert together(mixtures)[:, 70] == pytest.approx(alone(mixtures)[:, 0], abs=1e-14)
    each = together.own(mixtures[:80])
    assert each == pytest.approx(np.diag(together(mixtures[:80])), abs=1e-14)


def test_a_constant_table_and_equal_shares_are_not_split():
    mixtures = np.tile([[0.25, 0.75]], (6, 1))
    constant = grow(mixtures, np.array([[1.0], [2], [3], [4], [5], [6]]), trees=3, rate=0.2)
    assert constant(mixtures)[:, 0] == pytest.approx(3.5)
    assert constant(np.eye(2))[:, 0] == pytest.approx(3.5)


def test_small_tables_keep_scikit_learn():
    for count, kind in ((MOST_BY_SCIKIT, ScikitTrees), (MOST_BY_SCIKIT + 1, Forest)):
        mixtures, log_loss = tables(count, 3, many=1)
        assert isinstance(boosting(mixtures, log_loss, np.ones(count)), kind)


def test_ranks_of_resamples_are_mean_ranks():
    from scipy.stats import rankdata

    rng = np.random.default_rng(0)
    values = rng.integers(0, 6, 12).astype(float)
    drawn = rng.integers(0, 12, (50, 12))
    times = np.stack([np.bincount(row, minlength=12) for row in drawn])
    ranks = _ranks(values, times)
    for row, found in zip(drawn, ranks, strict=True):
        assert found[row] == pytest.approx(rankdata(values[row]))
