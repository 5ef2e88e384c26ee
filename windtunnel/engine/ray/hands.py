"""What a trial works with: a worker here, one spread over devices, or the reason for neither."""

from pathlib import Path
from typing import Protocol

from ray.util import get_node_ip_address

from windtunnel.engine.ray.nodes import Premises
from windtunnel.engine.worker import Report, Worker
from windtunnel.errors import WindtunnelError
from windtunnel.trials.plan import PlannedSegment


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
