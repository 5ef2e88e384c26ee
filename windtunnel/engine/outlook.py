"""What lies ahead of a sweep: seconds on so many slots, and the peak on disk, before it is run.

The graph's own policy hands the segments out, on the clock of the simulation.
"""

from dataclasses import dataclass

from windtunnel.engine.graph import Graph
from windtunnel.engine.simulate import Simulated, simulate
from windtunnel.engine.status import Status
from windtunnel.trials.cost import Left
from windtunnel.trials.disk import DiskUse
from windtunnel.trials.pace import Pace
from windtunnel.trials.plan import PlannedSegment
from windtunnel.trials.study import Study


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """The whole plan from nothing, what is left of it, and the most bytes that it holds at once."""

    whole: Simulated
    left: Simulated
    disk_peak: int
    disk_end: int


def outlook(study: Study, pace: Pace, left: Left, *, slots: int) -> Outlook:
    """Simulate a study's plan on `slots`."""
    segments = study.plan.segments
    disk = DiskUse(segments, pace, retain=study.config.retain)
    whole = simulate(
        segments, pace.seconds, slots=slots, through=lambda graph: _Watched(graph, disk)
    )
    return Outlook(
        whole=whole,
        left=simulate(
            segments,
            lambda planned: pace.seconds(planned, left.updates[planned.id]),
            slots=slots,
            ended=lambda planned: _status(left, planned),
        )
        if left.ended or left.updates != {p.id: p.steps for p in segments}
        else whole,
        disk_peak=disk.peak,
        disk_end=disk.now,
    )


def _status(left: Left, planned: PlannedSegment) -> Status | None:
    found = left.ended.get(planned.id)
    return None if found is None else Status(found)


class _Watched:
    """A graph whose events are told to the count of bytes, too."""

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
