"""Replaces a worker that makes no progress: stopped, hung in a read, or waiting for a lost device.

Such a process keeps its lease and its place, and Ray sees nothing wrong. But its pulse stands still
(`trials/lease.py`): the driver, which looks on by its own clock, kills it on its node, and the
graph counts an attempt.
"""

import logging
import threading
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from windtunnel.engine.graph import Graph
from windtunnel.engine.ray.beside import beside
from windtunnel.engine.ray.placement import nodes
from windtunnel.engine.status import Status
from windtunnel.errors import cause_of
from windtunnel.trials.lease import end_holder, pulse_of
from windtunnel.trials.store import SegmentFolder, Store
from windtunnel.trials.workbench import WorkOrder

GLANCES = 10
"""In the time that a worker may stand still."""

STOPPING_SECONDS = 120.0
"""Of a sweep that stops, which waits for every worker to save (assumed: a large checkpoint)."""

ANSWER_SECONDS = 180.0
"""For a node to start the process that looks there."""

log = logging.getLogger(__name__)


def stalls_ended(graph: Graph, order: WorkOrder, *, seconds: float) -> AbstractContextManager[None]:
    """While the body runs, a worker whose pulse stands still for so long is killed, and noted."""
    stalls = _Stalls(graph, order, seconds)

    def look(over: threading.Event) -> None:
        try:
            stalls.look(time.monotonic())
        except Exception as problem:  # a file server that is away: the next look may see more
            log.warning("looking for workers that stand still: %s", cause_of(problem))

    return beside(look, seconds=min(seconds, STOPPING_SECONDS) / GLANCES, name="stalls")


class _Stalls:
    """The pulses of the running segments, and since when each has stood still."""

    def __init__(self, graph: Graph, order: WorkOrder, seconds: float) -> None:
        self.graph, self.store, self.stop_file = graph, Store(Path(order.store)), order.stop_file
        self.seconds = seconds
        self._seen: dict[str, tuple[float, float]] = {}  # pulse, and when it was first seen
        self._stopping = False

    def look(self, now: float) -> None:
        """Compare all pulses at `now`: a read that hangs is no silence of theirs."""
        if self.stop_file.exists() and not self._stopping:
            self._stopping = True
            self.seconds = min(self.seconds, STOPPING_SECONDS)
            self._seen.clear()
        statuses = list(self.graph.status.items())
        running = [segment_id for segment_id, status in statuses if status is Status.RUNNING]
        pulses = {i: pulse_of(self.store.segment(i).lease_file) for i in running}
        before, self._seen = self._seen, {}
        for segment_id, pulse in pulses.items():
            if pulse is None:
                continue
            known, since = before.get(segment_id, (None, now))
            if pulse == known and now - since >= self.seconds:
                self._end(self.store.segment(segment_id), pulse)
            else:
                self._seen[segment_id] = (pulse, since if pulse == known else now)

    def _end(self, folder: SegmentFolder, pulse: float) -> None:
        ended = end_holder(folder.lease_file, pulse) or _end_elsewhere(folder.lease_file, pulse)
        if ended is not None:
            folder.note(f"no progress for {self.seconds:g} s: {ended} was ended")


def _end_elsewhere(lease: Path, pulse: float) -> str | None:
    """Ask every other node whether the holder is there."""
    here = ray.get_runtime_context().get_node_id()
    ended = None
    asked = [
        ray.remote(end_holder)
        .options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
        )
        .remote(lease, pulse)
        for node in nodes()
        if node.id != here
    ]
    for answer in asked:
        with suppress(ray.exceptions.RayError):
            ended = ray.get(answer, timeout=ANSWER_SECONDS) or ended
    return ended
