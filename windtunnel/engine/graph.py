"""The graph of a sweep: which segments are ready now, and what each report makes ready.

Engines differ in where segments run; both ask this graph what to run next. A branch is ready the
moment its parent has saved the fork checkpoint. Held-out segments wait behind a barrier, until all
others have ended and `at_barrier` has written the forecast.
"""

from collections.abc import Callable
from enum import StrEnum

from windtunnel.spec import Branch
from windtunnel.trials.completion import outcome_of
from windtunnel.trials.plan import Plan, PlannedSegment
from windtunnel.trials.store import Store


class Status(StrEnum):
    """Where a segment stands in this sweep."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    DIVERGED = "diverged"
    FAILED = "failed"
    BLOCKED = "blocked"
    INTERRUPTED = "interrupted"


ENDED = {Status.FINISHED, Status.DIVERGED, Status.FAILED, Status.BLOCKED}


class Graph:
    """Segments of one plan and their status; not thread-safe, owned by the engine's thread."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        *,
        complete: Callable[[PlannedSegment], bool],
        at_barrier: Callable[[], None],
    ) -> None:
        self.planned = plan.by_id()
        self.store = store
        self.stopping = False
        self._at_barrier = at_barrier
        self._barrier_passed = False
        self.status: dict[str, Status] = {}
        for planned in plan.segments:
            if outcome_of(store.segment(planned.id).record, planned) == "diverged":
                self.status[planned.id] = Status.DIVERGED
            elif complete(planned):
                self.status[planned.id] = Status.FINISHED
            else:
                self.status[planned.id] = Status.WAITING

    @property
    def done(self) -> bool:
        """Whether nothing is left to start or to wait for."""
        return all(status in ENDED for status in self.status.values())

    def next_ready(self) -> PlannedSegment | None:
        """Take the next segment to run: trunks before branches, longest work first."""
        if self.stopping:
            return None
        self._block()
        self._pass_barrier()
        ready = [p for p in self.planned.values() if self._is_ready(p)]
        if not ready:
            return None
        chosen = max(ready, key=self._urgency)
        self.status[chosen.id] = Status.RUNNING
        return chosen

    def report(self, segment_id: str, outcome: str) -> None:
        """A run has come to its end: finished, diverged, failed or interrupted."""
        self.status[segment_id] = Status(outcome)

    def counts(self) -> dict[Status, int]:
        """How many segments stand where."""
        return {status: list(self.status.values()).count(status) for status in Status}

    def _is_ready(self, planned: PlannedSegment) -> bool:
        if self.status[planned.id] is not Status.WAITING:
            return False
        if planned.held_out and not self._barrier_passed:
            return False
        return self._fork_is_saved(planned)

    def _fork_is_saved(self, planned: PlannedSegment) -> bool:
        segment = planned.segment
        if not isinstance(segment, Branch):
            return True
        return self.store.segment(segment.parent.id).has_checkpoint(segment.fork_step)

    def _block(self) -> None:
        """Branches whose parent ended without their fork can never start in this sweep."""
        for planned in self.planned.values():
            segment = planned.segment
            if self.status[planned.id] is not Status.WAITING or not isinstance(segment, Branch):
                continue
            parent_ended = self.status[segment.parent.id] in ENDED
            if parent_ended and not self._fork_is_saved(planned):
                self.status[planned.id] = Status.BLOCKED

    def _pass_barrier(self) -> None:
        if self._barrier_passed:
            return
        before = [s for i, s in self.status.items() if not self.planned[i].held_out]
        if all(status in ENDED for status in before):
            self._at_barrier()
            self._barrier_passed = True

    def _urgency(self, planned: PlannedSegment) -> tuple[bool, float]:
        """Trunks first: other work hangs on them; then whatever takes longest."""
        work = planned.tokens * planned.segment.model.flops_exact_per_token
        return (not isinstance(planned.segment, Branch), work)
