"""Replaces a worker that makes no progress: stopped, hung in a read, or waiting for a lost device.

Such a process keeps its lease and its place, and Ray sees nothing wrong. But its pulse stands still
(`trials/lease.py`): the driver, which looks on by its own clock, kills it on its node, and the
graph counts an attempt.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from windtunnel.engine.graph import Graph
from windtunnel.engine.ray.placement import nodes
from windtunnel.engine.status import Status
from windtunnel.errors import StoreError
from windtunnel.trials.lease import end_holder, pulse_of
from windtunnel.trials.store import SegmentFolder, Store

GLANCES = 10
"""In the time that a worker may stand still."""

STOPPING_SECONDS = 120.0
"""Of a sweep that stops, which waits for every worker to save (assumed: a large checkpoint)."""

ANSWER_SECONDS = 30.0


@contextmanager
def stalls_ended(graph: Graph, store: Store, *, seconds: float) -> Iterator[None]:
    """While the body runs, a worker whose pulse stands still for so long is killed, and noted."""
    over = threading.Event()
    seen: dict[str, tuple[float, float]] = {}  # pulse, and when it was first seen

    def look() -> None:
        while not over.wait(min(seconds, STOPPING_SECONDS) / GLANCES):
            most = seconds if graph.stopping is None else min(seconds, STOPPING_SECONDS)
            running = [i for i, status in list(graph.status.items()) if status is Status.RUNNING]
            for gone in seen.keys() - set(running):
                del seen[gone]
            for segment_id in running:
                folder = store.segment(segment_id)
                pulse, now = pulse_of(folder.lease_file), time.monotonic()
                if pulse is None:
                    seen.pop(segment_id, None)
                elif pulse != seen.get(segment_id, (None,))[0]:
                    seen[segment_id] = (pulse, now)
                elif now - seen[segment_id][1] >= most:
                    del seen[segment_id]
                    _end(folder, most)

    watcher = threading.Thread(target=look, name="stalls", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _end(folder: SegmentFolder, seconds: float) -> None:
    ended = end_holder(folder.lease_file) or _end_elsewhere(folder.lease_file)
    if ended is not None:
        with suppress(StoreError):
            folder.note(f"no progress for {seconds:g} s: {ended} was ended, and another takes over")


def _end_elsewhere(lease: Path) -> str | None:
    """Ask every other node whether the holder is there."""
    here = ray.get_runtime_context().get_node_id()
    asked = [
        ray.remote(end_holder)
        .options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
        )
        .remote(lease)
        for node in nodes()
        if node.id != here
    ]
    with suppress(ray.exceptions.RayError):
        return next(filter(None, ray.get(asked, timeout=ANSWER_SECONDS)), None)
    return None
