"""A look that is taken again and again, in a thread beside the work that it watches.

Ends a sweep within seconds when a server of its own Ray is lost, in our words.

Ray waits for its control server for a minute, in calls that nothing can interrupt, and then ends
the process with its own text. So this process ends itself: the store has all that was saved.

Replaces a worker that makes no progress: stopped, hung in a read, or waiting for a lost device.

Such a process keeps its lease and its place, and Ray sees nothing wrong. But its pulse stands still
(`runs/lease.py`): the driver, which looks on by its own clock, kills it on its node, and the
graph counts an attempt.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from windtunnel.engine.graph import Graph, Status
from windtunnel.engine.ray.isolation import Server, end, processes_of
from windtunnel.engine.ray.preflight import nodes
from windtunnel.errors import cause_of
from windtunnel.runs.lease import end_holder, pulse_of
from windtunnel.runs.store import SegmentFolder, Store
from windtunnel.runs.worker import WorkerConfig

JOIN_SECONDS = 10.0
"""For a look in progress when the work is over; one that waits for a lost node is left behind."""


@contextmanager
def beside(look: Callable[[threading.Event], None], *, seconds: float, name: str) -> Iterator[None]:
    """While the body runs, `look` every so many seconds; the event says that it is over."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(seconds):
            look(over)

    watcher = threading.Thread(target=watch, name=name, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join(timeout=JOIN_SECONDS)


NEEDED = {"gcs_server": "control server", "raylet": "node manager"}

GLANCE_SECONDS = 0.5

SAVE_SECONDS = 2.0
"""For workers to save what they are at; what is not saved is computed again."""

EXIT_LOST = 3


def watched(servers: list[Server], on_lost: Callable[[str], None]) -> AbstractContextManager[None]:
    """While the body runs, a lost server ends this process; `on_lost` lets workers save before."""

    def look(over: threading.Event) -> None:
        for server in servers:
            if server.name in NEEDED and server.poll() is not None and not over.is_set():
                _end_all(server, servers, on_lost)

    return beside(look, seconds=GLANCE_SECONDS, name="watchdog")


def _end_all(lost: Server, servers: list[Server], on_lost: Callable[[str], None]) -> None:
    what = f"Ray's {NEEDED[lost.name]} ({lost.name}, process {lost.pid}) was lost"
    try:
        with suppress(Exception):  # a store that is gone too: nothing can be saved
            on_lost(what)
        processes = processes_of(servers)
        workers = [process for process in processes if _is_worker(process)]
        end([process for process in processes if process not in workers])  # each would tell of it
        time.sleep(SAVE_SECONDS)
        end(workers)
    finally:
        _say(
            f"error: {what}: killed, or out of memory; what was saved is kept: run the same "
            "command to continue\n"
        )
        os._exit(EXIT_LOST)


def _say(text: str) -> None:
    with suppress(OSError, ValueError):  # nobody listens
        sys.stderr.write(text)
        sys.stderr.flush()


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "Trainable" in process.name()
    except psutil.Error:
        return False


GLANCES = 10
"""In the time that a worker may stand still."""

STOPPING_SECONDS = 120.0
"""Of a sweep that stops, which waits for every worker to save (assumed: a large checkpoint)."""

ANSWER_SECONDS = 180.0
"""For a node to start the process that looks there."""

log = logging.getLogger(__name__)


def stalls_ended(
    graph: Graph, order: WorkerConfig, *, seconds: float
) -> AbstractContextManager[None]:
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

    def __init__(self, graph: Graph, order: WorkerConfig, seconds: float) -> None:
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
