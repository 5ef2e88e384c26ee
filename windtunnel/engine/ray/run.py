"""The Ray engine: Tune runs the graph through a Searcher that hands out ready segments by id.

Checkpoints live in our store and Tune sees ids only, for it cannot start a trial from another
trial's checkpoint (ray issue 5150). Nothing is ever restored by Tune: the store says what is left.
"""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from ray import tune

from windtunnel.engine.graph import Graph
from windtunnel.engine.ray.cluster import connected
from windtunnel.engine.ray.nodes import check, premises_of
from windtunnel.engine.ray.placement import nodes, slots_of
from windtunnel.engine.ray.reaper import reaper
from windtunnel.engine.ray.searcher import ReadySegments
from windtunnel.engine.ray.stalls import stalls_ended
from windtunnel.engine.ray.trainable import trainable
from windtunnel.spec.config import Resources
from windtunnel.trials.workbench import read_order


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
        from windtunnel.engine.ray.patience import patient
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
