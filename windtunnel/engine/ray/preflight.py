"""Preflight of a cluster: how many trials it holds, and whether every node can run them exactly.

A trial needs whole devices of single nodes, and may spread over several nodes. The driver checks
every node for this code, the shared store and equal arithmetic before it starts, so that it refuses
a sweep in one line instead of failing segment by segment. The first worker on a node that joins
later repeats the check. Workers of a private Ray are checked for the code only.
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

from windtunnel.config.study import Resources
from windtunnel.errors import ConfigError, Refused, cannot_write
from windtunnel.runs.child_python import package
from windtunnel.runs.worker import WorkerConfig
from windtunnel.version import __version__


@dataclass(frozen=True, kw_only=True)
class Node:
    """A living node and its total resources."""

    id: str
    name: str
    address: str
    cpus: float
    gpus: int
    gpu_kind: str | None

    def __str__(self) -> str:
        host = self.address if self.name == self.address else f"{self.name}, {self.address}"
        return f"node {self.id[:8]} ({host})"

    def devices(self, resources: Resources) -> int:
        """Number of trial devices that this node holds at once."""
        held = int(self.cpus // resources.cpus_per_device)
        if (share := resources.gpus_per_device) > 0:
            per_gpu = int(1 / share + 1e-9)  # the remainder of a GPU serves no trial
            held = min(held, self.gpus * per_gpu)
        return held


def nodes() -> list[Node]:
    """The living nodes of the cluster."""
    living = []
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        if not node["Alive"]:
            continue
        resources = node["Resources"]
        gpu_kinds = [key.removeprefix(KIND) for key in resources if key.startswith(KIND)]
        living.append(
            Node(
                id=node["NodeID"],
                name=node["NodeName"],
                address=node["NodeManagerAddress"],
                cpus=resources.get("CPU", 0.0),
                gpus=int(resources.get("GPU", 0.0)),
                gpu_kind=gpu_kinds[0] if gpu_kinds else None,
            )
        )
    return living


KIND = "accelerator_type:"
"""Prefix of the Ray resource that names a node's GPU type."""


def slots_of(resources: Resources, available: list[Node]) -> int:
    """Number of trials that the nodes hold at once.

    Raises:
        ConfigError: They cannot hold one trial.
    """
    slots = sum(node.devices(resources) for node in available) // resources.devices_per_trial
    if slots < 1:
        device = f"{resources.cpus_per_device} CPUs and {resources.gpus_per_device:g} GPUs"
        request = (
            f"a trial asks for {device}"
            if resources.devices_per_trial == 1
            else f"a trial asks for {resources.devices_per_trial} devices with {device} each"
        )
        offer = ", ".join(f"{node.cpus:g} and {node.gpus:g}" for node in available)
        raise ConfigError(
            "too-few-resources",
            f"{request}; the cluster's nodes have {offer}; lower resources.cpus_per_trial, "
            "gpus_per_trial or devices_per_trial",
            cpus_per_device=resources.cpus_per_device,
            gpus_per_device=resources.gpus_per_device,
            devices_per_trial=resources.devices_per_trial,
            nodes=[{"cpus": node.cpus, "gpus": node.gpus} for node in available],
        )
    return min(slots, resources.concurrency or slots)


ANSWER_SECONDS = 180.0
"""Timeout for a node to unpack the code, start a process and import torch (measured on one host:
4 s)."""

PROBE = "visible-"


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """Requirements of every worker: the driver's code, and a probe file in the shared store.

    The fields are plain strings, so that an older package on a node can still be recognised. There
    is no `probe` where workers run on the driver's own machine.
    """

    version: str
    code: str
    probe: str | None

    def problem_here(self) -> Refused | None:
        """The reason why this process cannot run the driver's segments; None if it can."""
        if (here := code_fingerprint()) != self.code:
            return Refused(
                "other-code",
                f"windtunnel is {__version__} (code {here}, {package().resolve()}) and "
                f"this driver's is {self.version} (code {self.code}); {self._why_other_code()}",
                version=__version__,
                fingerprint=here,
                driver_version=self.version,
                driver_fingerprint=self.code,
            )
        if self.probe is None:
            return None
        folder = Path(self.probe).parent
        if not Path(self.probe).exists():
            return Refused(
                "store-not-shared",
                f"{folder} is not this driver's; the store must lie on storage that every node "
                "mounts at the same path: change `store:` in the study file, or mount it there",
                path=folder,
            )
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as refused:
            return Refused(
                "cannot-write",
                f"{folder} cannot be written: {refused.strerror}; mount the store writable",
                path=folder,
                cause=refused.strerror,
            )
        return None

    def _why_other_code(self) -> str:
        if self.probe is None:
            return (
                "the package was changed since the sweep began, or another copy comes first on "
                "the path: run the same command again"
            )
        return (
            "the driver sends its code, but that copy comes first on the node's path: install "
            "the same version there, or remove it"
        )


@contextmanager
def preflight_of(study_folder: Path, *, joined: bool = True) -> Iterator[Preflight]:
    """This driver's preflight; in a `joined` cluster a probe file exists while the body runs.

    The probe has a new name, because a network file system may cache that an old one is missing.

    Raises:
        StoreError: The study folder cannot be written.
    """
    version, code = __version__, code_fingerprint()
    if not joined:
        yield Preflight(version=version, code=code, probe=None)
        return
    probe = study_folder / f"{PROBE}{uuid.uuid4().hex}"
    try:
        for stale in study_folder.glob(f"{PROBE}*"):  # left by a driver that was killed
            stale.unlink(missing_ok=True)
        probe.touch()
    except OSError as refused:
        raise cannot_write(study_folder, refused) from None
    try:
        yield Preflight(version=version, code=code, probe=str(probe))
    finally:
        probe.unlink(missing_ok=True)


def code_fingerprint() -> str:
    """Hash of the names and contents of the package's files, 12 hex digits."""
    digest = hashlib.sha256()
    root = package()
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:12]


def check_nodes(nodes: list[Node], preflight: Preflight, config: WorkerConfig) -> None:
    """Check all nodes in parallel.

    Raises:
        ConfigError: A node lacks the code or the store, or its arithmetic differs from another
            node's and the configuration does not accept that.
    """
    device = "cuda" if config.resources.gpus_per_trial else "cpu"
    answers = {node: _start_check(node, preflight, device) for node in nodes}
    arithmetic_of: dict[Node, dict[str, str]] = {}
    for node, answer in answers.items():
        try:
            result = ray.get(answer, timeout=ANSWER_SECONDS)
        except ray.exceptions.RayError as failed:
            cause = _last_line(failed)
            raise ConfigError(
                "no-worker",
                f"{node}: no worker starts there: {cause}; it is sent windtunnel "
                f"{preflight.version}, which another version installed there may hide",
                node=str(node),
                cause=cause,
            ) from None
        if isinstance(result, Refused):
            message = f"{node}: {result}"
            raise ConfigError(result.code, message, node=str(node), **result.values)
        arithmetic_of[node] = result | ({"GPU": node.gpu_kind} if node.gpu_kind else {})
    if not config.accept_execution_change:
        _refuse_differences(arithmetic_of)


def _start_check(
    node: Node, preflight: Preflight, device: str
) -> "ray.ObjectRef[dict[str, str] | Refused]":
    on_node = NodeAffinitySchedulingStrategy(node.id, soft=False)
    check = ray.remote(_check_here).options(num_cpus=0, scheduling_strategy=on_node)
    return check.remote(preflight, device)


def _check_here(preflight: Preflight, device: str) -> dict[str, str] | Refused:
    """This node's problem, or else everything that decides the last bits of its results."""
    if problem := preflight.problem_here():
        return problem
    from windtunnel.train.execution import arithmetic

    return arithmetic(device)


def _refuse_differences(arithmetic_of: dict[Node, dict[str, str]]) -> None:
    first, *others = arithmetic_of
    for node in others:
        for name, value in arithmetic_of[node].items():
            expected = arithmetic_of[first].get(name)
            if value != expected:
                raise ConfigError(
                    "nodes-differ",
                    f"{first} has {name} {expected}, {node} has {value}: a trunk's "
                    "branches run on any node and would not be exact; make the nodes alike, or "
                    "pass --accept-execution-change to have every change recorded",
                    name=name,
                    nodes=[str(first), str(node)],
                    found=[expected, value],
                )


def _last_line(problem: Exception) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return lines[-1] if lines else type(problem).__name__
