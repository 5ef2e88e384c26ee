"""A discrete-event simulation of the scheduler, and the estimate (ETA) that it gives of a sweep.

The graph schedules the segments as in a real sweep; workers and faults are simulated. The estimate
gives a study's seconds on a number of slots and its peak disk usage. Loads neither Ray nor torch.
"""

import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from windtunnel.config import Branch
from windtunnel.engine.graph import Graph, Status
from windtunnel.runs.budget.cost import DiskUse, RemainingWork
from windtunnel.runs.budget.throughput import Throughput
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.study import Study

Seconds = Callable[[PlannedSegment], float]


class Policy(Protocol):
    """The interface that an engine drives: a `Graph`, or an adapter around one."""

    def next_ready(self) -> PlannedSegment | None:
        """Take the next segment to run, if one may start now."""

    def forked(self, segment_id: str, step: int) -> None:
        """A running segment has saved the checkpoint after `step` updates."""

    def report(self, segment_id: str, outcome: str) -> None:
        """A run has come to an end."""

    def give_up(self, segment_id: str) -> None:
        """A run has failed on its last attempt."""


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """Timing and outcomes of a simulated sweep.

    Attributes:
        makespan: Seconds from the start to the end of the last segment.
        bound: Lower bound in seconds for any order without faults: before and after the barrier,
            the larger of work divided by slots and the longest path.
        busy: Slot-seconds in which a segment ran, lost work included.
        slots: Segments at once.
        counts: Number of segments by status.
        faults: Attempts that failed.
    """

    makespan: float
    bound: float
    busy: float
    slots: int
    counts: dict[Status, int]
    faults: int

    @property
    def utilisation(self) -> float:
        """Share of the slots' time in which a segment ran."""
        return self.busy / (self.makespan * self.slots) if self.makespan else 1.0


def simulate(
    segments: Iterable[PlannedSegment],
    seconds: Seconds,
    *,
    slots: int,
    ended: Callable[[PlannedSegment], Status | None] = lambda planned: None,
    fault_rate: float = 0.0,
    retries: int = 2,
    seed: int = 0,
    through: Callable[[Graph], Policy] = lambda graph: graph,
) -> Simulated:
    """Simulate a sweep over segments on `slots` workers.

    Args:
        segments: Parents before children.
        seconds: Duration of a segment; its forks lie at their share of its updates.
        slots: Concurrent segments.
        ended: Status of a segment before the sweep: FINISHED or DIVERGED ones are not run.
        fault_rate: Share of attempts that fail, uniformly over the rest of the segment; the next
            attempt continues from the last fork.
        retries: Attempts after the first, before the segment fails.
        seed: Seed of the faults.
        through: Makes the adapter that drives the graph, such as the Ray engine's Searcher.
    """
    sweep = _Sweep(segments, seconds, ended, slots)
    sweep.run(through(sweep.graph), _Faults(fault_rate, retries, seed))
    return Simulated(
        makespan=sweep.now,
        bound=_bound(sweep.runs, slots),
        busy=sweep.busy,
        slots=slots,
        counts=sweep.graph.counts(),
        faults=sweep.faults,
    )


class _Faults:
    def __init__(self, rate: float, retries: int, seed: int) -> None:
        self.rate, self.retries = rate, retries
        self._random = random.Random(seed)

    def draw(self, begin: float, end: float) -> float:
        """Second of its segment at which an attempt fails; infinity if it does not."""
        fails = self._random.random() < self.rate
        return self._random.uniform(begin, end) if fails else float("inf")


class _Run:
    """A segment on a slot, in the segment's own seconds; a retry starts at `saved`."""

    def __init__(self, planned: PlannedSegment, seconds: float) -> None:
        self.planned, self.seconds = planned, seconds
        self.saved, self.attempt, self.fails_at = 0.0, 1, float("inf")
        self.stops = sorted({*planned.forks, planned.end}, reverse=True)  # the next one last

    def at(self, step: int) -> float:
        """Second at which the segment reaches update `step`."""
        before = step - self.planned.segment.fork_step
        return self.seconds * before / self.planned.steps


class _Sweep:
    """Clock, slots and events; it is also the graph's store view."""

    def __init__(
        self,
        segments: Iterable[PlannedSegment],
        seconds: Seconds,
        ended: Callable[[PlannedSegment], Status | None],
        slots: int,
    ) -> None:
        self.now = self.busy = 0.0
        self.faults = 0
        self.runs: dict[str, _Run] = {}
        self._seconds, self._ended, self._slots = seconds, ended, slots
        self._forks: set[tuple[str, int]] = set()
        self._events: list[tuple[float, int, _Run]] = []
        self._pushed = 0
        self.graph = Graph(segments, self, clock=lambda: self.now)

    def run(self, policy: Policy, faults: _Faults) -> None:
        """Run until nothing runs and nothing is ready."""
        while True:
            while len(self._events) < self._slots:  # every run has one event ahead of it
                planned = policy.next_ready()
                if planned is None:
                    break
                run = self.runs[planned.id] = _Run(planned, self._seconds(planned))
                run.fails_at = faults.draw(0.0, run.seconds)
                self._go_on(run)
            if not self._events:
                return
            self.now, _, run = heapq.heappop(self._events)
            stop = run.at(run.stops[-1])
            if run.fails_at < stop:
                self.busy += run.fails_at - run.saved
                self._fail(run, policy, faults)
            else:
                self.busy += stop - run.saved
                run.saved = stop
                self._stop(run, policy)

    def _go_on(self, run: _Run) -> None:
        wait = min(run.at(run.stops[-1]), run.fails_at) - run.saved
        self._pushed += 1
        heapq.heappush(self._events, (self.now + wait, self._pushed, run))

    def _stop(self, run: _Run, policy: Policy) -> None:
        step, segment_id = run.stops.pop(), run.planned.id
        self._forks.add((segment_id, step))
        if run.stops:
            policy.forked(segment_id, step)
            self._go_on(run)
        else:
            policy.report(segment_id, "finished")

    def _fail(self, run: _Run, policy: Policy, faults: _Faults) -> None:
        self.faults += 1
        if run.attempt > faults.retries:
            policy.give_up(run.planned.id)
            return
        run.attempt += 1
        run.fails_at = faults.draw(run.saved, run.seconds)
        self._go_on(run)

    def ended(self, planned: PlannedSegment) -> Status | None:
        """As the store had it before the sweep."""
        status = self._ended(planned)
        if status is Status.FINISHED:
            self._forks.update((planned.id, step) for step in planned.forks)
        return status

    def fork_is_saved(self, branch: PlannedSegment) -> bool:
        """Whether the parent has passed the fork."""
        segment = branch.segment
        assert isinstance(segment, Branch)
        return (segment.parent.id, segment.fork_step) in self._forks

    def begun(self, planned: PlannedSegment) -> object:
        """Every attempt begins."""
        return object()

    def give_up(self, planned: PlannedSegment, problem: str | None) -> str:
        """Nothing to write."""
        return "every attempt failed"


def _bound(runs: dict[str, _Run], slots: int) -> float:
    """Work over slots or longest path, before the barrier and after it: they do not overlap."""
    bound = 0.0
    for held_out in (False, True):
        begins: dict[str, float] = {}
        longest = work = 0.0
        for segment_id, run in runs.items():  # in the order of their starts: parents first
            if run.planned.held_out is not held_out:
                continue
            segment, begin = run.planned.segment, 0.0
            if isinstance(segment, Branch) and segment.parent.id in begins:
                parent = segment.parent.id
                begin = begins[parent] + runs[parent].at(segment.fork_step)
            begins[segment_id] = begin
            longest = max(longest, begin + run.saved)
            work += run.saved
        bound += max(longest, work / slots)
    return bound


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Simulations of the whole plan and of what is left, and disk usage in bytes."""

    whole: Simulated
    left: Simulated
    disk_peak: int
    disk_end: int


def estimate_sweep(
    study: Study, throughput: Throughput, remaining: RemainingWork, *, slots: int
) -> Estimate:
    """Estimate (ETA) of a study on `slots`, with the given throughput and remaining work."""
    segments = study.plan.segments
    disk = DiskUse(segments, throughput, retain=study.config.retain)
    whole = simulate(
        segments, throughput.seconds, slots=slots, through=lambda graph: _DiskTracking(graph, disk)
    )
    return Estimate(
        whole=whole,
        left=simulate_rest(study, throughput, remaining, slots=slots)
        if remaining.ended or remaining.updates != {p.id: p.steps for p in segments}
        else whole,
        disk_peak=disk.peak,
        disk_end=disk.now,
    )


def simulate_rest(
    study: Study, throughput: Throughput, remaining: RemainingWork, *, slots: int
) -> Simulated:
    """Simulate what is left of a study's plan on `slots`."""
    return simulate(
        study.plan.segments,
        lambda planned: throughput.seconds(planned, remaining.updates[planned.id]),
        slots=slots,
        ended=lambda planned: _status(remaining, planned),
    )


def _status(remaining: RemainingWork, planned: PlannedSegment) -> Status | None:
    outcome = remaining.ended.get(planned.id)
    return None if outcome is None else Status(outcome)


class _DiskTracking:
    """An adapter around a graph that tracks disk usage."""

    def __init__(self, graph: Graph, disk: DiskUse) -> None:
        self._graph, self._disk = graph, disk

    def next_ready(self) -> PlannedSegment | None:
        planned = self._graph.next_ready()
        if planned is not None:
            self._disk.started(planned.id)
        return planned

    def forked(self, segment_id: str, step: int) -> None:
        self._disk.forked(segment_id, step)
        self._graph.forked(segment_id, step)

    def report(self, segment_id: str, outcome: str) -> None:
        self._disk.ended(segment_id)
        self._graph.report(segment_id, outcome)

    def give_up(self, segment_id: str) -> None:
        self._graph.give_up(segment_id)
