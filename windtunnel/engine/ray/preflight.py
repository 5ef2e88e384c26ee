"""How many trials the nodes of a cluster hold at once: whole devices of one node, never their sum.

A trial of several devices may spread over nodes; a device's share of cores and card may not.

What a node of a joined cluster must have: this code, the store, and arithmetic like the others'.

The driver looks at every node before it starts, so that a sweep is refused in one line rather than
failing segment by segment; a node that joins later is looked at by the first worker on it. Workers
of a Ray of our own are asked for the code too.
"""

import hashlib
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import windtunnel
from windtunnel.config.study import Resources
from windtunnel.errors import ConfigError, StoreError
from windtunnel.runs.child_python import package
from windtunnel.runs.worker import WorkerConfig


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


ANSWER_SECONDS = 180.0
"""For a node to unpack the code, start a process and import torch (measured on one host: 4 s)."""

PROOF = "visible-"


@dataclass(frozen=True, kw_only=True)
class Premises:
    """What this driver has and every worker must find: the code, and a file just put in the store.

    Plain strings, so that an older package on a node can still be told apart. No `proof` where
    workers run on the driver's own machine.
    """

    version: str
    code: str
    proof: str | None

    def problem_here(self) -> str | None:
        """Why this process cannot run segments of that driver; None if it can."""
        if (here := code_fingerprint()) != self.code:
            return (
                f"windtunnel is {windtunnel.__version__} (code {here}, {package().resolve()}) and "
                f"this driver's is {self.version} (code {self.code}); {self._why_other_code()}"
            )
        if self.proof is None:
            return None
        folder = Path(self.proof).parent
        if not Path(self.proof).exists():
            return (
                f"{folder} is not this driver's; the store must lie on storage that every node "
                "mounts at the same path: change `store:` in the study file, or mount it there"
            )
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as refused:
            return f"{folder} cannot be written: {refused.strerror}; mount the store writable"
        return None

    def _why_other_code(self) -> str:
        if self.proof is None:
            return (
                "the package was changed since the sweep began, or another copy comes first on "
                "the path: run the same command again"
            )
        return (
            "the driver sends its code, but that copy comes first on the node's path: install "
            "the same version there, or remove it"
        )


@contextmanager
def premises_of(study_folder: Path, *, joined: bool = True) -> Iterator[Premises]:
    """This driver's premises; the file that proves the store shared lies there meanwhile.

    A name that no node has ever asked for is in no network file system's cache. Only a cluster that
    was `joined` is asked for it.
    """
    if not joined:
        yield Premises(version=windtunnel.__version__, code=code_fingerprint(), proof=None)
        return
    proof = study_folder / f"{PROOF}{uuid.uuid4().hex}"
    try:
        for left_behind in study_folder.glob(f"{PROOF}*"):  # by a driver that was killed
            left_behind.unlink(missing_ok=True)
        proof.touch()
    except OSError as refused:
        raise StoreError(f"{study_folder} cannot be written: {refused.strerror}") from None
    try:
        yield Premises(version=windtunnel.__version__, code=code_fingerprint(), proof=str(proof))
    finally:
        proof.unlink(missing_ok=True)


def code_fingerprint() -> str:
    """12 hex digits over the names and contents of the package's files."""
    digest = hashlib.sha256()
    root = package()
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:12]


def check(nodes: list[Node], premises: Premises, order: WorkerConfig) -> None:
    """Look at every node at once.

    Raises:
        ConfigError: A node lacks the code or the store, or computes otherwise than another one
            and the order does not accept that.
    """
    device = "cuda" if order.resources.gpus_per_trial else "cpu"
    answers = {node: _ask(node, premises, device) for node in nodes}
    found: dict[Node, dict[str, str]] = {}
    for node, answer in answers.items():
        try:
            facts = ray.get(answer, timeout=ANSWER_SECONDS)
        except ray.exceptions.RayError as failed:
            raise ConfigError(
                f"{node}: no worker starts there: {_in_a_line(failed)}; it is sent windtunnel "
                f"{premises.version}, which another version installed there may hide"
            ) from None
        if "problem" in facts:
            raise ConfigError(f"{node}: {facts['problem']}")
        found[node] = facts | ({"GPU": node.gpu_kind} if node.gpu_kind else {})
    if not order.accept_execution_change:
        _refuse_differences(found)


def _ask(node: Node, premises: Premises, device: str) -> "ray.ObjectRef[dict[str, str]]":
    pinned = NodeAffinitySchedulingStrategy(node.id, soft=False)
    return (
        ray.remote(_look).options(num_cpus=0, scheduling_strategy=pinned).remote(premises, device)
    )


def _look(premises: Premises, device: str) -> dict[str, str]:
    """On a node: what is wrong with it, else what decides the last bits of its results."""
    if problem := premises.problem_here():
        return {"problem": problem}
    from windtunnel.train.execution import arithmetic

    return arithmetic(device)


def _refuse_differences(found: dict[Node, dict[str, str]]) -> None:
    first, *others = found
    for node in others:
        for name, value in found[node].items():
            if value != found[first].get(name):
                raise ConfigError(
                    f"{first} has {name} {found[first].get(name)}, {node} has {value}: a trunk's "
                    "branches run on any node and would not be exact; make the nodes alike, or "
                    "pass --accept-execution-change to have every change recorded"
                )


def _in_a_line(problem: Exception) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return lines[-1] if lines else type(problem).__name__
