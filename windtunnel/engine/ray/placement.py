"""How many trials the nodes of a cluster hold at once: whole devices of one node, never their sum.

A trial of several devices may spread over nodes; a device's share of cores and card may not.
"""

from dataclasses import dataclass

import ray

from windtunnel.errors import ConfigError
from windtunnel.spec.config import Resources


@dataclass(frozen=True, kw_only=True)
class Node:
    """One living node and what it offers in all."""

    id: str
    name: str
    address: str
    cpus: float
    gpus: int
    gpu_kind: str | None

    def __str__(self) -> str:
        known = self.address if self.name == self.address else f"{self.name}, {self.address}"
        return f"node {self.id[:8]} ({known})"

    def devices(self, resources: Resources) -> int:
        """How many trials, or devices of trials that have several, it holds at once."""
        held = int(self.cpus // resources.cpus_per_device)
        if (share := resources.gpus_per_device) > 0:
            a_card = int(1 / share + 1e-9)  # what is left of a card serves no trial
            held = min(held, self.gpus * a_card)
        return held


def nodes() -> list[Node]:
    """The living nodes of the cluster."""
    found = []
    for each in ray.nodes():  # type: ignore[no-untyped-call]
        if not each["Alive"]:
            continue
        have = each["Resources"]
        kinds = [key.removeprefix(KIND) for key in have if key.startswith(KIND)]
        found.append(
            Node(
                id=each["NodeID"],
                name=each["NodeName"],
                address=each["NodeManagerAddress"],
                cpus=have.get("CPU", 0.0),
                gpus=int(have.get("GPU", 0.0)),
                gpu_kind=kinds[0] if kinds else None,
            )
        )
    return found


KIND = "accelerator_type:"
"""How Ray names the resource that tells a node's card."""


def slots_of(resources: Resources, there: list[Node]) -> int:
    """How many trials the nodes hold at once.

    Raises:
        ConfigError: Not one.
    """
    slots = sum(node.devices(resources) for node in there) // resources.devices_per_trial
    if slots < 1:
        each = f"{resources.cpus_per_device} CPUs and {resources.gpus_per_device:g} GPUs"
        asked = (
            f"a trial asks for {each}"
            if resources.devices_per_trial == 1
            else f"a trial asks for {resources.devices_per_trial} devices with {each} each"
        )
        offered = ", ".join(f"{node.cpus:g} and {node.gpus:g}" for node in there)
        raise ConfigError(
            f"{asked}; the cluster's nodes have {offered}; lower resources.cpus_per_trial, "
            "gpus_per_trial or devices_per_trial"
        )
    return min(slots, resources.concurrency or slots)
