"""Base of two-step laws: the first step turns runs into optima, the second fits a line to them.

A two-step law gives the engine a `TwoStepProblem`: the observations that noise acts on, a smooth
reference for them, and a `solve` that repeats both steps for many alternative tables at once. The
engine estimates the noise as for any law, draws tables around the reference, and solves them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from windtunnel.errors import ColumnError, Diagnostic
from windtunnel.laws.forms import Formula
from windtunnel.laws.table import Floats, Table

# A curve is cut into this many blocks, and a rise must last for two of them (assumed).
BLOCKS = 10
# A rise counts from 4 standard errors of a difference of block means, and from 0.5% (assumed).
RISE_SIGMAS = 4.0
RISE_LEAST = 0.005


@dataclass(frozen=True, kw_only=True, eq=False)
class TwoStepProblem:
    """One table, ready to be solved and resampled.

    Attributes:
        observed: what noise acts on, in ln units (ln loss, or ln tokens to a loss level), (M,).
        expected: a smooth reference of the same, (M,).
        tangent: directions in which the reference has bent towards the data, (Q, M).
        trunk: who shares noise, (M,), numbered from 0 without gaps.
        solve: alternative observations (P, M) to log vectors (P, K); nan
            where they carry no law.
        law: whose coefficients these are.
        points: inputs and outputs (B,) that the law goes through, such as the optima per budget.
        details: the points of both steps, for tables and figures, as JSON data.
        diagnostics: warnings.
        domain: (lowest, highest) of the law's input and output over the points it goes through.
        judge: alternative observations (P, M) and the level of intervals to warnings about the
            points.
    """

    observed: Floats
    expected: Floats
    tangent: Floats
    trunk: NDArray[np.intp]
    solve: Callable[[Floats], Floats]
    law: type["TwoStepLaw"]
    points: tuple[Floats, Floats]
    details: Mapping[str, Any]
    diagnostics: tuple[Diagnostic, ...]
    domain: Mapping[str, tuple[float, float]]
    judge: Callable[[Floats, float], tuple[Diagnostic, ...]] = lambda drawn, level: ()

    @property
    def log_vector(self) -> Floats:
        """The coefficients of the table as it is, (K,); nan where it carries no law."""
        return np.asarray(self.solve(self.observed[None])[0])

    @property
    def solved(self) -> "TwoStepLaw":
        """The law of the table as it is."""
        return self.law.of(self.law.raw(self.log_vector))


@dataclass(frozen=True)
class TwoStepLaw(Formula):
    """Base of a two-step law.

    Attributes:
        reads: the columns that its first step reads from a table.
        scales: positive coefficients that enter the log vector as their logarithm: noise is
            symmetric in that form.
    """

    reads: ClassVar[tuple[str, ...]]
    scales: ClassVar[tuple[str, ...]]

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """The columns that a fit of this law needs."""
        return cls.reads

    @classmethod
    def bounds(cls) -> Mapping[str, tuple[float, float]]:
        """Bounds of the search by coefficient; a line through points has none."""
        return {}

    @property
    def log_vector(self) -> Floats:
        """The coefficients in order, scales as their logarithm."""
        pairs = self.coefficients.items()
        return np.array([np.log(v) if k in self.scales else v for k, v in pairs])

    @classmethod
    def raw(cls, log_vectors: Floats) -> Floats:
        """Raw coefficients (..., K) from log vectors (..., K)."""
        out = np.array(log_vectors, np.float64)
        places = [cls.index(name) for name in cls.scales]
        with np.errstate(over="ignore"):
            out[..., places] = np.exp(out[..., places])
        return out


class Quadratic:
    """Least-squares parabolas over one set of abscissas x (m,), for many ordinates at once."""

    def __init__(self, x: Floats) -> None:
        self.centre = float(np.mean(x))
        self.spread = float(np.ptp(x)) or 1.0
        self.design = np.vander((x - self.centre) / self.spread, 3, increasing=True).T
        self.operator = np.linalg.pinv(self.design)

    def fit(self, y: Floats) -> Floats:
        """Coefficients (P, 3) of 1, z, z^2 for ordinates (P, m)."""
        return np.asarray(y @ self.operator)

    def values(self, fitted: Floats, x: ArrayLike) -> Floats:
        """The parabolas (..., 3) at x, which broadcasts against (...)."""
        z = (np.asarray(x) - self.centre) / self.spread
        constant, slope, bend = np.moveaxis(fitted, -1, 0)
        return np.asarray(constant + z * (slope + z * bend))

    def curvature(self, fitted: Floats) -> Floats:
        """Half the second derivative by x, (...)."""
        return np.asarray(fitted[..., 2] / self.spread**2)

    def minimum(self, fitted: Floats, low: float, high: float) -> Floats:
        """Where each parabola is lowest; nan unless that is a minimum strictly inside."""
        with np.errstate(divide="ignore", invalid="ignore"):
            at = self.centre - self.spread * fitted[..., 1] / (2 * fitted[..., 2])
        return np.where((fitted[..., 2] > 0) & (at > low) & (at < high), at, np.nan)

    def lowest(self, fitted: Floats, low: float, high: float, near: float) -> Floats:
        """Where each parabola is lowest from `low` to `high`; without a minimum there an end.

        The end is that to whose side the parabola falls at `near`. So noise that is symmetric puts
        as many of them below `near` as above, however flat the parabolas are.
        """
        inside = self.minimum(fitted, low, high)
        rising = fitted[..., 1] + 2 * fitted[..., 2] * (near - self.centre) / self.spread > 0
        return np.where(np.isfinite(inside), inside, np.where(rising, low, high))


def line(x: Floats, y: Floats) -> Floats:
    """Offset and slope (P, 2) of least-squares lines through (x (B,), y (P, B)); nan is skipped.

    A row with fewer than two points, or with all of them at one x, is nan.
    """
    known = np.isfinite(y)
    count = known.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_x = (known @ x) / count
        mean_y = np.sum(y, axis=1, where=known) / count
        off = np.where(known, x - mean_x[:, None], 0.0)
        spread = np.sum(off**2, axis=1)
        wide = spread > 1e-12 * np.maximum(mean_x**2, 1.0)
        slope = np.sum(off * np.where(known, y, 0.0), axis=1) / np.where(wide, spread, np.nan)
    return np.stack([mean_y - slope * mean_x, slope], axis=1)


def logs(table: Table, name: str) -> Floats:
    """Ln of a column.

    Raises:
        FitError: the column is missing, or a value is not above 0.
    """
    values = table[name]
    if (bad := np.flatnonzero(values <= 0)).size:
        raise ColumnError(
            "out-of-range",
            f"is {values[bad[0]]:g}: must be above 0",
            name,
            int(bad[0]),
            value=float(values[bad[0]]),
            above=0,
        )
    return np.log(values)


def numbered(labels: NDArray[Any]) -> NDArray[np.intp]:
    """Every label's number, from 0 without gaps."""
    return np.unique(labels, return_inverse=True)[1].reshape(-1)


def block_diagonal(blocks: list[Floats]) -> Floats:
    """Designs (q, m) one after another: (sum of q, sum of m)."""
    out = np.zeros((sum(len(b) for b in blocks), sum(b.shape[1] for b in blocks)))
    row = column = 0
    for block in blocks:
        out[row : row + len(block), column : column + block.shape[1]] = block
        row, column = row + len(block), column + block.shape[1]
    return out


def span(values: ArrayLike) -> tuple[float, float]:
    """Lowest and highest."""
    return float(np.min(values)), float(np.max(values))


def sustained_rises(curve: NDArray[np.intp], position: Floats, log_loss: Floats) -> Floats:
    """How far each curve rises and stays risen, in ln loss; 0 where that is within its noise.

    Block means are compared with the lowest earlier one; a rise is what two blocks in a row share.
    The noise of a row comes from second differences, which a smooth curve hardly has. Curves of
    fewer than four points are not judged.
    """
    order = np.lexsort((position, curve))
    curve, y = curve[order], log_loss[order]
    count = np.bincount(curve)
    rank = np.arange(curve.size) - (np.cumsum(count) - count)[curve]
    blocks = np.minimum(count, BLOCKS)
    cell = curve * BLOCKS + rank * blocks[curve] // count[curve]
    size = np.bincount(cell, minlength=count.size * BLOCKS).reshape(-1, BLOCKS)
    total = np.bincount(cell, y, minlength=count.size * BLOCKS).reshape(-1, BLOCKS)
    mean = np.where(size > 0, total / np.maximum(size, 1), np.inf)
    inside = curve[2:] == curve[:-2]
    second = np.abs(y[2:] - 2 * y[1:-1] + y[:-2])[inside]
    owner = curve[2:][inside]
    sums = np.bincount(owner, second, minlength=count.size)
    # Mean absolute value to standard deviation, and 6 = 1 + 4 + 1 from the second difference.
    sigma = sums / np.maximum(count - 2, 1) * np.sqrt(np.pi / 2 / 6)
    error = RISE_SIGMAS * sigma * np.sqrt(2 * blocks / count)
    before = np.minimum.accumulate(mean, axis=1)[:, :-2]
    lasting = np.minimum(mean[:, 1:-1], mean[:, 2:]) - before
    rise = np.max(np.where(np.isfinite(lasting), lasting, -np.inf), axis=1)
    return np.where((count >= 4) & (rise > np.maximum(error, RISE_LEAST)), rise, 0.0)
