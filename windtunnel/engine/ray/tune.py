"""The Ray engine: Ray Tune runs the graph, one trial per segment.

`ReadySegments`, a Tune Searcher, suggests the segments that are ready and reports their outcomes to
the graph. Tune sees ids only, because it cannot start a trial from another trial's checkpoint (ray
issue 5150). It never restores anything: the store has the checkpoints and says what is left.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from windtunnel.config.study import Resources
from windtunnel.engine.graph import Graph
from windtunnel.engine.ray.actor_reuse import keep_started_actors
from windtunnel.engine.ray.cluster import connected
from windtunnel.engine.ray.data_parallel import DataParallelWorker, SegmentWorker, make_worker
from windtunnel.engine.ray.orphan_cleanup import orphan_cleanup
from windtunnel.engine.ray.preflight import Preflight, check_nodes, nodes, preflight_of, slots_of
from windtunnel.engine.ray.watchdog import stall_watchdog
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.worker import read_worker_config

WAITING_BYTES = 64 * 2**20
"""Tune trials must request something; this one only waits for its devices (assumed)."""


class SegmentTrainable(tune.Trainable):
    """A Tune trial that runs one segment; actors are reused, so shapes stay compiled."""

    def setup(  # type: ignore[override]
        self,
        config: dict[str, Any],
        preflight: Preflight,
        resources: Resources,
    ) -> None:
        """Start this process's worker, or one process per device."""
        config_path = Path(config["worker_config"])
        self.worker: SegmentWorker = (
            make_worker(config_path, preflight)
            if resources.devices_per_trial == 1
            else DataParallelWorker(config_path, resources, preflight)
        )
        self._take(config)

    def step(self) -> dict[str, Any]:
        """Report of the segment's next stop."""
        report = self.worker.run(self.planned, trunk_tokens=self.trunk_tokens)
        return report | {"done": report["outcome"] is not None}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next segment in this process."""
        self._take(new_config)
        return True

    def cleanup(self) -> None:
        """Release the lease."""
        self.worker.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the store has the checkpoints."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing: the store has the checkpoints."""

    def _take(self, config: dict[str, Any]) -> None:
        self.planned = PlannedSegment.model_validate(config["planned"])
        self.trunk_tokens: int = config["trunk_tokens"]


def trainable(resources: Resources, preflight: Preflight) -> Any:
    """The trainable of a segment and its resources; Ray Train places several devices itself."""
    configured = tune.with_parameters(SegmentTrainable, preflight=preflight, resources=resources)
    if resources.devices_per_trial > 1:
        return tune.with_resources(configured, {"cpu": 0, "memory": WAITING_BYTES})
    request = {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial}
    return tune.with_resources(configured, request)


class ReadySegments(Searcher):
    """A Tune Searcher that suggests segments as they become ready; None means: ask again."""

    def __init__(self, graph: Graph, config_path: Path) -> None:
        super().__init__(metric="step", mode="max")
        self.graph, self.config_path = graph, config_path
        self._segment_of: dict[str, str] = {}  # by the id of a running trial

    def suggest(  # type: ignore[override]
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        """Config of the next ready segment, None while all must wait, FINISHED at the end."""
        planned = self.graph.next_ready()
        if planned is None:
            return str(self.FINISHED) if self.graph.idle else None
        self._segment_of[trial_id] = planned.id
        return {
            "worker_config": str(self.config_path),
            "planned": planned.model_dump(mode="json"),
            "trunk_tokens": self.graph.trunk_tokens(planned),
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Report a saved fork or a segment's outcome to the graph."""
        segment_id, outcome = self._segment_of.get(trial_id), result.get("outcome")
        if segment_id is None:
            return
        if outcome is None:
            self.graph.forked(segment_id, result["step"])
            return
        del self._segment_of[trial_id]
        self.graph.report(segment_id, outcome, result.get("error"), halt=result.get("halt"))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Report the end of a trial; without an outcome it raised, or its process died."""
        if result and not error:
            self.on_trial_result(trial_id, result)
        segment_id = self._segment_of.pop(trial_id, None)
        if segment_id is not None:
            self.graph.attempt_failed(segment_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the store is the source of truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the store is the source of truth."""


def run(
    graph: Graph,
    config_path: Path,
    *,
    resources: Resources,
    address: str | None,
    on_connected: Callable[[], None],
) -> None:
    """Run the graph on a private Ray, or on the cluster at `address`.

    `on_connected` is called once Ray has started and installed its own signal handlers.

    Raises:
        ConfigError: The cluster does not answer, cannot hold one trial, or has a node that lacks
            our code or the store.
    """
    joined = address is not None

    def on_lost(problem: str) -> None:
        graph.stopping = problem
        read_worker_config(config_path).stop_file.touch()

    with connected(address, on_lost):
        on_connected()
        if graph.idle:  # a signal arrived while Ray started
            return
        available = nodes()
        graph.slots = slots = slots_of(resources, available)
        searcher = ReadySegments(graph, config_path)
        worker_config = read_worker_config(config_path)
        with (
            preflight_of(config_path.parent, joined=joined) as preflight,
            stall_watchdog(graph, worker_config, seconds=resources.stall_seconds),
        ):
            trial = trainable(resources, preflight)
            if not joined:
                with orphan_cleanup():
                    _tune(searcher, trial, slots=slots)
                return
            check_nodes(
                [node for node in available if node.devices(resources)], preflight, worker_config
            )
            _tune(searcher, trial, slots=slots)


def _tune(searcher: ReadySegments, trial: Any, *, slots: int) -> None:
    with keep_started_actors(), tempfile.TemporaryDirectory(prefix="windtunnel-tune-") as scratch:
        _tuner(searcher, trial, scratch, slots=slots).fit()


def _tuner(searcher: ReadySegments, trial: Any, scratch: str, *, slots: int) -> tune.Tuner:
    return tune.Tuner(
        trial,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=-1,
            max_concurrent_trials=slots,  # also the number of actors that start in parallel
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=scratch,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the store has them
            failure_config=tune.FailureConfig(max_failures=0),  # the graph counts attempts
            verbose=0,
        ),
    )
