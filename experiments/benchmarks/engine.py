"""What the Ray engine adds to a segment: seconds of its slot, and memory of the driver.

The whole path is real (graph, store, Searcher, Tune, actors, reports); only the training is a sleep
of a tenth of a second, so that nothing hides what is around it.

    python experiments/benchmarks/engine.py
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from windtunnel.engine.ray.settings import prepare_environment

prepare_environment()  # before ray is imported

import psutil
from ray import cloudpickle, tune
from scale import horizons_of, study_of
from tables import table

from windtunnel.config import StudyConfig
from windtunnel.engine.graph import Graph, Status
from windtunnel.engine.ray import cluster
from windtunnel.engine.ray import tune as run
from windtunnel.engine.ray.tune import ReadySegments, SegmentTrainable
from windtunnel.engine.sweep import StudyStoreView
from windtunnel.engine.worker import Report
from windtunnel.runs.completion import stops_of
from windtunnel.runs.files import write_json
from windtunnel.runs.plan import PlannedSegment, make_plan
from windtunnel.runs.points import StudyContext
from windtunnel.runs.store import Store

SLOTS = 2
SLEEP_SECONDS = 0.1
BRANCHES = 24

MOST_SECONDS, MOST_KIB = 0.050, 100.0
"""A segment may cost this much of its slot and of the driver's memory beside its work."""


class Sleeper:
    """A worker whose segments sleep; it leaves in the store what a driver looks for."""

    def __init__(self, store: Path) -> None:
        self.store = Store(store)
        self.left: list[int] = []
        self.slept = 0.0

    def run(self, planned: PlannedSegment, *, trunk_tokens: int) -> Report:
        """Sleep up to the next stop."""
        stops = stops_of(planned)
        if not self.left:
            self.left, self.slept = list(stops), 0.0
        began = time.perf_counter()
        time.sleep(SLEEP_SECONDS / len(stops))
        self.slept += time.perf_counter() - began
        folder, step = self.store.segment(planned.id), self.left.pop(0)
        folder.checkpoint(step).mkdir(parents=True)
        if self.left:
            return {"event": "fork", "step": step, "outcome": None}
        record = {"outcome": "finished", "reached": step, "seconds": self.slept, "epochs": {}}
        record["pid"] = os.getpid()
        (folder.root / "record.json").write_text(json.dumps(record))
        return {"event": "done", "step": step, "outcome": "finished"}

    def close(self) -> None:
        """Nothing to release."""


class SleepingTrainable(SegmentTrainable):
    """The engine's trainable over a `Sleeper`."""

    def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
        """The store lies beside the worker configuration."""
        self.worker = Sleeper(Path(config["worker_config"]).parent)
        self._take(config)


class Watched(Graph):
    """A graph that notes when each segment ended, and how large this process was."""

    notes: list[tuple[float, float, int]]

    def report(
        self, segment_id: str, outcome: str, error: str | None = None, *, halt: str | None = None
    ) -> None:
        """Note, then go on."""
        driver = psutil.Process()
        now = (time.perf_counter(), time.process_time(), driver.memory_info().rss)
        self.notes.append(now)
        super().report(segment_id, outcome, error, halt=halt)


def measure(*, seeds: int = 10) -> dict[str, Any]:
    """Drive 8 x 25 segments a seed on two slots."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    config = StudyConfig.model_validate(study_of(seeds=seeds, horizons=horizons_of(BRANCHES)))
    segments = make_plan(StudyContext(config=config, vocab_size=256, stream="slept")).segments
    with tempfile.TemporaryDirectory() as folder:
        config_path = Path(folder) / "orders.json"
        write_json(config_path, {})
        store = Store(Path(folder))
        graph = Watched(segments, StudyStoreView(store, {}))
        graph.notes = []
        with cluster.connected(None, lambda problem: None):
            trainable = tune.with_resources(SleepingTrainable, {"cpu": 1})
            run._tune(ReadySegments(graph, config_path), trainable, slots=SLOTS)
        assert graph.counts()[Status.FINISHED] == len(segments), graph.errors
        records = [store.segment(each.id).record or {} for each in segments]
    count = len(segments)
    slept = sum(record["seconds"] for record in records) / count
    quarters = [note_of(graph.notes, count, quarter) for quarter in range(4)]
    return {
        "segments": count,
        "workers": len({record["pid"] for record in records}),
        "whole": stretch(graph.notes, slept),
        "quarters": [stretch(each, slept) for each in quarters],
    }


Notes = list[tuple[float, float, int]]


def note_of(notes: Notes, count: int, quarter: int) -> Notes:
    """The notes of one quarter."""
    return notes[quarter * count // 4 : (quarter + 1) * count // 4]


def stretch(notes: Notes, slept: float) -> dict[str, float]:
    """A segment's seconds beside its work, of slot and of driver, and KiB, over some ends."""
    first, last, ends = notes[0], notes[-1], len(notes) - 1
    return {
        "seconds": (last[0] - first[0]) * SLOTS / ends - slept,
        "driver_seconds": (last[1] - first[1]) / ends,
        "kib": (last[2] - first[2]) / 1024 / ends,
    }


def page(results: Mapping[str, Any]) -> str:
    """The section of the page."""
    whole = results["whole"]
    kept = whole["seconds"] <= MOST_SECONDS and whole["kib"] <= MOST_KIB
    rows = [*enumerate(results["quarters"], 1), ("all", whole)]
    return "\n\n".join(
        [
            f"{results['segments']:,} segments that sleep {SLEEP_SECONDS:g} s, driven by the Ray "
            f"engine on {SLOTS} slots through Tune, Searcher and store, in "
            f"{results['workers']} worker processes. Per segment, from the "
            "first end to the last: what its slot spends beside the sleep (limit "
            f"{MOST_SECONDS * 1e3:.0f} ms), the driver's CPU time, and the driver's growth (limit "
            f"{MOST_KIB:.0f} KiB). "
            + ("Both limits are kept." if kept else "A limit is exceeded."),
            table(
                ["quarter", "overhead", "driver CPU", "driver memory"],
                (
                    [
                        str(name),
                        f"{each['seconds'] * 1e3:.1f} ms",
                        f"{each['driver_seconds'] * 1e3:.1f} ms",
                        f"{each['kib']:.1f} KiB",
                    ]
                    for name, each in rows
                ),
            ),
        ]
    )


if __name__ == "__main__":
    print(page(measure()))
