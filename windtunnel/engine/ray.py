"""The Ray engine: Tune runs the graph through a Searcher that hands out ready segments by id.

Checkpoints live in our store and Tune sees ids only, for it cannot start a trial from another
trial's checkpoint (ray issue 5150). Nothing is ever restored by Tune: the store says what is left.
"""

import logging
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from windtunnel.engine.graph import Graph, Status
from windtunnel.engine.worker import Worker
from windtunnel.errors import ConfigError
from windtunnel.spec.config import Resources
from windtunnel.trials.run import fail

CONNECT_SECONDS = 5.0

OBJECT_STORE_BYTES = 100 * 2**20
"""Only ids and reports pass through Ray; its default would take 30% of memory."""


class SegmentTrainable(tune.Trainable):
    """One trial: one segment, stop by stop. Actors are reused, so shapes stay compiled."""

    def setup(self, config: dict[str, Any]) -> None:
        """Open the study's data once per process."""
        self.worker = Worker(Path(config["orders"]))
        self.segment_id = config["segment"]

    def step(self) -> dict[str, Any]:
        """Up to the next stop."""
        report = self.worker.run(self.segment_id)
        return report | {"done": report["outcome"] is not None}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next segment in the same process."""
        self.worker.close()
        self.segment_id = new_config["segment"]
        return True

    def cleanup(self) -> None:
        """Let go of the lease."""
        self.worker.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the store has the checkpoints."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing: the store has the checkpoints."""


class ReadySegments(Searcher):
    """Suggests segments as they become ready; None means: ask again."""

    def __init__(self, graph: Graph, orders: Path) -> None:
        super().__init__(metric="step", mode="max")
        self.graph, self.orders = graph, orders
        self.segment_of: dict[str, str] = {}
        self.errors: dict[str, str] = {}

    def suggest(  # type: ignore[override]
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        """The next ready segment, None while all must wait, FINISHED when nothing is left."""
        planned = self.graph.next_ready()
        if planned is not None:
            self.segment_of[trial_id] = planned.id
            return {"segment": planned.id, "orders": str(self.orders)}
        running = self.graph.counts()[Status.RUNNING]
        if not running and (self.graph.stopping or self.graph.done):
            return str(self.FINISHED)
        return None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Learn how a segment ended."""
        self._take(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Learn that a trial is over; one that raised on its last attempt has failed."""
        segment_id = self.segment_of[trial_id]
        if result:
            self._take(trial_id, result)
        if self.graph.status[segment_id] is Status.RUNNING:
            folder = self.graph.store.segment(segment_id)
            problem = folder.last_note() or "its worker process died on every attempt"
            self.errors[segment_id] = problem.splitlines()[-1]
            fail(folder, problem)
            self.graph.report(segment_id, "failed")

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the store is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the store is the truth."""

    def _take(self, trial_id: str, result: dict[str, Any]) -> None:
        segment_id, outcome = self.segment_of[trial_id], result.get("outcome")
        if outcome is None or self.graph.status[segment_id] is not Status.RUNNING:
            return
        if "error" in result:
            self.errors[segment_id] = str(result["error"])
        if outcome == "interrupted":
            self.graph.stopping = True
        self.graph.report(segment_id, outcome)


def run(
    graph: Graph,
    orders: Path,
    *,
    resources: Resources,
    address: str | None,
    on_connected: Callable[[], None],
) -> dict[str, str]:
    """Run the graph on a local or an existing Ray; the last error of each failed segment, by id.

    `on_connected` is called once Ray is up, which by then has put its own signal handlers in place.

    Raises:
        ConfigError: The cluster cannot be reached, or can never hold one trial.
    """
    _start(address)
    on_connected()
    try:
        slots = _slots(resources)
        searcher = ReadySegments(graph, orders)
        if not graph.done:
            with tempfile.TemporaryDirectory(prefix="windtunnel-tune-") as scratch:
                _tune(searcher, resources, Path(scratch), slots=slots)
    finally:
        ray.shutdown()
    return searcher.errors


def _tune(searcher: ReadySegments, resources: Resources, scratch: Path, *, slots: int) -> None:
    trainable = tune.with_resources(
        SegmentTrainable, {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial}
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=-1,
            max_concurrent_trials=slots,  # Tune also starts as many actors side by side
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=str(scratch),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the store has them
            failure_config=tune.FailureConfig(max_failures=resources.retries),
            verbose=0,
        ),
    )
    tuner.fit()


def _start(address: str | None) -> None:
    for name in ("ray", "ray.tune.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address is None:
        options |= {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
        }
    else:
        _require_listener(address)
        options["address"] = address
    try:
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as unreachable:
        raise ConfigError(
            f"--address {address}: no Ray cluster answers there ({unreachable}); "
            "start one with `ray start --head` and give its token in RAY_AUTH_TOKEN, or leave "
            "--address out"
        ) from None


def _require_listener(address: str) -> None:
    """Ray would retry for half a minute; a closed port says at once that nobody is there."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return  # auto, or a ray:// address
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as refused:
        raise ConfigError(
            f"--address {address}: {refused.strerror or refused}; start a cluster with "
            "`ray start --head`, or leave --address out"
        ) from None


def _slots(resources: Resources) -> int:
    """How many trials the cluster holds at once."""
    have: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    slots = int(have.get("CPU", 0) // resources.cpus_per_trial)
    if resources.gpus_per_trial:
        slots = min(slots, int(have.get("GPU", 0) / resources.gpus_per_trial))
    if slots < 1:
        raise ConfigError(
            f"a trial asks for {resources.cpus_per_trial} CPUs and {resources.gpus_per_trial:g} "
            f"GPUs; the cluster has {have.get('CPU', 0):g} and {have.get('GPU', 0):g}; "
            "lower resources.cpus_per_trial or gpus_per_trial"
        )
    return min(slots, resources.concurrency or slots)
