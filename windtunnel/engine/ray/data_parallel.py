"""Workers of the Ray engine: one in this process, or a data-parallel one over several devices.

Ray Train places one process per device and monitors them. Rank 0 runs segments as a single-device
worker does, and the other ranks follow it. The processes outlive a segment, because starting them
takes longer than many branches.
"""

import tempfile
import threading
from pathlib import Path
from typing import Any, Protocol

import ray.train
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util import get_node_ip_address
from ray.util.queue import Empty, Queue

from windtunnel.config.study import Resources
from windtunnel.engine.ray.preflight import Preflight
from windtunnel.engine.worker import Report, Worker
from windtunnel.errors import Coded, WindtunnelError
from windtunnel.runs.plan import PlannedSegment
from windtunnel.train.distributed import Command, is_leader, send
from windtunnel.train.step import follow

BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
"""On CUDA commands and rows go through gloo, weights and gradients through NCCL."""

TIMEOUT_SECONDS = 86_400
"""Followers wait while rank 0 evaluates, saves or idles; Ray Train detects dead processes."""

POLL_SECONDS = 1.0
"""Between two checks that the devices' processes are alive."""


class SegmentWorker(Protocol):
    """Runs segments one after another, stop by stop."""

    def run(self, planned: PlannedSegment, *, trunk_tokens: int) -> Report:
        """Start or continue a segment, up to its next stop; the report of that stop."""

    def close(self) -> None:
        """Release the segment in progress and every other resource."""


class RefusingWorker:
    """Stops the sweep: in this process every segment would fail or compute something else."""

    def __init__(self, problem: Coded) -> None:
        self.problem = problem

    def run(self, planned: PlannedSegment, *, trunk_tokens: int) -> Report:
        """A report that fails the segment and stops the sweep."""
        address = get_node_ip_address()  # type: ignore[no-untyped-call]
        error = f"node {address}: {self.problem}"
        return {"event": "done", "step": 0, "outcome": "failed", "error": error, "halt": error}

    def close(self) -> None:
        """Nothing to release."""


def make_worker(config_path: Path, preflight: Preflight) -> SegmentWorker:
    """A worker in this process, or one that refuses every segment where `preflight` fails."""
    if problem := preflight.problem_here():
        return RefusingWorker(problem)
    try:
        return Worker(config_path)
    except (
        WindtunnelError
    ) as unusable:  # the data or the worker configuration: every segment needs them
        return RefusingWorker(unusable)


class DataParallelWorker:
    """A `SegmentWorker` over several devices; it fails when any of their processes dies."""

    def __init__(self, config_path: Path, resources: Resources, preflight: Preflight) -> None:
        self._calls, self._reports = (Queue(actor_options={"num_cpus": 0}) for _ in range(2))
        config = {
            "worker_config": str(config_path),
            "preflight": preflight,
            "calls": self._calls,
            "reports": self._reports,
        }
        self._problem: Exception | None = None
        self._training = threading.Thread(target=self._train, args=(config, resources), daemon=True)
        self._training.start()

    def run(self, planned: PlannedSegment, *, trunk_tokens: int) -> Report:
        """Report of `Worker.run` on rank 0."""
        self._calls.put((planned.model_dump(mode="json"), trunk_tokens))
        while True:
            try:
                report: Report = self._reports.get(timeout=POLL_SECONDS)
            except Empty:
                if not self._training.is_alive():
                    raise RuntimeError(f"a device's process ended: {self._problem}") from None
            else:
                return report

    def close(self) -> None:
        """End the process of every device."""
        if self._training.is_alive():
            self._calls.put(None)
            self._training.join()
        for queue in (self._calls, self._reports):
            queue.shutdown()

    def _train(self, config: dict[str, Any], resources: Resources) -> None:
        on_cuda = resources.gpus_per_device > 0
        share = {"CPU": resources.cpus_per_device} | ({"GPU": 1} if on_cuda else {})
        with tempfile.TemporaryDirectory(prefix="windtunnel-train-") as scratch:
            trainer = TorchTrainer(
                _run_device,
                train_loop_config=config,
                torch_config=TorchConfig(
                    backend=BACKENDS["cuda" if on_cuda else "cpu"], timeout_s=TIMEOUT_SECONDS
                ),
                scaling_config=ray.train.ScalingConfig(
                    num_workers=resources.devices_per_trial,
                    use_gpu=on_cuda,
                    resources_per_worker=share,
                ),
                run_config=ray.train.RunConfig(name="data-parallel", storage_path=scratch),
            )
            try:
                trainer.fit()
            except Exception as problem:  # raised by `run`, which waits for a report
                self._problem = problem


def _run_device(config: dict[str, Any]) -> None:
    if not is_leader():
        follow()
        return
    worker = make_worker(Path(config["worker_config"]), config["preflight"])
    try:
        while (call := config["calls"].get()) is not None:
            planned, trunk_tokens = call
            report = worker.run(PlannedSegment.model_validate(planned), trunk_tokens=trunk_tokens)
            config["reports"].put(report)
    finally:
        worker.close()
    send(Command.END)
