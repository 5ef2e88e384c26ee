"""Regressions of ln loss on the mixture: four models, each fitted to many tables at once.

A model takes mixtures (P, K) and returns ln loss (P, B) for each of B tables with the same
mixtures: the table itself, or its resamples. Shares sum to 1, so polynomials are Scheffe's (1958,
Experiments with mixtures): they have no constant, and products instead of squares.

The exponential is the law of Ye et al. 2024 (arXiv 2403.16952). Its factor is part of every b_i,
because shares sum to 1. The linear model of ln loss is the same without the constant. Regression
and boosted trees on small runs, judged by rank correlation, are RegMix (Liu et al. 2024, arXiv
2407.01492).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from windtunnel.laws.table import Floats

ALPHAS = np.logspace(-6, 2, 17)
"""Ridge of the quadratic, in units of standardised features; each table's own, by leave-one-out."""
GAUSS_NEWTON = 5
RIDGE = 1e-9
STEEPEST = 30.0
"""In ln nats: no source adds more or less than this."""
# Assumed: small trees, as tables of mixtures are small.
TREES, TREE_DEPTH, TREE_RATE = 40, 2, 0.2
BOOSTING_NEEDS = 10
MOST_BOOSTED = 100
"""Resamples where a model is boosted: each is another fit."""


class MixtureModel(Protocol):
    """ln loss of mixtures, for B tables."""

    def __call__(self, mixtures: Floats) -> Floats:
        """Shape (P, K) to (P, B)."""

    def own(self, mixtures: Floats) -> Floats:
        """A mixture for each table: shape (B, K) to (B,)."""


class SmoothModel(MixtureModel, Protocol):
    """A model with a formula, and therefore slopes."""

    def slopes(self, mixtures: Floats) -> Floats:
        """Derivatives of `own` by each share: shape (B, K) to (B, K)."""

    def features(self, mixtures: Floats) -> Floats:
        """Derivatives by each coefficient for the first table: shape (M, K) to (M, F)."""


@dataclass(frozen=True, eq=False)
class Polynomial:
    """Scheffe's polynomial: shares and, with more coefficients, their products.

    Attributes:
        beta: coefficients, shape (F, B): ln loss of each source alone, then of each pair.
    """

    beta: Floats

    def __call__(self, mixtures: Floats) -> Floats:
        """Shape (P, K) to (P, B)."""
        return np.asarray(self.features(mixtures) @ self.beta)

    def own(self, mixtures: Floats) -> Floats:
        """A mixture for each table: shape (B, K) to (B,)."""
        return np.asarray(np.einsum("bf,fb->b", self.features(mixtures), self.beta))

    def slopes(self, mixtures: Floats) -> Floats:
        """Derivatives of `own` by each share: shape (B, K) to (B, K)."""
        sources = mixtures.shape[1]
        alone, products = self.beta[:sources].T, self.beta[sources:].T
        if not products.size:
            return alone
        matrix = np.zeros((len(products), sources, sources))
        first, second = pairs(sources)
        matrix[:, first, second] = matrix[:, second, first] = products
        return np.asarray(alone + np.einsum("bij,bj->bi", matrix, mixtures))

    def features(self, mixtures: Floats) -> Floats:
        """Shares and products: shape (..., K) to (..., F)."""
        alone = self.beta.shape[0] == mixtures.shape[-1]
        return mixtures if alone else with_products(mixtures)


@dataclass(frozen=True, eq=False)
class Exponential:
    """L = c + exp(sum b_i w_i).

    Attributes:
        offset: c, nats, shape (B,).
        beta: ln of what each source alone adds to it, shape (K, B).
    """

    offset: Floats
    beta: Floats

    def __call__(self, mixtures: Floats) -> Floats:
        """Shape (P, K) to (P, B)."""
        return np.log(self.offset + np.exp(mixtures @ self.beta))

    def own(self, mixtures: Floats) -> Floats:
        """A mixture for each table: shape (B, K) to (B,)."""
        return np.log(self.offset + self._above(mixtures))

    def slopes(self, mixtures: Floats) -> Floats:
        """Derivatives of `own` by each share: shape (B, K) to (B, K)."""
        above = self._above(mixtures)
        return np.asarray((above / (self.offset + above))[:, None] * self.beta.T)

    def features(self, mixtures: Floats) -> Floats:
        """Derivatives by each coefficient for the first table: shape (M, K) to (M, K + 1)."""
        above = np.exp(mixtures @ self.beta[:, 0])
        loss = self.offset[0] + above
        return np.concatenate([(above / loss)[:, None] * mixtures, 1 / loss[:, None]], axis=1)

    def _above(self, mixtures: Floats) -> Floats:
        return np.asarray(np.exp(np.einsum("bk,kb->b", mixtures, self.beta)))


@dataclass(frozen=True, eq=False)
class Trees:
    """One boosted regression per table."""

    models: tuple[Any, ...]

    def __call__(self, mixtures: Floats) -> Floats:
        """Shape (P, K) to (P, B)."""
        return np.stack([model.predict(mixtures) for model in self.models], axis=1)

    def own(self, mixtures: Floats) -> Floats:
        """A mixture for each table: shape (B, K) to (B,)."""
        each = zip(self.models, mixtures, strict=True)
        return np.array([model.predict(mixture[None])[0] for model, mixture in each])


@dataclass(frozen=True)
class Kind:
    """One kind of model, and how it is fitted.

    Attributes:
        formula: in words.
        size: coefficients for K sources, or what counts as many.
        fit: mixtures (M, K), ln losses (M, B) and how much each mixture counts, (M,), to a model
            of B tables.
    """

    formula: str
    size: Callable[[int], int]
    fit: Callable[[Floats, Floats, Floats], MixtureModel]

    def needs(self, sources: int) -> int:
        """The fewest mixtures."""
        return self.size(sources) + 3


@cache
def pairs(sources: int) -> tuple[Any, Any]:
    """Index of the first and the second source of every pair, in the order of coefficients."""
    return np.triu_indices(sources, k=1)


def with_products(mixtures: Floats) -> Floats:
    """Shares and the products of every pair: shape (..., K) to (..., K (K + 1) / 2)."""
    first, second = pairs(mixtures.shape[-1])
    return np.concatenate([mixtures, mixtures[..., first] * mixtures[..., second]], axis=-1)


def linear(mixtures: Floats, log_loss: Floats, counts: Floats) -> Polynomial:
    """Least squares."""
    from sklearn.linear_model import LinearRegression  # type: ignore[import-untyped]

    model = LinearRegression(fit_intercept=False).fit(mixtures, log_loss, counts)
    return Polynomial(np.asarray(model.coef_.T))


def exponential(mixtures: Floats, log_loss: Floats, counts: Floats) -> Exponential:
    """Least squares in ln L: c from a grid, then a finer one; for each c, Gauss-Newton in the b_i.

    The grid is in the distance from the lowest loss, down to a thousandth of it.
    """
    lowest = np.exp(log_loss.min(axis=0))
    tables = np.arange(lowest.size)
    distance = np.ones(lowest.size)
    for ratios in (np.logspace(-3, 0, 19), np.logspace(-0.15, 0.15, 9)):
        tried = np.minimum(ratios[:, None] * distance, 1.0)
        # Every constant of every table at once, as tables of their own.
        many = np.tile(log_loss, ratios.size)
        found = _above_offset(mixtures, many, counts, ((1 - tried) * lowest).ravel())
        errors = (counts @ (found(mixtures) - many) ** 2).reshape(tried.shape)
        best = errors.argmin(axis=0)
        distance = tried[best, tables]
    chosen = best * lowest.size + tables
    return Exponential(found.offset[chosen], found.beta[:, chosen])


def _above_offset(
    mixtures: Floats, log_loss: Floats, counts: Floats, offset: Floats
) -> Exponential:
    """The b_i of given constants (B,)."""
    sources = mixtures.shape[1]
    products = (mixtures[:, :, None] * mixtures[:, None, :]).reshape(len(mixtures), -1)
    loss = np.exp(log_loss)
    floor = 1e-4 * loss  # at the lowest loss ln(L - c) may be far below all others
    log_above = np.log(np.maximum(loss - offset, floor))
    weight, aim = 1 - offset / loss, log_above
    for _ in range(GAUSS_NEWTON):
        squares = counts[:, None] * np.maximum(weight, 1e-6) ** 2
        normal = (squares.T @ products).reshape(-1, sources, sources) + RIDGE * np.eye(sources)
        moment = (squares * aim).T @ mixtures
        beta = np.linalg.solve(normal, moment[..., None])[..., 0].T
        log_above = np.clip(mixtures @ beta, -STEEPEST, STEEPEST)
        weight = np.exp(log_above) / (offset + np.exp(log_above))
        left = log_loss - np.log(offset + np.exp(log_above))
        aim = log_above + np.clip(left / np.maximum(weight, 1e-6), -1, 1)
    return Exponential(offset, np.clip(beta, -STEEPEST, STEEPEST))


def quadratic(mixtures: Floats, log_loss: Floats, counts: Floats) -> Polynomial:
    """Ridge on standardised shares and products, its strength by leave-one-out for each table."""
    from sklearn.linear_model import RidgeCV

    features = with_products(mixtures)
    centre, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    standard = (features - centre) / scale
    model = RidgeCV(ALPHAS, alpha_per_target=True).fit(standard, log_loss, counts)
    beta = model.coef_.reshape(log_loss.shape[1], -1).T / scale[:, None]
    # Shares sum to 1, so the constant is a part of each of theirs.
    beta[: mixtures.shape[1]] += model.intercept_ - centre @ beta
    return Polynomial(beta)


def boosting(mixtures: Floats, log_loss: Floats, _counts: Floats) -> Trees:
    """Gradient-boosted trees: no formula, and flat beyond the mixtures tried.

    All count alike: a leaf of high losses bends no other, and a step up must be seen.
    """
    from sklearn.ensemble import GradientBoostingRegressor  # type: ignore[import-untyped]

    def fit(column: Floats) -> Any:
        model = GradientBoostingRegressor(
            n_estimators=TREES, max_depth=TREE_DEPTH, learning_rate=TREE_RATE, random_state=0
        )
        return model.fit(mixtures, column)

    return Trees(tuple(fit(column) for column in log_loss.T))


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "linear": Kind("ln L = sum b_i w_i", lambda sources: sources, linear),
        "exponential": Kind("L = c + exp(sum b_i w_i)", lambda sources: sources + 1, exponential),
        "quadratic": Kind(
            "ln L = sum b_i w_i + sum b_ij w_i w_j, ridge",
            lambda sources: sources * (sources + 1) // 2,
            quadratic,
        ),
        "boosting": Kind(
            f"ln L = {TREES} boosted trees of depth {TREE_DEPTH}",
            lambda _: BOOSTING_NEEDS - 3,
            boosting,
        ),
    }
)
"""From the simplest: of two that predict as well, the earlier is taken."""
