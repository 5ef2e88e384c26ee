"""The graph of a sweep: which segments are ready now, and what each report makes ready.

Both engines and the simulation ask this graph what to run next. It reads no file and loads no Ray:
it sees the store through a `StoreView`.

A branch is ready as soon as its parent has saved the fork checkpoint. Held-out segments wait behind
a barrier until all others have ended and `at_barrier` has written the forecast. A plan may grow
while it runs: `on_ended` returns segments to add, such as a search's next batch. Of the ready
segments, the one with the longest path of work ahead of it runs first.
"""

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Protocol

from windtunnel.config import Branch
from windtunnel.config.segment import flops_per_update
from windtunnel.runs.plan import PlannedSegment, merged


class Status(StrEnum):
    """Status of a segment in this sweep."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    DIVERGED = "diverged"
    FAILED = "failed"
    BLOCKED = "blocked"
    INTERRUPTED = "interrupted"


ENDED = frozenset({Status.FINISHED, Status.DIVERGED, Status.FAILED, Status.BLOCKED})


BUSY_SECONDS = 3.0
"""Interval between two checks of a segment that another process is running."""

MOST_REPLAYS = 3
"""Replays of a trunk for one branch's damaged checkpoint (assumed: a disk that damages three in a
row damages the fourth)."""

MOST_FALSE_STARTS = 3
"""Processes that may die before they begin a segment, besides an idle one per slot."""


class StoreView(Protocol):
    """The store as the graph sees it; the graph writes only the record of a failure."""

    def ended(self, planned: PlannedSegment) -> Status | None:
        """FINISHED or DIVERGED where the store holds everything planned; else None."""

    def fork_is_saved(self, branch: PlannedSegment) -> bool:
        """Whether the checkpoint that a branch starts from exists."""

    def begun(self, planned: PlannedSegment) -> object:
        """A value that changes with every attempt that a worker begins."""

    def give_up(self, planned: PlannedSegment, problem: str | None) -> str:
        """The error in one line, after recording that every attempt has failed.

        Without a `problem` the error is the note that the last attempt left.
        """


def _nothing_more(planned: PlannedSegment, status: Status) -> Iterable[PlannedSegment]:
    return ()


class Graph:
    """The segments of a plan and their status; not thread-safe, owned by the engine's thread.

    Args:
        segments: Parents before children.
        store_view: The store.
        at_barrier: Called once, when every segment that is not held out has ended.
        on_ended: Called for each segment that ends here; returns the segments to add.
        why_not: Why a segment may not start now, such as "budget.flops is spent", or None.
        retries: Attempts after the first, before a segment fails.
        clock: Seconds from any origin.
    """

    def __init__(
        self,
        segments: Iterable[PlannedSegment],
        store_view: StoreView,
        *,
        at_barrier: Callable[[], None] = lambda: None,
        on_ended: Callable[[PlannedSegment, Status], Iterable[PlannedSegment]] = _nothing_more,
        why_not: Callable[[PlannedSegment], str | None] = lambda planned: None,
        retries: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.planned: dict[str, PlannedSegment] = {}
        self.status: dict[str, Status] = {}
        self.stopping: str | None = None
        self.slots = 1  # concurrent segments; the engine sets it
        self.errors: dict[str, str] = {}
        self._store_view, self._at_barrier, self._on_ended = store_view, at_barrier, on_ended
        self._why_not, self._retries, self._clock = why_not, retries, clock
        self._counts: Counter[Status] = Counter()
        self._children: dict[str, list[str]] = {}
        self._ready: list[tuple[float, int, str]] = []
        self._queued: set[str] = set()  # what `_ready` holds
        self._behind_barrier: dict[str, None] = {}  # a set in the order of the plan
        self._open_before_barrier: set[str] = set()
        self._barrier_passed = False
        self._busy: list[tuple[float, str]] = []
        self._extended: set[str] = set()
        self._replays: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._false_starts: Counter[str] = Counter()
        self._false_starts_in_a_row = 0
        self._begun: dict[str, object] = {}  # of the running segments, before this attempt
        self._pushed = 0
        self.add(segments)

    @property
    def done(self) -> bool:
        """Whether nothing is left to start or to wait for."""
        return sum(self._counts[status] for status in ENDED) == len(self.planned)

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing will: all is done, or the sweep is stopping."""
        return not self._counts[Status.RUNNING] and (self.stopping is not None or self.done)

    def counts(self) -> dict[Status, int]:
        """Number of segments by status."""
        return {status: self._counts[status] for status in Status}

    def ended(self) -> set[str]:
        """Ids of the segments that have ended, in this sweep or before it."""
        return {i for i, status in self.status.items() if status in ENDED}

    def add(self, segments: Iterable[PlannedSegment]) -> None:
        """Add segments, parents before children; new forks extend a known trunk."""
        fresh: dict[str, None] = {}  # two searches may add the same trunk in one call
        for planned in segments:
            known = self.planned.get(planned.id)
            if known is None:
                if isinstance(planned.segment, Branch):
                    self._children.setdefault(planned.segment.parent.id, []).append(planned.id)
                self.planned[planned.id] = planned
            else:
                self.planned[planned.id] = merged(known, planned)
                if self.status.get(planned.id) is Status.RUNNING:
                    self._extended.add(planned.id)
                    continue
            fresh[planned.id] = None
        for segment_id in fresh:
            ended = self._store_view.ended(self.planned[segment_id])
            self._set(segment_id, ended or Status.WAITING)
        for segment_id in fresh:
            self._consider(segment_id)

    def next_ready(self) -> PlannedSegment | None:
        """Next segment to run; None when all must wait or the sweep is stopping."""
        if self.stopping is not None:
            return None
        self._pass_barrier()
        self._look_at_the_busy_again()
        while self._ready:
            _, _, segment_id = self._ready[0]
            if self.status[segment_id] is not Status.WAITING:  # found finished while it was queued
                self._dequeue()
                continue
            self.stopping = self._why_not(self.planned[segment_id])
            if self.stopping is not None:
                return None
            self._dequeue()
            self._set(segment_id, Status.RUNNING)
            self._begun[segment_id] = self._store_view.begun(self.planned[segment_id])
            return self.planned[segment_id]
        return None

    def trunk_tokens(self, planned: PlannedSegment) -> int:
        """Tokens of the segment's trunk and of everything planned on it."""
        root = planned.segment.root.id
        tokens, pending = 0, [root]
        while pending:
            segment_id = pending.pop()
            if segment_id in self.planned:
                tokens += self.planned[segment_id].tokens
            pending.extend(self._children.get(segment_id, ()))
        return tokens

    def forked(self, segment_id: str, step: int) -> None:
        """Record that a running segment has saved the checkpoint after `step` updates."""
        self._false_starts_in_a_row = 0
        for child in self._children.get(segment_id, ()):
            planned = self.planned[child]
            if self.status[child] is Status.WAITING and planned.segment.fork_step <= step:
                self._consider(child)

    def report(
        self, segment_id: str, outcome: str, error: str | None = None, *, halt: str | None = None
    ) -> None:
        """Record the end of a run.

        `outcome` is finished, diverged, failed or interrupted; or `busy`, when another process
        holds the segment and the graph checks it again later; or `lost_fork`, when the checkpoint
        that it starts from was damaged and its parent makes it again. `halt` is the reason why no
        other segment may start either, such as "no space is left in the store".
        """
        if error is not None:
            self.errors[segment_id] = error
        self.stopping = self.stopping or halt
        self._false_starts_in_a_row = 0
        match outcome:
            case "busy":
                self._set(segment_id, Status.WAITING)
                self._busy.append((self._clock() + BUSY_SECONDS, segment_id))
                return
            case "lost_fork" if self._replays[segment_id] < MOST_REPLAYS:
                self._replays[segment_id] += 1
                self._set(segment_id, Status.WAITING)
                self._send_back(self.planned[segment_id].segment.parent.id)  # type: ignore[union-attr]
                return
            case "lost_fork":
                outcome = "failed"
            case "interrupted":
                self.stopping = "interrupted"
            case "finished":
                self.errors.pop(segment_id, None)  # it has recovered from a busy or damaged start
        if segment_id in self._extended:
            self._extended.discard(segment_id)
            if outcome == "finished" and self._store_view.ended(self.planned[segment_id]) is None:
                self._set(segment_id, Status.WAITING)
                self._consider(segment_id)
                self._consider_children(segment_id)
                return
        self._end(segment_id, Status(outcome))

    def attempt_failed(self, segment_id: str, problem: str | None = None) -> None:
        """Record a failed attempt; the segment waits again, unless it was the last attempt.

        `problem` is the error that it raised, if any. A process that died before it began the
        segment, as an idle one may, uses up no attempt, because results must not depend on where
        processes die. If too many die so in a row, the sweep stops.
        """
        planned = self.planned[segment_id]
        if problem is None and self._store_view.begun(planned) == self._begun[segment_id]:
            self._false_starts[segment_id] += 1
            self._false_starts_in_a_row += 1
            free = MOST_FALSE_STARTS + self.slots
            if self._false_starts_in_a_row > free:
                self.stopping = self.stopping or "worker processes end before they begin a segment"
            counts = self._false_starts[segment_id] > free
        else:
            self._false_starts_in_a_row = 0
            counts = True
        if counts and self._failures[segment_id] >= self._retries:
            self.give_up(segment_id, problem)
            return
        self._failures[segment_id] += counts
        self._set(segment_id, Status.WAITING)
        self._extended.discard(segment_id)
        self._consider(segment_id)

    def give_up(self, segment_id: str, problem: str | None = None) -> None:
        """Record a failure for good; `problem` is the error that the run raised, if any."""
        error = self._store_view.give_up(self.planned[segment_id], problem)
        self.report(segment_id, "failed", error)

    def _end(self, segment_id: str, status: Status) -> None:
        self._set(segment_id, status)
        self._consider_children(segment_id)
        if status in ENDED:
            self.add(self._on_ended(self.planned[segment_id], status))

    def _send_back(self, parent_id: str) -> None:
        """Send a parent back to remake a checkpoint that existed before."""
        if self.status[parent_id] is Status.RUNNING:
            self._extended.add(parent_id)
            return
        self._set(parent_id, Status.WAITING)
        planned = self.planned[parent_id]
        if isinstance(planned.segment, Branch) and not self._store_view.fork_is_saved(planned):
            self._send_back(planned.segment.parent.id)
        self._consider(parent_id)

    def _consider_children(self, segment_id: str) -> None:
        for child in self._children.get(segment_id, ()):
            self._consider(child)

    def _consider(self, segment_id: str) -> None:
        """Queue a waiting segment if it can start; block it if it never can."""
        if self.status[segment_id] is not Status.WAITING or segment_id in self._queued:
            return
        planned = self.planned[segment_id]
        segment = planned.segment
        if planned.held_out and not self._barrier_passed:
            self._behind_barrier[segment_id] = None
        elif not isinstance(segment, Branch) or self._store_view.fork_is_saved(planned):
            self._pushed += 1
            heapq.heappush(self._ready, (-self._path(segment_id), self._pushed, segment_id))
            self._queued.add(segment_id)
        elif self.status[segment.parent.id] in ENDED:
            self._end(segment_id, Status.BLOCKED)

    def _dequeue(self) -> None:
        _, _, segment_id = heapq.heappop(self._ready)
        self._queued.discard(segment_id)

    def _look_at_the_busy_again(self) -> None:
        now = self._clock()
        due = [segment_id for at, segment_id in self._busy if at <= now]
        self._busy = [(at, segment_id) for at, segment_id in self._busy if at > now]
        for segment_id in due:
            ended = self._store_view.ended(self.planned[segment_id])
            if ended is not None:  # the other process has brought it to its end
                self.errors.pop(segment_id, None)
                self._end(segment_id, ended)
                continue
            self._consider(segment_id)
            self.forked(segment_id, self.planned[segment_id].end)

    def _pass_barrier(self) -> None:
        if self._barrier_passed or self._open_before_barrier:
            return
        self._at_barrier()
        self._barrier_passed = True
        for segment_id in self._behind_barrier:
            self._consider(segment_id)
        self._behind_barrier.clear()

    def _path(self, segment_id: str) -> float:
        """FLOPs of the longest path of work from here: its own, or through a fork's branch."""
        planned = self.planned[segment_id]
        per_update = flops_per_update(planned.segment)
        paths = [float(planned.flops)]
        for child in self._children.get(segment_id, ()):
            if self.status[child] is Status.WAITING:
                updates = self.planned[child].segment.fork_step - planned.segment.fork_step
                paths.append(updates * per_update + self._path(child))
        return max(paths)

    def _set(self, segment_id: str, status: Status) -> None:
        before = self.status.get(segment_id)
        if before is not None:
            self._counts[before] -= 1
        self._counts[status] += 1
        self.status[segment_id] = status
        if status in ENDED or self.planned[segment_id].held_out:
            self._open_before_barrier.discard(segment_id)
        else:
            self._open_before_barrier.add(segment_id)
