"""Callbacks of a sweep: the budget, `retain: last`, and the log of its timing."""

import time
from collections.abc import Iterable

from windtunnel.config import Branch
from windtunnel.config.study import BudgetConfig
from windtunnel.engine.graph import Status
from windtunnel.engine.simulate import estimate_sweep, simulate
from windtunnel.errors import ConfigError
from windtunnel.runs.budget.budget import BudgetWatch, over_budget
from windtunnel.runs.budget.calibration import read_calibration
from windtunnel.runs.budget.cost import remaining_work, slots_here
from windtunnel.runs.budget.throughput import throughput_of
from windtunnel.runs.budget.utilisation import SweepTook, log_sweep
from windtunnel.runs.gc import RetainLast, wanted_back
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.study import Study


class SweepCallbacks:
    """Callbacks of a sweep's graph, for the holder of the study's lease.

    Call `begin` first and `finish` last.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self._budget = BudgetWatch(study)
        self._retention: RetainLast | None = None
        if study.config.retain == "last":
            self._retention = RetainLast(study.store, study.config.study, study.plan.segments)
        self._planned = study.plan.by_id()
        self._ran: dict[str, PlannedSegment] = {}
        self._time_of_day = self._began = self._first = 0.0

    def begin(self) -> list[PlannedSegment]:
        """Segments whose status may have changed, after recalling freed forks that are needed.

        Raises:
            ConfigError: The study needs more than its budget has left.
            StoreError: The store cannot be written.
        """
        self._time_of_day, self._began = time.time(), time.monotonic()
        if problems := self._over_budget():
            message = f"{self.study.file}: " + "\n".join(problems)
            raise ConfigError("over-budget", message, file=self.study.file, problems=problems)
        self._budget.account.save()
        recalled: dict[str, PlannedSegment] = {}
        segments = self._planned.values()
        for folder, fork in list(wanted_back(self.study.store, segments, self.study.wanted)):
            folder.recall(fork)
            recalled[folder.root.name] = self._planned[folder.root.name]
        affected = dict(recalled)
        for planned in segments:  # parents come first, so all descendants are found
            if isinstance(planned.segment, Branch) and planned.segment.parent.id in affected:
                affected[planned.id] = planned
        return [planned for planned in segments if planned.id in affected]

    def _over_budget(self) -> list[str]:
        if self.study.config.budget == BudgetConfig():
            return []
        slots = slots_here(self.study.config)
        calibration = read_calibration(self.study, slots=slots)
        throughput = throughput_of(self.study, calibration.by_shape() if calibration else None)
        study = self.study.expected
        remaining = remaining_work(study)
        eta = estimate_sweep(study, throughput, remaining, slots=slots)
        return over_budget(study, remaining, throughput, eta.disk_peak)

    def add(self, segments: Iterable[PlannedSegment]) -> None:
        """Take in segments that a search has added, before any of them starts.

        Raises:
            StoreError: The store cannot be written.
        """
        segments = list(segments)
        if not segments:
            return
        self._planned |= {planned.id: planned for planned in segments}
        self._budget.add(segments)
        if self._retention is not None:
            self._retention.needs.add(segments)

    def why_not(self, planned: PlannedSegment) -> str | None:
        """Reason why a segment may not start; None if it may."""
        reason = self._budget.why_not(planned)
        if reason is None:
            self._first = self._first or time.monotonic()
            self._ran[planned.id] = planned
        return reason

    def ended(self, planned: PlannedSegment, status: Status) -> None:
        """Account for a segment that has ended."""
        self._budget.ended(planned)
        if self._retention is not None and status in {Status.FINISHED, Status.DIVERGED}:
            self._retention.ended(planned)

    def finish(self, *, slots: int) -> None:
        """Log the sweep's timing, if it ran a segment."""
        took = {i: self._budget.took(planned) for i, planned in self._ran.items()}
        ran = {i: planned for i, planned in self._ran.items() if took[i] > 0}
        if not ran:
            return
        simulated = simulate(
            self._planned.values(),
            lambda planned: took[planned.id],
            slots=slots,
            ended=lambda planned: None if planned.id in ran else Status.FINISHED,
        )
        log_sweep(
            self.study.folder,
            SweepTook(
                began=self._time_of_day,
                startup=self._first - self._began,
                seconds=time.monotonic() - self._first,
                slots=slots,
                segments=len(ran),
                busy=sum(took[i] for i in ran),
                bound=simulated.bound,
            ),
        )
