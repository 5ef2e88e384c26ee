"""The Ray engine: Tune runs the graph through a Searcher that hands out ready segments by id.

Checkpoints live in our store and Tune sees ids only, for it cannot start a trial from another
trial's checkpoint (ray issue 5150). Nothing is ever restored by Tune: the store says what is left.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import ray
from ray import tune

from windtunnel.engine.graph import Graph
from windtunnel.engine.ray import cluster
from windtunnel.engine.ray.searcher import ReadySegments
from windtunnel.engine.ray.trainable import SegmentTrainable
from windtunnel.spec.config import Resources


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
        ConfigError: The cluster cannot be reached, or can never hold one trial.
    """
    cluster.start(address)
    on_connected()
    try:
        slots = cluster.slots_of(resources)
        searcher = ReadySegments(graph, orders)
        if not graph.done:
            with tempfile.TemporaryDirectory(prefix="windtunnel-tune-") as scratch:
                _tune(searcher, resources, Path(scratch), slots=slots)
    finally:
        ray.shutdown()


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
