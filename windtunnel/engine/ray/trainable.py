"""One trial of Tune: one segment by id. Checkpoints live in our store; Tune never sees one."""

from pathlib import Path
from typing import Any

from ray import tune

from windtunnel.engine.worker import Worker
from windtunnel.trials.plan import PlannedSegment


class SegmentTrainable(tune.Trainable):
    """One trial: one segment, stop by stop. Actors are reused, so shapes stay compiled."""

    def setup(self, config: dict[str, Any]) -> None:
        """Open the study's data once per process."""
        self.worker = Worker(Path(config["orders"]))
        self._take(config)

    def step(self) -> dict[str, Any]:
        """Up to the next stop."""
        report = self.worker.run(self.planned, trunk_tokens=self.trunk_tokens)
        return report | {"done": report["outcome"] is not None}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next segment in the same process."""
        self.worker.close()
        self._take(new_config)
        return True

    def cleanup(self) -> None:
        """Let go of the lease."""
        self.worker.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the store has the checkpoints."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing: the store has the checkpoints."""

    def _take(self, config: dict[str, Any]) -> None:
        self.planned = PlannedSegment.model_validate(config["planned"])
        self.trunk_tokens: int = config["trunk_tokens"]
