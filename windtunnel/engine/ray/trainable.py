"""One trial of Tune: one segment by id. Checkpoints live in our store; Tune never sees one."""

from pathlib import Path
from typing import Any

from ray import tune
from ray.util import get_node_ip_address

from windtunnel.engine.ray.nodes import Premises
from windtunnel.engine.worker import Report, Worker
from windtunnel.trials.plan import PlannedSegment


class SegmentTrainable(tune.Trainable):
    """One trial: one segment, stop by stop. Actors are reused, so shapes stay compiled."""

    def setup(self, config: dict[str, Any], premises: Premises | None = None) -> None:
        """Open the study's data once per process; `premises` are asked for on a joined cluster."""
        self.problem = None if premises is None else premises.problem_here()
        if self.problem is None:
            self.worker = Worker(Path(config["orders"]))
        self._take(config)

    def step(self) -> dict[str, Any]:
        """Up to the next stop."""
        if self.problem is not None:
            return halt(self.problem) | {"done": True}
        report = self.worker.run(self.planned, trunk_tokens=self.trunk_tokens)
        return report | {"done": report["outcome"] is not None}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next segment in the same process."""
        self.cleanup()
        self._take(new_config)
        return True

    def cleanup(self) -> None:
        """Let go of the lease."""
        if self.problem is None:
            self.worker.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the store has the checkpoints."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing: the store has the checkpoints."""

    def _take(self, config: dict[str, Any]) -> None:
        self.planned = PlannedSegment.model_validate(config["planned"])
        self.trunk_tokens: int = config["trunk_tokens"]


def halt(problem: str) -> Report:
    """Stop the sweep: this node has joined since it began, and would fail every segment."""
    address = get_node_ip_address()  # type: ignore[no-untyped-call]
    said = f"node {address}: {problem}"
    return {"event": "done", "step": 0, "outcome": "failed", "error": said, "halt": said}
