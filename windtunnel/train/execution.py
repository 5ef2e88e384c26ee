"""Execution: how and where a trunk is computed; recorded and inherited, never part of its id.

Compiled and eager steps, or one thread and two, differ in the last bits within a dozen updates
(measured). So the choice is made once, when a trunk is created. Its extensions, resumes and
branches inherit it, and within one execution record results are exact.
"""

import math
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from windtunnel.config.model import Recipe
from windtunnel.config.segment import Segment, rows_per_update
from windtunnel.config.shape import DenseSpec, FamilySpec, ModelSpec
from windtunnel.config.study import Resources
from windtunnel.config.units import Strict
from windtunnel.errors import ConfigError
from windtunnel.family import MINICPM, MINICPM_MOE, source_of
from windtunnel.model import native
from windtunnel.model.moe import parts_of
from windtunnel.version import __version__

COMPILE_COLD_SECONDS = 30.0
"""Seconds to compile a train step and an evaluation with a cold cache on one busy core (measured:
10 to 29)."""

COMPILE_SAVING = {"cpu": 0.15, "cuda": 0.3}
"""Share of an eager step's time that compilation saves (CPU measured at width 64, CUDA assumed)."""

EAGER_FLOPS_PER_SECOND = {"cpu": 5e10, "cuda": 1e14}
"""FLOPs per second of an eager step (one core at widths 32 to 128 measured: 3e10 to 6e10; CUDA
assumed)."""

LAUNCH_SECONDS_PER_LAYER = {"cpu": 0.0, "cuda": 5e-4}
"""Kernel launch time of an eager update per layer, whatever the kernels' sizes (assumed)."""

NATIVE = "native"


class Execution(Strict):
    """Everything that may change the last bits of a result but not what is computed.

    `kernels` is "torch", or "native" with the hash of the machine code. `threads` and
    `micro_batch_rows` are per device. Records older than `subnormals` kept them. `source` is the
    name of a family other than the built-in one, with the hash of its files.
    """

    device: Literal["cpu", "cuda"]
    device_kind: str
    precision: Literal["fp32", "bf16"]
    kernels: str = "torch"
    compile: bool
    threads: int
    devices: int = 1
    micro_batch_rows: int
    deterministic: bool
    subnormals: Literal["kept", "flushed"] = "kept"
    source: str | None = None
    torch: str
    windtunnel: str

    def for_segment(self, segment: Segment) -> "Execution":
        """This record for a segment whose batch, context or model differs from its trunk's.

        Its micro-batch holds at most as many tokens as the trunk's, and divides the batch. Experts
        are neither compiled nor computed by native kernels in bf16.
        """
        if segment.model.experts > 1 and (self.compile or self.precision == "bf16"):
            return self.replace(compile=False, kernels="torch")._cut_for(segment)
        return self._cut_for(segment)

    def _cut_for(self, segment: Segment) -> "Execution":
        root, rows = segment.root, rows_per_update(segment) // self.devices
        if (rows, segment.model.context) == (
            rows_per_update(root) // self.devices,
            root.model.context,
        ):
            return self
        most = max(1, self.micro_batch_rows * root.model.context // segment.model.context)
        return self.replace(micro_batch_rows=math.gcd(most, rows))

    def differences(self, other: "Execution") -> list[str]:
        """One `field: this -> other` for every field that differs."""
        mine, theirs = self.model_dump(), other.model_dump()
        return [f"{k}: {mine[k]} -> {theirs[k]}" for k in mine if mine[k] != theirs[k]]


def decide(
    resources: Resources, model: ModelSpec, recipe: Recipe, *, planned_tokens: int
) -> Execution:
    """The execution record of a new trunk.

    `planned_tokens` counts the trunk and its known branches; `compile: auto` compares the time
    that compilation saves on them with its cost.

    Raises:
        ConfigError: The device is not available, or the batch does not divide into devices and
            micro-batches.
    """
    device = _device(resources)
    rows = _rows_of_each_device(resources, model, recipe)
    micro_rows = rows
    if resources.micro_batch_tokens is not None:
        micro_rows = min(rows, resources.micro_batch_tokens // model.context)
        if micro_rows < 1 or rows % micro_rows:
            raise ConfigError(
                "not-a-multiple",
                f"resources.micro_batch_tokens = {resources.micro_batch_tokens}: must hold a whole "
                f"number of rows of {model.context} tokens that divides a device's {rows} rows",
                micro_batch_tokens=resources.micro_batch_tokens,
                context=model.context,
                rows=rows,
            )
    precision = resources.precision
    if precision == "auto":
        precision = "bf16" if device == "cuda" else "fp32"
    kernels = _kernels(resources, model, device, precision)
    return Execution(
        device=device,
        device_kind=_device_kind(device),
        precision=precision,
        kernels=kernels,
        compile=kernels == "torch" and _compiles(resources, model, recipe, device, planned_tokens),
        threads=resources.cpus_per_device,
        devices=resources.devices_per_trial,
        micro_batch_rows=micro_rows,
        deterministic=resources.deterministic,
        source=source_of(model.family) if isinstance(model, FamilySpec) else None,
        subnormals="flushed" if device == "cpu" and resources.cpus_per_device == 1 else "kept",
        torch=torch.__version__,
        windtunnel=__version__,
    )


def current(recorded: Execution) -> Execution:
    """The record's choices with this machine's hardware and versions."""
    kernels = "torch"
    if recorded.kernels.startswith(NATIVE) and (machine_code := native.identity()):
        kernels = f"{NATIVE} {machine_code}"
    return recorded.replace(
        device_kind=_device_kind(recorded.device),
        devices=1 if recorded.devices == 1 else devices_here(),
        kernels=kernels,
        source=recorded.source and source_of(recorded.source.partition(" ")[0]),
        torch=torch.__version__,
        windtunnel=__version__,
    )


def arithmetic(device: str) -> dict[str, str]:
    """Everything that decides the last bits on this machine, by name; Ray reports the GPU type."""
    if device == "cuda":
        return {"torch": torch.__version__}
    return {
        "torch": torch.__version__,
        "processor": _device_kind(device),
        "native kernels": str(native.identity()),
    }


def apply(execution: Execution) -> None:
    """Set torch's process-wide switches as recorded.

    Raises:
        ConfigError: The record needs CUDA, and no CUDA device is available.
    """
    if execution.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "no-device", "this trunk was made on CUDA and no CUDA device is here", device="cuda"
        )
    if execution.deterministic:  # cuBLAS reads the variable at the first matmul
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(execution.threads)
    if torch.are_deterministic_algorithms_enabled() != execution.deterministic:  # imports inductor
        torch.use_deterministic_algorithms(execution.deterministic)


@contextmanager
def subnormals(treated: Literal["kept", "flushed"]) -> Iterator[None]:
    """Keep subnormal floats (below 1e-38) on this thread in the body, or flush them to 0.

    Attention weights of masked keys and moments of tokens that no longer occur get that small, and
    Intel processors handle them in slow microcode (docs/log.md, 2026-11-30). They are flushed
    inside updates only, because numpy warns about a process without subnormals. Torch's worker
    threads keep the mode they start with, so a trunk with several threads keeps subnormals.
    """
    flushed = treated == "flushed" and torch.set_flush_denormal(True)
    try:
        yield
    finally:
        if flushed:
            torch.set_flush_denormal(False)


def devices_here() -> int:
    """Number of devices in this process's data-parallel group, its own included."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def _rows_of_each_device(resources: Resources, model: ModelSpec, recipe: Recipe) -> int:
    rows, devices = recipe.batch_tokens // model.context, resources.devices_per_trial
    if devices > 1 and devices != devices_here():
        raise ConfigError(
            "wrong-device-count",
            f"resources.devices_per_trial = {devices}: {devices_here()} train together here; only "
            "--engine ray starts several",
            devices_per_trial=devices,
            devices=devices_here(),
        )
    if rows % devices:
        raise ConfigError(
            "not-a-multiple",
            f"resources.devices_per_trial = {devices}: does not divide the {rows} rows of "
            f"{model.context} tokens in recipe.batch_tokens = {recipe.batch_tokens}",
            devices_per_trial=devices,
            rows=rows,
            context=model.context,
            batch_tokens=recipe.batch_tokens,
        )
    return rows // devices


def _device(resources: Resources) -> Literal["cpu", "cuda"]:
    if resources.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "no-device",
            "resources.device = cuda: torch sees no CUDA device; allowed here: cpu",
            device="cuda",
            allowed=["cpu"],
        )
    if resources.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return resources.device


def _device_kind(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def _kernels(resources: Resources, model: ModelSpec, device: str, precision: str) -> str:
    """Native kernels wherever they can run, since they are fastest (docs/benchmarks.md)."""
    if resources.kernels == "torch" or (
        resources.kernels == "auto" and resources.compile == "always"
    ):
        return "torch"
    machine_code = native.identity()
    decoder = decoder_of(model)
    obstacles = {
        "device: cpu": device != "cpu",
        "cpus_per_trial: 1": resources.cpus_per_trial != 1,
        "devices_per_trial: 1": resources.devices_per_trial != 1,
        f"family {MINICPM} or {MINICPM_MOE}": decoder is None,
        f"a head_dim that is a multiple of {native.WHOLE_HEAD}": (
            decoder is not None and not native.supports(decoder)
        ),
        "precision: fp32 for experts": precision != "fp32" and not isinstance(model, DenseSpec),
        "compile: auto or never": resources.compile == "always",
        "a C++ compiler (g++, clang++ or $CXX)": machine_code is None,
    }
    needs = [need for need, missing in obstacles.items() if missing]
    if not needs:
        return f"{NATIVE} {machine_code}"
    if resources.kernels == "native":
        raise ConfigError(
            "kernels-cannot-run",
            f"resources.kernels = native: needs {' and '.join(needs)}; "
            "allowed here: torch, or auto, which selects kernels that can run",
            needs=needs,
            allowed=["torch", "auto"],
        )
    return "torch"


def decoder_of(model: ModelSpec) -> DenseSpec | None:
    """The dense decoder of a model of ours, whose feed-forwards may be experts."""
    if isinstance(model, FamilySpec):
        return parts_of(model.shape)[0] if model.family == MINICPM_MOE else None
    return model if isinstance(model, DenseSpec) else None


def _compiles(
    resources: Resources, model: ModelSpec, recipe: Recipe, device: str, planned_tokens: int
) -> bool:
    """Whether compilation saves more seconds than it takes."""
    if resources.compile != "auto":
        return resources.compile == "always"
    if device == "cpu" and native.compiler() is None:
        return False
    if isinstance(model, FamilySpec):  # whether its graph compiles whole, nobody knows
        return False
    arithmetic = planned_tokens * model.flops_exact_per_token / EAGER_FLOPS_PER_SECOND[device]
    updates = planned_tokens / recipe.batch_tokens
    launches = updates * model.depth * LAUNCH_SECONDS_PER_LAYER[device]
    return max(arithmetic, launches) * COMPILE_SAVING[device] > COMPILE_COLD_SECONDS
