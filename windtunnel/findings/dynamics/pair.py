"""A trunk beside the decay that leaves it: what each series does, and how it follows the rate.

The last quarter of the decay is compared with a stretch of the trunk, as long as the decay, that
ends where it leaves.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from windtunnel.laws import fit
from windtunnel.trials.curves import Floats
from windtunnel.trials.dynamics import SegmentDynamics

FEWEST_BINS = 4
"""Of a stretch and of a decay: fewer show no course."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """A trunk and the decay that leaves it; updates are counted from the start of the trunk."""

    trunk: SegmentDynamics
    branch: SegmentDynamics

    @property
    def fork(self) -> float:
        """The update after which the decay begins."""
        return float(self.branch.after[0])

    @property
    def decay(self) -> float:
        """Updates of the decay."""
        return float(self.branch.step[-1]) - self.fork

    @cached_property
    def stable(self) -> NDArray[np.intp]:
        """Which bins of the trunk are the stretch before the fork, as long as the decay."""
        inside = (self.trunk.step <= self.fork) & (self.trunk.after >= self.fork - self.decay)
        return np.flatnonzero(inside)

    @cached_property
    def late(self) -> NDArray[np.intp]:
        """Which bins of the decay are its last quarter."""
        return np.flatnonzero(self.branch.after >= self.branch.step[-1] - self.decay / 4)

    @property
    def is_whole(self) -> bool:
        """Whether both were recorded finely enough to be compared."""
        return min(self.stable.size, self.branch.after.size) >= FEWEST_BINS and self.late.size > 0

    def ratio(self, name: str) -> float:
        """Mean of a series at the end of the decay, over that of the stable stretch."""
        return self.end_of_decay(name) / self.before(name)

    def before(self, name: str) -> float:
        """Mean of a series over the stable stretch."""
        return mean_of_known(self.trunk.series[name][self.stable])

    def end_of_decay(self, name: str) -> float:
        """Mean of a series over the last quarter of the decay."""
        return mean_of_known(self.branch.series[name][self.late])

    def in_decay(self, name: str) -> float:
        """Mean of a series over all of the decay."""
        return mean_of_known(self.branch.series[name])

    def exponent(self, name: str) -> float:
        """Of a series on the rate over the decay: `series ~ rate^b`."""
        return _exponent(self.branch.series["lr"], self.branch.series[name])

    def change_ratio(self) -> float:
        """Largest change of a weight at the end of the decay over that before; mean of matrices."""
        both = [
            mean_of_known(self.branch.changes[name][self.late])
            / mean_of_known(self.trunk.changes[name][self.stable])
            for name in self._matrices
        ]
        return mean_of_known(np.array(both))

    def change_exponent(self) -> float:
        """Of the largest change of a weight on the rate over both phases; mean of matrices."""
        rate, changes = self._changes
        return _exponent(rate, np.exp(np.log(changes).mean(axis=0))) if len(changes) else math.nan

    def change_correlations(self) -> Floats:
        """Of ln change with ln rate over both phases, for every matrix."""
        rate, changes = self._changes
        if not len(changes) or rate.size < FEWEST_BINS:
            return np.full(1, math.nan)
        return np.array([np.corrcoef(np.log(rate), each)[0, 1] for each in np.log(changes)])

    def loss_falls(self) -> tuple[float, float]:
        """Training loss lost over the decay, and over as many updates before it; nats per token."""
        quarter = self.decay / 4

        def near(segment: SegmentDynamics, end: float) -> float:
            inside = (segment.step <= end) & (segment.after >= end - quarter)
            return mean_of_known(segment.series["loss"][inside])

        at_fork = near(self.trunk, self.fork)
        at_end = near(self.branch, float(self.branch.step[-1]))
        return at_fork - at_end, near(self.trunk, self.fork - self.decay) - at_fork

    @property
    def _matrices(self) -> list[str]:
        return [name for name in self.branch.changes if name in self.trunk.changes]

    @cached_property
    def _changes(self) -> tuple[Floats, Floats]:
        """Rate, and change of every matrix, where a window ended; the stable stretch first."""
        rate = np.append(self.trunk.series["lr"][self.stable], self.branch.series["lr"])
        changes = np.array(
            [
                np.append(self.trunk.changes[name][self.stable], self.branch.changes[name])
                for name in self._matrices
            ]
        )
        known = np.all(np.nan_to_num(changes) > 0, axis=0)
        return (rate[known], changes[:, known]) if changes.size else (rate, changes)


def mean_of_known(values: Floats) -> float:
    """Over what is known; nan where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan


def _exponent(rate: Floats, values: Floats) -> float:
    """Exponent of the power law through the points; nan where there are too few."""
    known = np.isfinite(values) & (values > 0)
    if np.unique(rate[known]).size < 3:
        return math.nan
    fitted = fit({"x": rate[known], "y": values[known]}, "power", intervals="none", holdout=None)
    return fitted.form.coefficients["b"]
