"""Watchdogs of a sweep: threads that detect stalled workers and lost Ray servers.

A stalled worker (stopped, hung in a read, waiting for a lost device) keeps its lease and its slot,
and Ray sees nothing wrong. But its heartbeat stops (`runs/lease.py`), so the driver kills it on its
node by the driver's own clock, and the graph counts a failed attempt.

When a server of a private Ray dies, Ray blocks for a minute and then exits with its own message. So
the driver ends the sweep itself within seconds; the store has everything that was saved.
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
from windtunnel.engine.ray.isolation import Server, kill_and_wait, processes_of
from windtunnel.engine.ray.preflight import nodes
from windtunnel.errors import cause_of
from windtunnel.runs.lease import end_holder, pulse_of
from windtunnel.runs.store import SegmentFolder, Store
from windtunnel.runs.worker import WorkerConfig

JOIN_SECONDS = 10.0
"""Timeout for a check in progress at the end; one that waits for a lost node is abandoned."""


@contextmanager
def repeated(
    check: Callable[[threading.Event], None], *, seconds: float, name: str
) -> Iterator[None]:
    """Call `check` every `seconds` in a thread while the body runs; the event is set at its end."""
    stopped = threading.Event()

    def loop() -> None:
        while not stopped.wait(seconds):
            check(stopped)

    thread = threading.Thread(target=loop, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(timeout=JOIN_SECONDS)


CHECKS = 10
"""Checks within the time that a worker may stall."""

STOPPING_SECONDS = 120.0
"""Stall limit of a stopping sweep, which waits for every worker to save (assumed: a large
checkpoint)."""

ANSWER_SECONDS = 180.0
"""Timeout for a node to look for a process."""

log = logging.getLogger(__name__)


def stall_watchdog(
    graph: Graph, config: WorkerConfig, *, seconds: float
) -> AbstractContextManager[None]:
    """Kill and note any worker whose heartbeat stops for `seconds` while the body runs."""
    stalls = _Stalls(graph, config, seconds)

    def check(stopped: threading.Event) -> None:
        try:
            stalls.check(time.monotonic())
        except Exception as problem:  # the file server may be back at the next check
            log.warning("looking for workers that stand still: %s", cause_of(problem))

    return repeated(check, seconds=min(seconds, STOPPING_SECONDS) / CHECKS, name="stalls")


class _Stalls:
    """The heartbeats of the running segments, and since when each has not changed."""

    def __init__(self, graph: Graph, config: WorkerConfig, seconds: float) -> None:
        self.graph, self.store, self.stop_file = graph, Store(Path(config.store)), config.stop_file
        self.seconds = seconds
        self._last: dict[str, tuple[float, float]] = {}  # heartbeat, and when it was first read
        self._stopping = False

    def check(self, now: float) -> None:
        """Compare all heartbeats as of `now`, so that a slow read here stalls no worker."""
        if self.stop_file.exists() and not self._stopping:
            self._stopping = True
            self.seconds = min(self.seconds, STOPPING_SECONDS)
            self._last.clear()
        statuses = list(self.graph.status.items())
        running = [segment_id for segment_id, status in statuses if status is Status.RUNNING]
        pulses = {i: pulse_of(self.store.segment(i).lease_file) for i in running}
        before, self._last = self._last, {}
        for segment_id, pulse in pulses.items():
            if pulse is None:
                continue
            known, since = before.get(segment_id, (None, now))
            if pulse == known and now - since >= self.seconds:
                self._kill(self.store.segment(segment_id), pulse)
            else:
                self._last[segment_id] = (pulse, since if pulse == known else now)

    def _kill(self, folder: SegmentFolder, pulse: float) -> None:
        ended = end_holder(folder.lease_file, pulse) or _kill_remote(folder.lease_file, pulse)
        if ended is not None:
            folder.note(f"no progress for {self.seconds:g} s: {ended} was ended")


def _kill_remote(lease: Path, pulse: float) -> str | None:
    """Kill the lease's holder on whichever other node it runs; its name."""
    here = ray.get_runtime_context().get_node_id()
    ended = None
    answers = [
        ray.remote(end_holder)
        .options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
        )
        .remote(lease, pulse)
        for node in nodes()
        if node.id != here
    ]
    for answer in answers:
        with suppress(ray.exceptions.RayError):
            ended = ray.get(answer, timeout=ANSWER_SECONDS) or ended
    return ended


NEEDED = {"gcs_server": "control server", "raylet": "node manager"}

SERVER_CHECK_SECONDS = 0.5

SAVE_SECONDS = 2.0
"""Grace period for workers to save; what they do not save is computed again."""

EXIT_LOST = 3


def server_watchdog(
    servers: list[Server], on_lost: Callable[[str], None]
) -> AbstractContextManager[None]:
    """End this process if a server dies while the body runs; `on_lost` lets workers save first."""

    def check(stopped: threading.Event) -> None:
        for server in servers:
            if server.name in NEEDED and server.poll() is not None and not stopped.is_set():
                _exit(server, servers, on_lost)

    return repeated(check, seconds=SERVER_CHECK_SECONDS, name="watchdog")


def _exit(lost: Server, servers: list[Server], on_lost: Callable[[str], None]) -> None:
    what = f"Ray's {NEEDED[lost.name]} ({lost.name}, process {lost.pid}) was lost"
    try:
        with suppress(Exception):  # without the store nothing can be saved
            on_lost(what)
        processes = processes_of(servers)
        workers = [process for process in processes if _is_worker(process)]
        kill_and_wait([process for process in processes if process not in workers])
        time.sleep(SAVE_SECONDS)
        kill_and_wait(workers)
    finally:
        _print(
            f"error: {what}: killed, or out of memory; what was saved is kept: run the same "
            "command to continue\n"
        )
        os._exit(EXIT_LOST)


def _print(text: str) -> None:
    with suppress(OSError, ValueError):  # stderr may be closed
        sys.stderr.write(text)
        sys.stderr.flush()


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "Trainable" in process.name()
    except psutil.Error:
        return False
