"""Which rows share a budget, and where loss over ln N is lowest within one."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from windtunnel.laws.staged.stages import Quadratic, numbered
from windtunnel.laws.table import Floats

# Sizes closer than this are one size (assumed): an interpolation between them would draw noise.
SAME_SIZE = 0.01
# Budgets of a study are further apart than this factor (assumed); rows between them are strays.
APART = 1.25
# A parabola through 3 sizes is exact and says nothing about its own error.
MIN_SIZES = 4
# From this many sizes the reference is a cubic, so that an asymmetric valley is no noise.
CUBIC_SIZES = 6


@dataclass(frozen=True, eq=False)
class Budget:
    """Rows of equal compute.

    Attributes:
        log_flops: ln of the budget, the mean over its rows.
        rows: their positions in the table, (m,).
        x: their ln N, (m,).
    """

    log_flops: float
    rows: NDArray[np.intp]
    x: Floats

    @cached_property
    def size(self) -> NDArray[np.intp]:
        """Number of every row's size, (m,), smallest first."""
        return _chained(self.x, SAME_SIZE)

    @property
    def sizes(self) -> int:
        """Different sizes."""
        return int(self.size.max()) + 1

    @property
    def usable(self) -> bool:
        """Whether there are sizes enough for a parabola that can err."""
        return self.sizes >= MIN_SIZES

    @cached_property
    def knots(self) -> Floats:
        """Mean ln N of every size, (S,)."""
        return np.bincount(self.size, self.x) / np.bincount(self.size)

    @property
    def smallest(self) -> float:
        """Ln N of the smallest size."""
        return float(self.knots[0])

    @property
    def largest(self) -> float:
        """Ln N of the largest size."""
        return float(self.knots[-1])

    def reference(self, log_loss: Floats) -> tuple[Floats, Floats]:
        """A smooth curve (m,) through ln loss (m,) over ln N, and its design (q, m)."""
        degree = 3 if self.sizes >= CUBIC_SIZES else 2
        z = (self.x - self.x.mean()) / np.ptp(self.x)
        design = np.vander(z, degree + 1, increasing=True)
        return design @ np.linalg.lstsq(design, log_loss)[0], design.T

    def parabola(self, log_loss: Floats) -> Floats:
        """Ln N (P,) at the minimum of a quadratic of loss over ln N; nan at or beyond an end."""
        quadratic = Quadratic(self.x)
        return quadratic.minimum(quadratic.fit(np.exp(log_loss)), self.smallest, self.largest)

    def akima(self, log_loss: Floats) -> Floats:
        """Ln N (P,) where the Akima interpolation of ln loss is lowest; nan at an end."""
        from scipy.interpolate import Akima1DInterpolator

        average = np.eye(self.sizes)[self.size] / np.bincount(self.size)
        means = np.ascontiguousarray((log_loss @ average).T)
        cubic, square, slope, start = Akima1DInterpolator(self.knots, means).c
        step = np.diff(self.knots)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            root = np.sqrt(square**2 - 3 * cubic * slope)
            # The root with positive curvature, written so that a vanishing cubic does no harm.
            at = np.where(square > 0, -slope / (square + root), (root - square) / (3 * cubic))
        inner = np.isfinite(at) & (at > 0) & (at < step)
        at = np.where(inner, at, 0.0)
        lowest = np.where(inner, start + at * (slope + at * (square + at * cubic)), np.inf)
        values = np.concatenate([lowest, means])
        places = np.concatenate([self.knots[:-1, None] + at, np.tile(self.knots[:, None], _p(at))])
        best = np.argmin(values, axis=0)
        place = np.take_along_axis(places, best[None], axis=0)[0]
        return np.where((place > self.smallest) & (place < self.largest), place, np.nan)


def budgets_of(
    log_params: Floats, log_flops: Floats, *, tolerance: float
) -> tuple[list[Budget], int]:
    """Budgets, smallest first, and how many rows lie between them.

    Repeatedly the fullest window of `tolerance` to either side; rows that are left within a factor
    of 1.25 of it belong to no budget. Linking neighbours instead would chain the scattered rows of
    real tables into one budget of decades.
    """
    left = np.argsort(log_flops, kind="stable")
    found, strays = [], 0
    while left.size:
        x = log_flops[left]
        count = np.searchsorted(x, x + 2 * np.log1p(tolerance), side="right") - np.arange(x.size)
        first = int(np.argmax(count))
        rows = left[first : first + count[first]]
        centre = float(np.mean(log_flops[rows]))
        near = np.abs(x - centre) < np.log(APART)
        strays += int(near.sum()) - rows.size
        left = left[~near]
        found.append(Budget(centre, np.sort(rows), log_params[np.sort(rows)]))
    return sorted(found, key=lambda budget: budget.log_flops), strays


def _chained(values: Floats, gap: float) -> NDArray[np.intp]:
    """Group numbers; neighbours within `gap` of each other are one group."""
    order = np.argsort(values, kind="stable")
    group = np.empty(values.size, np.intp)
    group[order] = np.concatenate([[0], np.cumsum(np.diff(values[order]) > gap)])
    return numbered(group)


def _p(array: Floats) -> tuple[int, int]:
    return 1, array.shape[1]
