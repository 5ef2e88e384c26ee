"""A smooth misfit of a law over ln N and ln D: a random function that grows outward from the data.

No public table obeys a law of N and D to within its noise. What is left is smooth, and beyond the
rows it may go on. The function is an integrated Wiener process in ln N, another in ln D, and a
product of the two, each of them 0 in the middle of the table. It is a sum of few features, which
stand for values at knots. What the knots leave open is a variance of its own.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from windtunnel.laws.interval import decades_beyond
from windtunnel.laws.table import Floats

KNOTS = 5
"""Along each axis of the table."""

SEED = 20
"""Of weights that no row decides: the same at every call, so that curves do not jump."""

NARROWEST = 1.0
"""Shortest axis, in ln units: a table of one size has none."""

HALF = 0.5
"""Of an axis: there, each part of the function has the standard deviation `amplitude`."""

OUTER = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Where further knots lie beyond the table, in its widths."""

MIDDLE = 1e-3
"""A knot this near to the middle says nothing, since the function is 0 there."""


@dataclass(frozen=True, eq=False)
class Basis:
    """The features of the function, over the frame of a table.

    Attributes:
        middle: ln N and ln D, means over the rows.
        span: the width of the table in each, in ln units.
    """

    middle: tuple[float, float]
    span: tuple[float, float]
    knots: tuple[Floats, Floats]

    @classmethod
    def of(cls, params: Floats, tokens: Floats) -> Self:
        """The frame of a table with these rows."""
        logs = (np.log(params), np.log(tokens))
        middle = tuple(float(axis.mean()) for axis in logs)
        span = tuple(max(float(np.ptp(axis)), NARROWEST) for axis in logs)
        knots = tuple(
            _knots((axis - center) / width)
            for axis, center, width in zip(logs, middle, span, strict=True)
        )
        return cls((middle[0], middle[1]), (span[0], span[1]), (knots[0], knots[1]))

    @property
    def size(self) -> int:
        """How many features there are."""
        return self.knots[0].size + self.knots[1].size + 1

    def features(self, params: Floats, tokens: Floats) -> tuple[Floats, Floats]:
        """Features (R, M) of independent standard normal weights, and the variance left (R,)."""
        u, v = (
            (np.log(axis) - center) / width
            for axis, center, width in zip((params, tokens), self.middle, self.span, strict=True)
        )
        unit = np.sqrt(3 / HALF**3)
        parts = [unit * _half(axis, knots) for axis, knots in zip((u, v), self.knots, strict=True)]
        product = (u * v / HALF**2)[:, None]
        found = np.concatenate([*parts, product], axis=1)
        whole = unit**2 * (np.abs(u) ** 3 + np.abs(v) ** 3) / 3 + product[:, 0] ** 2
        return found, np.maximum(whole - np.sum(found**2, axis=1), 0.0)

    def wider(self) -> Self:
        """More knots, between these and beyond them, so that little is left open for long.

        The features of these knots stay as they are, and those of the others come after them.
        """
        first, second = (np.concatenate([each, _more(each)]) for each in self.knots)
        return dataclasses.replace(self, knots=(first, second))


def _knots(axis: Floats) -> Floats:
    found = np.linspace(axis.min(), axis.max(), KNOTS)
    return np.asarray(found[np.abs(found) > MIDDLE])


def _more(knots: Floats) -> Floats:
    """Knots in the middle between knots, and at `OUTER` beyond the ends."""
    ends = np.append(knots, 0.0)
    grid = np.linspace(ends.min(), ends.max(), KNOTS)
    outer = np.array(OUTER)
    found = np.concatenate([(grid[1:] + grid[:-1]) / 2, ends.min() - outer, ends.max() + outer])
    return np.asarray(found[np.abs(found) > MIDDLE])


def _half(axis: Floats, knots: Floats) -> Floats:
    """The covariance with the knots, times the inverse root of theirs: (R, knots)."""
    root = np.linalg.cholesky(_wiener(knots, knots) + 1e-10 * np.eye(knots.size))
    return np.asarray(np.linalg.solve(root, _wiener(axis, knots).T).T)


def _wiener(first: Floats, second: Floats) -> Floats:
    """Covariance (A, B) of an integrated Wiener process that starts at 0, both ways."""
    a, b = first[:, None], second[None]
    near, far = np.minimum(np.abs(a), np.abs(b)), np.maximum(np.abs(a), np.abs(b))
    return np.where(a * b > 0, near**2 * (far / 2 - near / 6), 0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class MisfitDraws:
    """Draws of the misfit of a fitted law, of ln output.

    Attributes:
        weights: of the features, shape (S, M).
        amplitude: standard deviation of each part, half a table from its middle, shape (S,).
        sigma_size: standard deviation of what all runs of one size share, shape (S,).
        form: index in `forms` of the law that each draw belongs to, shape (S,).
        forms: names of the forms.
        widening: by axis (`compute`, `size`), by how much the spread of the draws is multiplied
            beyond the table, since past extrapolations missed by more, or less, than it said.
        reach: decades of extrapolation from which `widening` holds whole.
    """

    basis: Basis
    weights: Floats
    amplitude: Floats
    sigma_size: Floats
    form: NDArray[np.intp]
    forms: tuple[str, ...]
    widening: Mapping[str, float] = dataclasses.field(default_factory=dict)
    reach: float = 1.0

    def draw(self, params: Floats, tokens: Floats, rng: np.random.Generator) -> Floats:
        """Values (S, R) at new runs, those of one size with its shared part."""
        basis, weights = self._extended
        features, variance = basis.features(params, tokens)
        normal = rng.standard_normal((self.amplitude.size, params.size))
        rest = np.sqrt(variance) * normal * self.amplitude[:, None]
        _, size = np.unique(params, return_inverse=True)
        shared = rng.standard_normal((self.amplitude.size, size.max() + 1))[:, size]
        return np.asarray(weights @ features.T + rest + self.sigma_size[:, None] * shared)

    def along(self, log_params: Floats, log_tokens: Floats) -> Floats:
        """Values (S, P) along points: smooth, without what the runs of one size share."""
        basis, weights = self._extended
        features, _ = basis.features(np.exp(log_params), np.exp(log_tokens))
        return np.asarray(weights @ features.T)

    @cached_property
    def _extended(self) -> tuple[Basis, Floats]:
        """The wider basis and its weights (S, M'); those that no row decides are drawn."""
        wide = self.basis.wider()
        rng = np.random.default_rng(SEED)
        parts, start = [], 0
        for few, many in zip(self.basis.knots, wide.knots, strict=True):
            parts.append(self.weights[:, start : start + few.size])
            normal = rng.standard_normal((self.amplitude.size, many.size - few.size))
            parts.append(self.amplitude[:, None] * normal)
            start += few.size
        return wide, np.concatenate([*parts, self.weights[:, start:]], axis=1)

    def widened(self, draws: Floats, beyond: Mapping[str, Floats]) -> Floats:
        """Draws (S, R), spread about their medians by `decades_by_axis` beyond the table."""
        whole = sum(beyond.values()) + np.finfo(float).tiny
        factor = sum(
            (self.widening.get(axis, 1.0) - 1) * decades / whole for axis, decades in beyond.items()
        )
        share = np.minimum(np.max(list(beyond.values()), axis=0) / self.reach, 1.0)
        middle = np.median(draws, axis=0)
        return np.asarray(middle + (draws - middle) * (1 + factor * share))

    def apart(self, curve: Floats) -> float:
        """How far the medians of the forms lie apart at one point, of draws (S,) there."""
        medians = [np.median(curve[self.form == number]) for number in np.unique(self.form)]
        return float(np.ptp(medians))

    def picked(self, rows: NDArray[np.intp]) -> Self:
        """Only these draws."""
        return dataclasses.replace(
            self,
            weights=self.weights[rows],
            amplitude=self.amplitude[rows],
            sigma_size=self.sigma_size[rows],
            form=self.form[rows],
        )

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The draws of several fits of one table."""
        return dataclasses.replace(
            parts[0],
            weights=np.concatenate([each.weights for each in parts]),
            amplitude=np.concatenate([each.amplitude for each in parts]),
            sigma_size=np.concatenate([each.sigma_size for each in parts]),
            form=np.concatenate([each.form for each in parts]),
        )


def decades_by_axis(
    domain: Mapping[str, tuple[float, float]], params: Floats, tokens: Floats, flop_factor: float
) -> dict[str, Floats]:
    """Decades (R,) that runs lie beyond the domain: in size, and in compute, data or D/N."""

    def beyond(name: str, values: Floats) -> Floats:
        return np.array([abs(decades_beyond(float(value), domain[name])) for value in values])

    others = {"flops": flop_factor * params * tokens, "tokens": tokens, "ratio": tokens / params}
    return {
        "size": beyond("params", params),
        "compute": np.max([beyond(name, values) for name, values in others.items()], axis=0),
    }
