"""The probability of a law of N and D with a smooth misfit, given a table of losses.

ln L = ln f(N, D) + g(ln N, ln D) + size + trunk + run: a law f, a misfit g (`laws.misfit`), and
what runs of one size, of one trunk, and each run for itself add. A law is one of `FORMS`. Its
coordinates are near to normal: its size and slope in the middle of the table, on log scales.

Priors come from public tables of large models on subwords and are wide (docs/fit.md). Noise of runs
has heavy tails: rows far off are given less weight, as a t distribution does.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from windtunnel.laws.misfit import Basis
from windtunnel.laws.noise import sizes_of
from windtunnel.laws.table import Floats, Table

FORMS: Mapping[str, frozenset[str]] = {
    "coupled": frozenset(),
    "chinchilla": frozenset({"k"}),
    "no-floor": frozenset({"floor"}),
}
"""The candidate forms, and which coordinates of the coupled law each leaves out."""

PRIORS: Mapping[str, tuple[float, float]] = {
    "floor": (0.8, 1.2),
    "size": (np.log(0.2), 1.5),
    "data": (np.log(0.2), 1.5),
    "size_slope": (np.log(0.35), 0.45),
    "data_slope": (np.log(0.35), 0.45),
    "k": (np.log(0.8), 0.35),
    "sigma_run": (np.log(0.004), 1.2),
    "sigma_misfit": (np.log(0.004), 1.0),
    "sigma_size": (np.log(0.002), 1.0),
    "sigma_trunk": (np.log(0.002), 1.2),
    "trunk_share": (0.0, 1.5),
    "off": (np.log(0.015), 0.8),
}
"""Mean and standard deviation of each coordinate.

`floor` is the logit of E over the lowest loss. `size` and `data` are ln of both reducible terms in
the middle of the table, over the lowest loss. `*_slope` are ln of alpha k and beta k, `k` is ln k.
`sigma_*` are ln of standard deviations of ln loss. `trunk_share` is the logit of the share of a
known seed noise's variance that lies between trunks. `off` is ln of what a size that was trained
badly adds to ln loss.
"""

OPTIONAL = frozenset({"trunk_share", "off"})
"""Coordinates of a model with a known noise, or with a size that is off."""

TAILS = 4.0
"""Degrees of freedom of the noise of runs."""

SAME_INTERVAL = 2.132 / 1.645
"""Standard deviation of a normal with the 90% interval of a t with `TAILS` degrees of freedom."""

BLOCK = 4_000_000
"""Numbers of a block of points: large tables do not fill the memory."""

STEEPEST = 60.0
"""Largest exponent that is computed."""


@dataclass(frozen=True)
class Level:
    """Groups of rows that share an effect: where each begins, and the group of every row."""

    name: str
    starts: NDArray[np.intp]
    index: NDArray[np.intp]

    def groups_of(self, finer: "Level") -> NDArray[np.intp]:
        """The first group of a finer level in each of these."""
        return finer.index[self.starts]


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """Log densities of many points at once; rows are sorted by size, then by trunk.

    Attributes:
        form: a name in `FORMS`.
        names: the coordinates of a point, in order.
        log_params: ln N from the middle of the table, shape (R,); likewise `log_tokens`.
        log_loss: shape (R,).
        lowest: the lowest loss.
        levels: of shared effects, the finest first.
        weight: of each row's own noise, shape (R,).
        order: the table's row of each of these, shape (R,).
        noise: known standard deviation of ln loss between seeds; None: sought.
        off: rows of the size that may lie above the law, shape (R,); None: no size does.
    """

    form: str
    names: tuple[str, ...]
    basis: Basis
    log_params: Floats
    log_tokens: Floats
    log_loss: Floats
    lowest: float
    features: Floats
    levels: tuple[Level, ...]
    weight: Floats
    order: NDArray[np.intp]
    noise: float | None = None
    off: NDArray[np.bool_] | None = None

    @classmethod
    def of(
        cls, table: Table, form: str, noise: float | None = None, *, misfit: bool = True
    ) -> Self:
        """The model of a table, without any row weighted down yet, with or without a misfit."""
        size = sizes_of(table.params)
        order = np.lexsort((table.trunk_index, size))
        params, tokens = table.params[order], table.tokens[order]
        basis = Basis.of(params, tokens)
        levels = [_level("sigma_size", size[order])]
        if table.has_trunks and table.trunk_labels.size < table.rows:
            levels.insert(0, _level("sigma_trunk", np.stack([size, table.trunk_index])[:, order]))
        left_out = {"sigma_trunk"} - {level.name for level in levels} | FORMS[form] | OPTIONAL
        if noise is not None:
            left_out |= {"sigma_run", "sigma_trunk"}
            left_out -= {"trunk_share"} if len(levels) > 1 else set()
        if not misfit:
            left_out |= {"sigma_misfit"}
        return cls(
            form=form,
            names=tuple(name for name in PRIORS if name not in left_out),
            basis=basis,
            log_params=np.log(params) - basis.middle[0],
            log_tokens=np.log(tokens) - basis.middle[1],
            log_loss=np.log(table.loss[order]),
            lowest=float(table.loss.min()),
            features=basis.features(params, tokens)[0],
            levels=tuple(levels),
            weight=np.ones(table.rows),
            order=order,
            noise=noise,
        )

    def with_off(self, rows: NDArray[np.bool_]) -> Self:
        """The same model, in which the size of these rows may lie above the law."""
        return dataclasses.replace(self, names=(*self.names, "off"), off=rows)

    def reweighted(self, weight: Floats) -> Self:
        """The same model with other weights of rows."""
        return dataclasses.replace(self, weight=weight)

    @property
    def prior(self) -> tuple[Floats, Floats]:
        """Means and standard deviations (P,) of the coordinates."""
        pairs = np.array([PRIORS[name] for name in self.names])
        return pairs[:, 0], pairs[:, 1]

    def column(self, points: Floats, name: str) -> Floats:
        """One coordinate (W, 1) of points (W, P), or what stands for it in a form without it."""
        if name in self.names:
            return points[:, [self.names.index(name)]]
        absent = {"floor": -np.inf, "k": 0.0}.get(name, -np.inf)
        return np.full((len(points), 1), absent)

    def sigma(self, points: Floats, name: str) -> Floats:
        """A standard deviation (W, 1); 0 where the model has no such effect."""
        if self.noise is None or name not in {"sigma_run", "sigma_trunk"}:
            return np.exp(self.column(points, name))
        between = expit(self.column(points, "trunk_share"))
        if name == "sigma_trunk":
            return np.asarray(self.noise * np.sqrt(between))
        return np.asarray(self.noise / SAME_INTERVAL * np.sqrt(1 - between))

    def coefficients(self, points: Floats) -> Floats:
        """E, A, B, alpha, beta, k (W, 6) in raw units."""
        k = np.exp(self.column(points, "k"))
        parts = [self.lowest * expit(self.column(points, "floor"))]
        slopes = []
        for name, middle in zip(("size", "data"), self.basis.middle, strict=True):
            slope = np.exp(self.column(points, f"{name}_slope")) / k
            height = self.column(points, name) + np.log(self.lowest)
            with np.errstate(over="ignore"):  # of a draw that is steep in a table of few rows
                parts.append(np.exp(height / k + slope * middle))
            slopes.append(slope)
        return np.concatenate([*parts, *slopes, k], axis=1)

    def log_law(self, points: Floats) -> Floats:
        """Ln f of every row, and what a size that is off adds; shape (W, R)."""
        k = np.exp(self.column(points, "k"))
        terms = []
        for name, axis in (("size", self.log_params), ("data", self.log_tokens)):
            slope = np.exp(self.column(points, f"{name}_slope"))
            height = self.column(points, name) + np.log(self.lowest)
            terms.append(np.exp(np.clip((height - slope * axis) / k, -STEEPEST, STEEPEST)))
        floor = self.lowest * expit(self.column(points, "floor"))
        law = np.log(floor + (terms[0] + terms[1]) ** k)
        if self.off is not None:
            law = law + np.exp(self.column(points, "off")) * self.off
        return np.asarray(law)

    def log_density(self, points: Floats) -> Floats:
        """Ln of likelihood times prior (W,), up to a constant; -inf where it cannot be computed."""
        block = max(1, BLOCK // self.features.size)
        if len(points) > block:
            parts = np.split(points, range(block, len(points), block))
            return np.concatenate([self.log_density(part) for part in parts])
        with np.errstate(all="ignore"):
            try:
                found = self._posterior(points).log_density
            except np.linalg.LinAlgError:
                if len(points) == 1:
                    return np.array([-np.inf])
                return np.concatenate([self.log_density(point[None]) for point in points])
        return np.where(np.isfinite(found), found, -np.inf)

    def misfit_weights(self, points: Floats, rng: np.random.Generator | None = None) -> Floats:
        """Weights (W, M) of the features: a draw of each point's posterior, or its mean."""
        found = self._posterior(points)
        shift = found.half if rng is None else found.half + rng.standard_normal(found.half.shape)
        upper = np.swapaxes(found.root, 1, 2)
        weights = np.linalg.solve(upper, shift[:, :, None])[:, :, 0]
        return np.asarray(self.sigma(points, "sigma_misfit") * weights)

    def own_noise(self, point: Floats) -> Floats:
        """Each row's own noise (R,) over its standard deviation, at one point (P,)."""
        points = point[None]
        left = self.log_loss - self.log_law(points) - self.misfit_weights(points) @ self.features.T
        found = self._without_shared(points, left)
        return np.asarray(found[0] * self.sigma(points, "sigma_run")[0] / self.weight)

    def _posterior(self, points: Floats) -> "_Gaussian":
        products, log_determinant = self._products(points)
        count = self.features.shape[1]
        root = np.linalg.cholesky(products[:, :count, :count] + np.eye(count))
        half = np.linalg.solve(root, products[:, :count, count:])[:, :, 0]
        square = products[:, count, count] - np.sum(half**2, axis=1)
        log_determinant += 2 * np.sum(np.log(np.diagonal(root, axis1=1, axis2=2)), axis=1)
        mean, spread = self.prior
        prior = np.sum(((points - mean) / spread) ** 2, axis=1)
        density = -(square + log_determinant + prior) / 2
        return _Gaussian(*(np.asarray(each, np.float64) for each in (density, root, half)))

    def _products(self, points: Floats) -> tuple[Floats, Floats]:
        """Features and residual, times the inverse covariance of all but the misfit, times both.

        Shapes (W, M + 1, M + 1), and (W,) of the covariance's ln det. Groups that share an effect
        enter by their sums alone, so rows are passed once, for the residual.
        """
        residual = self.log_loss - self.log_law(points)
        precision = 1 / self.sigma(points, "sigma_run") ** 2
        scale = self.sigma(points, "sigma_misfit")
        weighted = residual * self.weight
        count = self.features.shape[1]
        products = np.empty((len(points), count + 1, count + 1))
        products[:, :count, :count] = self._gram * scale[:, :, None] ** 2
        across = scale * (weighted @ self.features)
        products[:, :count, count] = products[:, count, :count] = across
        products[:, count, count] = np.sum(weighted * residual, axis=1)
        products *= precision[:, :, None]
        log_determinant = -np.sum(np.log(self.weight)) - self.weight.size * np.log(precision[:, 0])
        finest = self.levels[0]
        total = precision * self._group_weight
        sums = np.empty((len(points), finest.starts.size, count + 1))
        sums[:, :, :count] = self._group_features * (precision * scale)[:, :, None]
        sums[:, :, count] = precision * np.add.reduceat(weighted, finest.starts, axis=1)
        for level, coarser in zip(self.levels, (*self.levels[1:], None), strict=True):
            variance = self.sigma(points, level.name) ** 2
            left = 1 / (1 + variance * total)
            products -= np.swapaxes(sums * (variance * left)[:, :, None], 1, 2) @ sums
            log_determinant -= np.sum(np.log(left), axis=1)
            if coarser is not None:
                begins = coarser.groups_of(level)
                sums = np.add.reduceat(sums * left[:, :, None], begins, axis=1)
                total = np.add.reduceat(total * left, begins, axis=1)
        return products, log_determinant

    @cached_property
    def _gram(self) -> Floats:
        return np.asarray(self.features.T @ (self.features * self.weight[:, None]))

    @cached_property
    def _group_weight(self) -> Floats:
        return np.asarray(np.add.reduceat(self.weight, self.levels[0].starts))

    @cached_property
    def _group_features(self) -> Floats:
        weighted = self.features * self.weight[:, None]
        return np.asarray(np.add.reduceat(weighted, self.levels[0].starts, axis=0))

    def _without_shared(self, points: Floats, values: Floats) -> Floats:
        """Values (W, R) times the inverse covariance of all but the misfit."""
        precision = self.weight / self.sigma(points, "sigma_run") ** 2
        solved = values * precision
        for level in self.levels:
            variance = self.sigma(points, level.name) ** 2
            total = np.add.reduceat(precision, level.starts, axis=1)
            shrink = variance / (1 + variance * total)
            sums = np.add.reduceat(solved, level.starts, axis=1)
            solved = solved - precision * (shrink * sums)[:, level.index]
            precision = precision * (1 - (shrink * total)[:, level.index])
        return np.asarray(solved)


@dataclass(frozen=True, eq=False)
class _Gaussian:
    """Log densities (W,), and the posterior of the features' weights: root (W, M, M), half (W, M).

    The precision of the weights is root root^T, and their mean root^-T half.
    """

    log_density: Floats
    root: Floats
    half: Floats


def robust_weights(noise: Floats) -> Floats:
    """Weights (R,) of rows whose own noise is so many standard deviations."""
    return np.asarray((TAILS + 1) / (TAILS + noise**2))


def _level(name: str, keys: NDArray[np.intp]) -> Level:
    """Groups of equal keys (R,) or (L, R), which are sorted."""
    changes = np.diff(np.atleast_2d(keys), axis=1).any(axis=0)
    index = np.concatenate([[0], np.cumsum(changes)])
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    return Level(name, starts, index)
