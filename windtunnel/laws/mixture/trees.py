"""Boosted trees of depth 2 for many tables of the same mixtures, all tables at once.

Least squares, the mean in each leaf, and splits by Friedman's improvement, as scikit-learn's
GradientBoostingRegressor. That sorts every feature again for every node of every tree of every
table. Here the mixtures are sorted once, and sums along that order give all splits of all tables.
The trees are the same but where two splits are equally good: scikit-learn picks one at random.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windtunnel.laws.table import Floats

APART = 1e-7
"""Shares closer than this are one, as in scikit-learn."""
BLOCK = 150_000
"""Numbers of a block of tables, one a table, source and mixture: they stay in a core's cache."""


class Trees(ABC):
    """Boosted trees of B tables: ln loss is flat between their splits."""

    @abstractmethod
    def __call__(self, mixtures: Floats) -> Floats:
        """Shape (P, K) to (P, B)."""

    @abstractmethod
    def own(self, mixtures: Floats) -> Floats:
        """A mixture for each table: shape (B, K) to (B,)."""


@dataclass(frozen=True, eq=False)
class ScikitTrees(Trees):
    """One regression of scikit-learn's per table."""

    models: tuple[Any, ...]

    def __call__(self, mixtures: Floats) -> Floats:
        """Shape (P, K) to (P, B)."""
        return np.stack([model.predict(mixtures) for model in self.models], axis=1)

    def own(self, mixtures: Floats) -> Floats:
        """A mixture for each table: shape (B, K) to (B,)."""
        each = zip(self.models, mixtures, strict=True)
        return np.array([model.predict(mixture[None])[0] for model, mixture in each])


@dataclass(frozen=True, eq=False)
class Forest(Trees):
    """T trees for each of B tables; a node's left branch has shares up to its threshold.

    Attributes:
        start: the mean of each table, shape (B,).
        source: of the root, its left and its right child, shape (T, 3, B).
        threshold: likewise; infinite where a child is not split.
        leaf: what the four leaves add, left to right, shape (T, 4, B).
    """

    start: Floats
    source: NDArray[np.intp]
    threshold: Floats
    leaf: Floats

    def __call__(self, mixtures: Floats) -> Floats:
        """Shape (P, K) to (P, B)."""
        shares = _rounded(mixtures)
        out = np.tile(self.start, (len(shares), 1))
        for source, threshold, leaf in zip(self.source, self.threshold, self.leaf, strict=True):
            left, low, high = (
                shares[:, source[node]] <= threshold[node] for node in range(len(source))
            )
            out += np.where(left, np.where(low, leaf[0], leaf[1]), np.where(high, leaf[2], leaf[3]))
        return out

    def own(self, mixtures: Floats) -> Floats:
        """A mixture for each table: shape (B, K) to (B,)."""
        shares, tables = _rounded(mixtures), np.arange(len(mixtures))
        left, low, high = np.moveaxis(shares[tables, self.source] <= self.threshold, 1, 0)
        number = np.where(left, np.where(low, 0, 1), np.where(high, 2, 3))
        added = np.take_along_axis(self.leaf, number[:, None], axis=1)[:, 0]
        return np.asarray(self.start + added.sum(axis=0))


def grow(mixtures: Floats, targets: Floats, *, trees: int, rate: float) -> Forest:
    """Forests for mixtures (M, K) and the targets (M, B) of B tables."""
    count, sources = mixtures.shape
    size = max(1, BLOCK // (count * sources))
    shares = _rounded(mixtures)
    blocks = range(0, targets.shape[1], size)
    parts = [_grown(shares, targets[:, at : at + size].T, trees, rate) for at in blocks]
    return Forest(*(np.concatenate(columns, axis=-1) for columns in zip(*parts, strict=True)))


def _rounded(mixtures: Floats) -> Floats:
    """Shares as scikit-learn compares them, in single precision."""
    return np.asarray(mixtures, np.float32).astype(np.float64)


def _grown(
    shares: Floats, targets: Floats, trees: int, rate: float
) -> tuple[Floats, NDArray[np.intp], Floats, Floats]:
    tables, count = targets.shape
    order = np.argsort(shares, axis=0, kind="stable").T  # (K, M)
    ordered = np.take_along_axis(shares.T, order, axis=1)
    # A split lies behind a mixture whose share is below the next one's.
    may_split = np.zeros(order.shape, bool)
    may_split[:, :-1] = np.diff(ordered, axis=1) > APART
    start = targets.mean(axis=1)
    residual = targets - start[:, None]
    source = np.zeros((trees, 3, tables), np.intp)
    threshold, leaf = np.empty((trees, 3, tables)), np.empty((trees, 4, tables))
    places = np.arange(1.0, count + 1)
    everything = np.ones((tables, count), bool)
    for tree in range(trees):
        sums = residual[:, order].cumsum(axis=2)  # (B, K, M)
        source[tree, 0], threshold[tree, 0] = _best(
            shares, ordered, may_split, sums, places, everything
        )
        left = threshold[tree, 0][:, None] >= shares[:, source[tree, 0]].T
        sums_left = (residual * left)[:, order].cumsum(axis=2)
        counts_left = left[:, order].cumsum(axis=2, dtype=np.float64)
        children = (
            (left, sums_left, counts_left),
            (~left, sums - sums_left, places - counts_left),
        )
        added = np.empty_like(residual)
        for child, (rows, sums_of, counts_of) in enumerate(children):
            split = _best(shares, ordered, may_split, sums_of, counts_of, rows)
            source[tree, 1 + child], threshold[tree, 1 + child] = split
            low = split[1][:, None] >= shares[:, split[0]].T
            for side, inside in enumerate((rows & low, rows & ~low)):
                number = inside.sum(axis=1)
                total = (residual * inside).sum(axis=1)
                value = rate * total / np.maximum(number, 1)
                leaf[tree, 2 * child + side] = value
                added = np.where(inside, value[:, None], added)
        residual = residual - added
    return start, source, threshold, leaf


def _best(
    shares: Floats,
    ordered: Floats,
    may_split: NDArray[np.bool_],
    sums: Floats,
    counts: Floats,
    rows: NDArray[np.bool_],
) -> tuple[NDArray[np.intp], Floats]:
    """Source and threshold (B,) of the best split of a node; an infinite one where there is none.

    Args:
        shares: of the mixtures, shape (M, K).
        ordered: shares of each source in ascending order, shape (K, M).
        may_split: where a split may lie in that order, shape (K, M).
        sums: of the residuals in the node, up to each place of the order, shape (B, K, M).
        counts: of its mixtures, likewise, or (M,) where all are in it.
        rows: which mixtures are in it, shape (B, M).
    """
    number, total = counts[..., -1:], sums[..., -1:]
    above = number - counts
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = (number * sums - counts * total) ** 2 / (counts * above)
    gain = np.where(may_split & (counts > 0) & (above > 0), gain, -1.0)
    flat = gain.reshape(len(gain), -1)
    best = flat.argmax(axis=1)
    tables = np.arange(len(gain))
    source, place = np.divmod(best, gain.shape[2])
    at = ordered[source, place][:, None]
    those = shares[:, source].T
    below = np.max(np.where(rows & (those <= at), those, -np.inf), axis=1)
    beyond = np.min(np.where(rows & (those > at), those, np.inf), axis=1)
    split = flat[tables, best] >= 0
    return source, np.where(split, np.where(split, below, 0.0) / 2 + beyond / 2, np.inf)
