"""A worker on several devices: Ray Train places one process a device, and watches over them.

The process of rank 0 runs segments as a worker of one device does, and the others follow it. They
outlive a segment, as every trial's process does: to start them takes longer than many a branch.

What a trial works with: a worker here, one spread over devices, or the reason for neither.
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
from windtunnel.engine.ray.preflight import Premises
from windtunnel.engine.worker import Report, Worker
from windtunnel.errors import WindtunnelError
from windtunnel.runs.plan import PlannedSegment
from windtunnel.train.distributed import Order, leads, send
from windtunnel.train.step import follow

BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
"""On CUDA orders and rows go through gloo, weights and gradients through NCCL."""

PATIENCE_SECONDS = 86_400
"""The others wait while rank 0 evaluates, saves or idles; Ray Train notices the dead."""

GLANCE_SECONDS = 1.0
"""Between two looks whether the devices are still there."""


class Gang:
    """Has the interface of a worker; one of its processes dead ends it with an error."""

    def __init__(self, orders: Path, resources: Resources, premises: Premises) -> None:
        self._calls, self._answers = (Queue(actor_options={"num_cpus": 0}) for _ in range(2))
        told = {
            "orders": str(orders),
            "premises": premises,
            "calls": self._calls,
            "answers": self._answers,
        }
        self._problem: Exception | None = None
        self._training = threading.Thread(target=self._train, args=(told, resources), daemon=True)
        self._training.start()

    def run(self, planned: PlannedSegment, *, trunk_tokens: int) -> Report:
        """As `Worker.run`, on rank 0."""
        self._calls.put((planned.model_dump(mode="json"), trunk_tokens))
        while True:
            try:
                report: Report = self._answers.get(timeout=GLANCE_SECONDS)
            except Empty:
                if not self._training.is_alive():
                    raise RuntimeError(f"a device's process ended: {self._problem}") from None
            else:
                return report

    def close(self) -> None:
        """Let every device go."""
        if self._training.is_alive():
            self._calls.put(None)
            self._training.join()
        for queue in (self._calls, self._answers):
            queue.shutdown()

    def _train(self, told: dict[str, Any], resources: Resources) -> None:
        on_cuda = resources.gpus_per_device > 0
        share = {"CPU": resources.cpus_per_device} | ({"GPU": 1} if on_cuda else {})
        with tempfile.TemporaryDirectory(prefix="windtunnel-train-") as scratch:
            trainer = TorchTrainer(
                _each_device,
                train_loop_config=told,
                torch_config=TorchConfig(
                    backend=BACKENDS["cuda" if on_cuda else "cpu"], timeout_s=PATIENCE_SECONDS
                ),
                scaling_config=ray.train.ScalingConfig(
                    num_workers=resources.devices_per_trial,
                    use_gpu=on_cuda,
                    resources_per_worker=share,
                ),
                run_config=ray.train.RunConfig(name="gang", storage_path=scratch),
            )
            try:
                trainer.fit()
            except Exception as problem:  # told to whoever waits for an answer
                self._problem = problem


def _each_device(told: dict[str, Any]) -> None:
    if not leads():
        follow()
        return
    hands = hands_here(Path(told["orders"]), told["premises"])
    try:
        while (call := told["calls"].get()) is not None:
            planned, trunk_tokens = call
            report = hands.run(PlannedSegment.model_validate(planned), trunk_tokens=trunk_tokens)
            told["answers"].put(report)
    finally:
        hands.close()
    send(Order.END)


class Hands(Protocol):
    """Brings one segment after another to its end, stop by stop."""

    def run(self, planned: PlannedSegment, *, trunk_tokens: int) -> Report:
        """Begin a segment or go on with it, up to its next stop."""

    def close(self) -> None:
        """Let go of the segment in progress, and of whatever else is held."""


class Refusal:
    """In a process that lacks something, or runs other code: any segment would fail or be wrong."""

    def __init__(self, problem: str) -> None:
        self.problem = problem

    def run(self, planned: PlannedSegment, *, trunk_tokens: int) -> Report:
        """Stop the sweep."""
        address = get_node_ip_address()  # type: ignore[no-untyped-call]
        said = f"node {address}: {self.problem}"
        return {"event": "done", "step": 0, "outcome": "failed", "error": said, "halt": said}

    def close(self) -> None:
        """Nothing is held."""


def hands_here(orders: Path, premises: Premises) -> Hands:
    """A worker in this process, if it has what the driver's `premises` ask for."""
    if problem := premises.problem_here():
        return Refusal(problem)
    try:
        return Worker(orders)
    except WindtunnelError as unusable:  # data or orders, which every segment needs
        return Refusal(str(unusable))
