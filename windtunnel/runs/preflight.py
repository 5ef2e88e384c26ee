"""Checks that `resources` can train the shapes of a plan, before any worker starts."""

import os
from collections.abc import Iterable
from pathlib import Path

from windtunnel.config import FamilySpec, StudyConfig, Trunk
from windtunnel.config.segment import rows_per_update
from windtunnel.config.study import Resources
from windtunnel.config.units import Misfit
from windtunnel.errors import Diagnostic
from windtunnel.family import MINICPM, MINICPM_MOE
from windtunnel.runs.plan import PlannedSegment

CARDS = Path("/dev")
"""The folder with one file per NVIDIA GPU; asking torch takes seconds."""

WHOLE_HEAD, LARGEST_HEAD = 16, 512
"""Limits of `windtunnel.model.native`, which cannot be imported here because it loads torch."""


def check_execution(study: StudyConfig, segments: Iterable[PlannedSegment]) -> None:
    """Check that micro-batches and devices divide a batch, and that the kernels take the shapes.

    Raises:
        Misfit: With the place in the study file.
    """
    resources = study.resources
    if resources.compile == "always" and study.model.family == MINICPM_MOE:
        raise Misfit(
            "cannot-compile",
            "resources.compile = always: experts are not compiled, since the load of each is "
            "counted outside the graph; take compile: auto, or never",
            "resources",
            "compile",
            compile="always",
            family=MINICPM_MOE,
        )
    if (
        resources.devices_per_trial == 1
        and resources.micro_batch_tokens is None
        and resources.kernels != "native"
    ):
        return
    if resources.kernels == "native":
        _check_native(study)
    for planned in segments:
        segment = planned.segment
        rows, devices = rows_per_update(segment), resources.devices_per_trial
        context, batch = segment.model.context, segment.recipe.batch_tokens
        if rows % devices:
            raise Misfit(
                "not-a-multiple",
                f"resources.devices_per_trial = {devices}: does not divide the {rows} rows of "
                f"{context} tokens in a batch of {batch}; take a divisor of {rows}",
                "resources",
                "devices_per_trial",
                devices_per_trial=devices,
                rows=rows,
                context=context,
                batch_tokens=batch,
            )
        model = segment.model
        head = model.attention_dim or 0
        family = model.family if isinstance(model, FamilySpec) else MINICPM
        if resources.kernels == "native" and family not in {MINICPM, MINICPM_MOE}:
            raise Misfit(
                "kernels-cannot-run",
                "resources.kernels = native: computes the families minicpm and minicpm-moe alone; "
                "take kernels: torch, or auto",
                "resources",
                "kernels",
                kernels="native",
            )
        if resources.kernels == "native" and (head % WHOLE_HEAD or head > LARGEST_HEAD):
            raise Misfit(
                "kernels-cannot-run",
                f"resources.kernels = native: needs a head_dim that is a multiple of {WHOLE_HEAD} "
                f"up to {LARGEST_HEAD}, not {head}; or take kernels: auto",
                "resources",
                "kernels",
                kernels="native",
                head_dim=head,
                multiple_of=WHOLE_HEAD,
                most=LARGEST_HEAD,
            )
        pieces = resources.micro_batch_tokens
        if pieces is None or not isinstance(segment, Trunk):
            continue
        device_rows = rows // devices
        if pieces < context or device_rows % min(device_rows, pieces // context):
            raise Misfit(
                "not-a-multiple",
                f"resources.micro_batch_tokens = {pieces}: must hold a whole number of rows of "
                f"{context} tokens that divides a device's {device_rows} rows; "
                f"{device_rows * context} would",
                "resources",
                "micro_batch_tokens",
                micro_batch_tokens=pieces,
                context=context,
                rows=device_rows,
            )


def beyond_this_machine(resources: Resources, *, cards: Path = CARDS) -> tuple[Diagnostic, ...]:
    """A warning for each resource that exceeds what this machine has."""
    gpus = len(list(cards.glob("nvidia[0-9]*")))
    needs = {
        "cpus_per_trial": (resources.cpus_per_device, len(os.sched_getaffinity(0)), "cores"),
        "gpus_per_trial": (resources.gpus_per_device, gpus, "cards"),
        "device": (float(resources.device == "cuda"), gpus, "cards"),
    }
    return tuple(
        Diagnostic(
            "more-than-here",
            f"resources.{name}: a trial, or each of its devices, asks for {wanted:g} {what}, and "
            f"this machine has {there}; it can run on a cluster only (--address)",
            option=f"resources.{name}",
            wanted=wanted,
            available=there,
        )
        for name, (wanted, there, what) in needs.items()
        if wanted > there
    )


def _check_native(study: StudyConfig) -> None:
    resources = study.resources
    needed = {
        "device": ("cpu or auto", resources.device != "cuda"),
        "cpus_per_trial": ("1", resources.cpus_per_trial == 1),
        "devices_per_trial": ("1", resources.devices_per_trial == 1),
        "compile": ("auto or never", resources.compile != "always"),
    }
    for name, (value, holds) in needed.items():
        if not holds:
            raise Misfit(
                "kernels-cannot-run",
                f"resources.kernels = native: needs {name}: {value}; or take kernels: auto",
                "resources",
                "kernels",
                kernels="native",
                option=name,
                needed=value,
            )
