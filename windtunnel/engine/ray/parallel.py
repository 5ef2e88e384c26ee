"""One trial of Tune on several devices: Ray Train places and watches one worker for each.

The worker of rank 0 runs the segment as a trial of one device does; the others follow it.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
from ray import tune
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from windtunnel.engine.ray.nodes import Premises
from windtunnel.engine.ray.trainable import halt
from windtunnel.engine.worker import Report, Worker
from windtunnel.spec.config import Resources
from windtunnel.trials.plan import PlannedSegment

BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
"""On CUDA orders and rows go through gloo, weights and gradients through NCCL."""

PATIENCE_SECONDS = 86_400
"""The others wait while rank 0 evaluates or saves; a dead worker is noticed by Ray Train."""


def parallel_trainable(resources: Resources, premises: Premises | None) -> Any:
    """What Tune runs for each segment; the trial itself takes no core, its workers do."""
    return tune.with_resources(
        partial(_segment, resources=resources, premises=premises), {"cpu": 0}
    )


def _segment(config: dict[str, Any], *, resources: Resources, premises: Premises | None) -> None:
    share = {"CPU": resources.cpus_per_device}
    on_cuda = resources.gpus_per_device > 0
    with tempfile.TemporaryDirectory(prefix="windtunnel-train-") as scratch:
        TorchTrainer(
            partial(_each_device, premises=premises),
            train_loop_config=config,
            torch_config=TorchConfig(
                backend=BACKENDS["cuda" if on_cuda else "cpu"], timeout_s=PATIENCE_SECONDS
            ),
            scaling_config=ray.train.ScalingConfig(
                num_workers=resources.devices_per_trial,
                use_gpu=on_cuda,
                resources_per_worker=share | ({"GPU": 1} if on_cuda else {}),
            ),
            run_config=ray.train.RunConfig(
                name="segment", storage_path=scratch, callbacks=[TuneReportCallback()]
            ),
        ).fit()


def _each_device(config: dict[str, Any], *, premises: Premises | None) -> None:
    from windtunnel.train.follow import follow
    from windtunnel.train.parallel import Order, leads, send

    if not leads():
        follow(on_report=lambda: ray.train.report({}))
        return
    for report in _reports(config, premises):
        send(Order.REPORT)  # Ray Train wants every report from all
        ray.train.report(report)
    send(Order.END)


def _reports(config: dict[str, Any], premises: Premises | None) -> Iterator[Report]:
    """Run the segment to its end; one report a stop."""
    if premises is not None and (problem := premises.problem_here()):
        yield halt(problem)
        return
    worker = Worker(Path(config["orders"]))
    planned = PlannedSegment.model_validate(config["planned"])
    outcome = None
    try:
        while outcome is None:
            report = worker.run(planned, trunk_tokens=config["trunk_tokens"])
            outcome = report["outcome"]
            yield report
    finally:
        worker.close()
