"""One trial of Tune: one segment by id. Checkpoints live in our store; Tune never sees one."""

from pathlib import Path
from typing import Any

from ray import tune

from windtunnel.engine.ray.hands import Hands, hands_here
from windtunnel.engine.ray.nodes import Premises
from windtunnel.spec.config import Resources
from windtunnel.trials.plan import PlannedSegment

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
            from windtunnel.engine.ray.gang import Gang

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
