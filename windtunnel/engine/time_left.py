"""The time left of a running sweep: a simulation of what is left, corrected by what is done."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from windtunnel.engine.simulate import simulate_rest
from windtunnel.runs.budget.calibration import read_calibration
from windtunnel.runs.budget.cost import RemainingWork, remaining_work
from windtunnel.runs.budget.throughput import throughput_of
from windtunnel.runs.study import Study, replanned

PRIOR_SECONDS = 10.0
"""Predicted seconds that the correction weighs as if they had been kept (assumed)."""

LEAST_WAIT = 5.0
LARGEST_SHARE = 0.02
"""Seconds between two simulations, and the largest share of one core that they may take."""


@dataclass(frozen=True, kw_only=True)
class Estimated:
    """The time left at one moment.

    Attributes:
        at: When, on the clock of the estimate.
        left: Seconds left then.
        factor: Seconds that the sweep took so far, divided by those that are predicted for it.
    """

    at: float
    left: float
    factor: float


class TimeLeft:
    """Seconds left of one sweep.

    What is left is simulated with every search filled up and every waiting experiment, at the
    throughput measured so far. Work done since the sweep began is predicted in the same way, and
    the ratio of its seconds to the prediction scales the rest: it holds what no record has, such as
    starts of workers and slots that share memory bandwidth.

    Args:
        study: The study now, with the trials that are suggested.
        slots: Segments at once.
        clock: Seconds.
    """

    def __init__(
        self,
        study: Callable[[], Study],
        *,
        slots: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._study, self._slots, self._clock = study, slots, clock
        self._before: RemainingWork | None = None
        self._began = self._next = 0.0
        self._last: Estimated | None = None
        self._works = False

    def left(self, steps: Mapping[str, int]) -> float | None:
        """Seconds left; None before any work is done.

        Args:
            steps: Update that each running segment has reached, by id.
        """
        now = self._clock()
        if now >= self._next:
            self._last = self._estimated(now, steps)
            self._next = self._clock() + max(LEAST_WAIT, (self._clock() - now) / LARGEST_SHARE)
        if self._last is None or not self._works:
            return None
        return max(0.0, self._last.left - (now - self._last.at))

    def _estimated(self, now: float, steps: Mapping[str, int]) -> Estimated:
        study = replanned(self._study()).expected
        remaining = _less(remaining_work(study), study, steps)
        if self._before is None or not (self._works or steps):  # workers may take long to start
            self._before, self._began = remaining, now
        self._works = self._works or bool(steps)
        calibration = read_calibration(study, slots=self._slots)
        throughput = throughput_of(study, calibration.by_shape() if calibration else None)
        whole, rest = (
            simulate_rest(study, throughput, each, slots=self._slots).makespan
            for each in (_of_plan(self._before, study), remaining)
        )
        predicted = max(0.0, whole - rest)
        factor = (now - self._began + PRIOR_SECONDS) / (predicted + PRIOR_SECONDS)
        return Estimated(at=now, left=rest * factor, factor=factor)


def _less(remaining: RemainingWork, study: Study, steps: Mapping[str, int]) -> RemainingWork:
    """What is left after the updates that running segments have made since their checkpoints."""
    ends = {planned.id: planned.end for planned in study.plan.segments}
    updates = {
        segment: min(left, max(0, ends[segment] - steps[segment])) if segment in steps else left
        for segment, left in remaining.updates.items()
    }
    return replace(remaining, updates=updates)


def _of_plan(before: RemainingWork, study: Study) -> RemainingWork:
    """The work left before, of today's plan: trials that were unknown then are all work."""
    plan = [planned for planned in study.plan.segments if planned.id not in before.ended]
    return replace(before, updates={p.id: before.updates.get(p.id, p.steps) for p in plan})
