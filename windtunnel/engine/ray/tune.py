"""One trial of Tune: one segment by id. Checkpoints live in our store; Tune never sees one.

The Searcher that hands out ready segments, and learns from Tune how they ended.

Tune lets a worker that is starting finish its start, and keeps the ones that are idle.

When a trial ends, Tune gives its process to a trial that waits for its own, and kills the one that
is being started. Where segments are shorter than the start of a process (seconds), a new process is
killed time and again, and one worker does the work of all slots: with two slots and segments of
0.1 s, each lost 170 ms of its slot (Ray 2.60, measured). And of several processes that are idle
before the barrier, Tune keeps one. Nothing public turns this off.

The Ray engine: Tune runs the graph through a Searcher that hands out ready segments by id.

Checkpoints live in our store and Tune sees ids only, for it cannot start a trial from another
trial's checkpoint (ray issue 5150). Nothing is ever restored by Tune: the store says what is left.
"""

import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import tune as runs
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.search import Searcher
from ray.tune.utils.object_cache import _ObjectCache

from windtunnel.config.study import Resources
from windtunnel.engine.graph import Graph
from windtunnel.engine.ray.cluster import connected
from windtunnel.engine.ray.data_parallel import Hands, hands_here
from windtunnel.engine.ray.orphan_cleanup import reaper
from windtunnel.engine.ray.preflight import Premises, check, nodes, premises_of, slots_of
from windtunnel.engine.ray.watchdog import stalls_ended
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.worker import read_order

WAITING_BYTES = 64 * 2**20
"""A trial has to ask for something: for the process that only waits for its devices (assumed)."""


class SegmentTrainable(tune.Trainable):
    """One trial: one segment, stop by stop. Actors are reused, so shapes stay compiled."""

    def setup(  # type: ignore[override]
        self,
        config: dict[str, Any],
        premises: Premises,
        gang: Resources | None = None,
    ) -> None:
        """Open the study's data once per process, or on each of the `gang`'s devices."""
        orders = Path(config["orders"])
        if gang is not None:
            from windtunnel.engine.ray.data_parallel import Gang

            self.hands: Hands = Gang(orders, gang, premises)
        else:
            self.hands = hands_here(orders, premises)
        self._take(config)

    def step(self) -> dict[str, Any]:
        """Up to the next stop."""
        report = self.hands.run(self.planned, trunk_tokens=self.trunk_tokens)
        return report | {"done": report["outcome"] is not None}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next segment in the same process."""
        self._take(new_config)
        return True

    def cleanup(self) -> None:
        """Let go of the lease."""
        self.hands.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the store has the checkpoints."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing: the store has the checkpoints."""

    def _take(self, config: dict[str, Any]) -> None:
        self.planned = PlannedSegment.model_validate(config["planned"])
        self.trunk_tokens: int = config["trunk_tokens"]


def trainable(resources: Resources, premises: Premises) -> Any:
    """What Tune runs for each segment; a gang's devices are placed by Ray Train."""
    if resources.devices_per_trial > 1:
        gang = tune.with_parameters(SegmentTrainable, premises=premises, gang=resources)
        return tune.with_resources(gang, {"cpu": 0, "memory": WAITING_BYTES})
    return tune.with_resources(
        tune.with_parameters(SegmentTrainable, premises=premises),
        {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial},
    )


class ReadySegments(Searcher):
    """Suggests segments as they become ready; None means: ask again."""

    def __init__(self, graph: Graph, orders: Path) -> None:
        super().__init__(metric="step", mode="max")
        self.graph, self.orders = graph, orders
        self._segment_of: dict[str, str] = {}  # of trials that have not ended

    def suggest(  # type: ignore[override]
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        """The next ready segment, None while all must wait, FINISHED when nothing is left."""
        planned = self.graph.next_ready()
        if planned is None:
            return str(self.FINISHED) if self.graph.idle else None
        self._segment_of[trial_id] = planned.id
        return {
            "orders": str(self.orders),
            "planned": planned.model_dump(mode="json"),
            "trunk_tokens": self.graph.trunk_tokens(planned),
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Learn of a fork, or how a segment ended."""
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
        """Learn that a trial is over; one without an outcome raised, or its process died."""
        if result and not error:
            self.on_trial_result(trial_id, result)
        segment_id = self._segment_of.pop(trial_id, None)
        if segment_id is not None:
            self.graph.attempt_failed(segment_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the store is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the store is the truth."""


class _KeepsAll(_ObjectCache):
    """Processes of one sweep are all alike, so an idle one takes nothing from a trial to come."""

    def cache_object(self, key: Any, obj: Any) -> bool:
        self._cached_objects[key].append(obj)
        self._num_cached_objects += 1
        return True

    def flush_cached_objects(self, force_all: bool = False) -> Generator[Any, None, None]:
        if force_all:
            yield from super().flush_cached_objects(force_all=True)


class PatientController(TuneController):
    """Keeps a trial with its own process once that has its resources and is being started."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._actor_cache = _KeepsAll()

    def _maybe_reuse_cached_actor(self, trial: Trial) -> bool:
        own = self._trial_to_actor.get(trial)
        if own is not None and self._actor_manager.is_actor_started(own):
            return False
        return bool(super()._maybe_reuse_cached_actor(trial))


@contextmanager
def patient() -> Iterator[None]:
    """Tune runs begun in here have the patient controller."""
    runs.TuneController = PatientController  # type: ignore[attr-defined]
    try:
        yield
    finally:
        runs.TuneController = TuneController  # type: ignore[attr-defined]


def run(
    graph: Graph,
    orders: Path,
    *,
    resources: Resources,
    address: str | None,
    on_connected: Callable[[], None],
) -> None:
    """Run the graph on a local or an existing Ray.

    `on_connected` is called once Ray is up, which by then has put its own signal handlers in place.

    Raises:
        ConfigError: The cluster cannot be reached, can never hold one trial, or has a node that
            lacks our code or the store.
    """
    joined = address is not None

    def on_lost(problem: str) -> None:
        graph.stopping = problem
        read_order(orders).stop_file.touch()

    with connected(address, on_lost):
        on_connected()
        if graph.idle:  # a signal came meanwhile
            return
        there = nodes()
        graph.slots = slots = slots_of(resources, there)
        searcher = ReadySegments(graph, orders)
        order = read_order(orders)
        with (
            premises_of(orders.parent, joined=joined) as premises,
            stalls_ended(graph, order, seconds=resources.stall_seconds),
        ):
            trial = trainable(resources, premises)
            if not joined:
                with reaper():
                    _tune(searcher, trial, slots=slots)
                return
            used = [node for node in there if node.devices(resources)]
            check(used, premises, order)
            _tune(searcher, trial, slots=slots)


def _tune(searcher: ReadySegments, trial: Any, *, slots: int) -> None:
    with _patient(), tempfile.TemporaryDirectory(prefix="windtunnel-tune-") as scratch:
        _tuner(searcher, trial, scratch, slots=slots).fit()


def _patient() -> AbstractContextManager[None]:
    """A Ray that keeps these parts elsewhere runs as it is: slower where segments are short."""
    try:
        pass
    except ImportError:
        return nullcontext()
    return patient()


def _tuner(searcher: ReadySegments, trial: Any, scratch: str, *, slots: int) -> tune.Tuner:
    return tune.Tuner(
        trial,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=-1,
            max_concurrent_trials=slots,  # Tune also starts as many actors side by side
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
