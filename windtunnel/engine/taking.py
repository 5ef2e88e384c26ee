"""Experiments that wait for others: their plan grows once the results they take are there.

An experiment takes a search's winner, or the measured power of a transfer rule. It waits until
every run of the other experiment has ended. What it takes is written before its first run starts,
so that the order of arrival does not matter and a killed sweep continues with the same values.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain

from windtunnel.config import Branch
from windtunnel.engine.graph import ENDED, Status
from windtunnel.errors import FitError
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.study import Study, with_taken
from windtunnel.runs.taken import Taken

Take = Callable[[Study, Collection[str]], Taken]
"""What the experiments of a study have taken, given the names of those that have ended.

Raises a FitError where one of them has ended without an answer.
"""

LOST = frozenset({Status.FAILED, Status.BLOCKED})


class Taking:
    """The experiments of a study that wait, and for what.

    Args:
        study: With the plan of everything that does not wait.
        take: Reads the results.
        searching: Names of the searches that may still suggest trials.
        ended: How a segment ended that the store has already; None where it has not.
    """

    def __init__(
        self,
        study: Study,
        take: Take,
        searching: Callable[[], Collection[str]],
        ended: Callable[[PlannedSegment], Status | None],
    ) -> None:
        self.study = study
        self._without_answer: dict[str, str] = {}
        self._take, self._searching, self._ended = take, searching, ended
        self._status: dict[str, Status] = {}
        self._runs: dict[str, set[str]] = {}
        self._register(study.plan.segments)

    def _register(self, segments: Iterable[PlannedSegment]) -> None:
        for planned in segments:
            if isinstance(planned.segment, Branch):
                for label in planned.labels:
                    self._runs.setdefault(label.experiment, set()).add(planned.id)

    def add(self, segments: Sequence[PlannedSegment]) -> None:
        """Take in segments that the plan did not have; another study may have trained them."""
        for planned in segments:
            if (status := self._ended(planned)) is not None:
                self._status[planned.id] = status
        self._register(segments)

    def begin(self, statuses: Mapping[str, Status]) -> list[PlannedSegment]:
        """Segments of experiments whose values are there already, given every status now."""
        self._status.update(statuses)
        return self._advance()

    def after(self, planned: PlannedSegment, status: Status) -> list[PlannedSegment]:
        """Segments to add after a segment has ended."""
        self._status[planned.id] = status
        return self._advance() if self.study.waits_for else []

    @property
    def waiting(self) -> dict[str, str]:
        """Why each experiment waits, in words."""
        return {
            name: "; ".join(self._without_answer.get(each, f"waits for {each}") for each in sources)
            for name, sources in self.study.waits_for.items()
        }

    def _advance(self) -> list[PlannedSegment]:
        new: dict[str, PlannedSegment] = {}
        while (source := self._next_ready()) is not None:
            waited = set(self.study.waits_for)
            try:
                taken = self._take(self.study, {source})
            except FitError as missing:
                self._without_answer[source] = str(missing)
                continue
            if taken == self.study.taken:
                break  # nobody reads results here
            self.study = with_taken(self.study, taken)
            settled = waited - self.study.waits_for.keys()
            segments = [
                planned
                for planned in self.study.plan.segments
                if any(label.experiment in settled for label in planned.labels)
            ]
            self.add(segments)
            new |= {planned.id: planned for planned in segments}
        return list(new.values())

    def _next_ready(self) -> str | None:
        """An experiment that others wait for, and whose every run has ended."""
        wanted = set(chain.from_iterable(self.study.waits_for.values()))
        unready = {*self._searching(), *self.study.waits_for, *self._without_answer}
        return min(filter(self._has_ended, wanted - unready), default=None)

    def _has_ended(self, experiment: str) -> bool:
        statuses = [self._status.get(each) for each in self._runs.get(experiment, ())]
        return bool(statuses) and all(status in ENDED - LOST for status in statuses)
