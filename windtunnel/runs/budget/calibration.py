"""Calibration: timings of the study's shapes on this machine, measured and stored.

As many processes as there are slots time the same shape at once, each as a worker would run it,
because two busy cores slow each other down. Loads no torch itself.
"""

import importlib.metadata
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from statistics import fmean
from typing import Annotated, Any, Self

from pydantic import Field, TypeAdapter, model_validator

from windtunnel.config.shape import AnyModel, Positive
from windtunnel.config.units import Strict
from windtunnel.errors import ConfigError
from windtunnel.runs.budget.throughput import Shape, ShapeTimes, shape_of
from windtunnel.runs.child_python import child_environment
from windtunnel.runs.files import read_derived, write_json
from windtunnel.runs.json_schema import Schema
from windtunnel.runs.study import Study
from windtunnel.version import __version__

FILE = "calibration.json"


class Timing(Strict):
    """Timings of a shape in one process, in seconds: a `ShapeTimes` with its conditions."""

    update: Annotated[float, Field(gt=0)]
    evaluation: Annotated[float, Field(ge=0)]
    fork: Annotated[float, Field(ge=0)]
    end: Annotated[float, Field(ge=0)]
    prepare: Annotated[float, Field(ge=0)]
    updates: int
    device_kind: str
    kernels: str
    compile: bool


class CalibratedShape(Strict):
    """A shape with its timings, averaged over the slots."""

    model: AnyModel
    batch_tokens: Positive
    timing: Timing

    @model_validator(mode="after")
    def _is_countable(self) -> Self:
        """Refuse sizes beyond every float, which an edited file may hold."""
        float(self.batch_tokens * self.model.flops_exact_per_token)
        return self


class Calibration(Strict):
    """Timings of every shape of a study on one machine, valid under `conditions`."""

    written: float
    conditions: dict[str, Any]
    shapes: tuple[CalibratedShape, ...]

    def by_shape(self) -> dict[Shape, ShapeTimes]:
        """Timings by shape, for the estimate."""
        return {
            (each.model, each.batch_tokens): ShapeTimes(
                **each.timing.model_dump(include=set(ShapeTimes.__dataclass_fields__))
            )
            for each in self.shapes
        }


CALIBRATION: Schema[Calibration] = Schema(
    TypeAdapter(Calibration), "`windtunnel plan --calibrate` makes it again"
)


def last_calibration(study: Study) -> Calibration | None:
    """The latest calibration on any machine; None, with a log entry, where the file is damaged.

    Raises:
        StoreError: The file cannot be read.
    """
    return read_derived(study.folder / FILE, CALIBRATION)


def read_calibration(study: Study, *, slots: int) -> Calibration | None:
    """The calibration of this machine, these versions and resources; else None."""
    calibration = last_calibration(study)
    valid = calibration and calibration.conditions == _conditions(study, slots)
    return calibration if valid else None


def calibrate(
    study: Study, *, slots: int, tell: Callable[[str], None] = lambda line: None
) -> Calibration:
    """Time every shape of the plan with `slots` processes side by side, and store the result.

    Raises:
        ConfigError: A shape cannot be run here.
    """
    if study.config.resources.devices_per_trial > 1:
        raise ConfigError(
            "contradicting-options",
            "--calibrate times trials of one device, and resources.devices_per_trial is "
            f"{study.config.resources.devices_per_trial}; leave it out: the speed is measured once "
            "something has run",
            devices_per_trial=study.config.resources.devices_per_trial,
        )
    study.store.open_for_writing()
    study.folder.mkdir(parents=True, exist_ok=True)
    shapes = []
    with ExitStack() as stack:
        scratch = stack.enter_context(
            tempfile.TemporaryDirectory(prefix=".calibration.", dir=study.folder)
        )
        workers = [stack.enter_context(_Worker(number)) for number in range(slots)]
        for (model, batch_tokens), job in _jobs(study, scratch).items():
            tell(f"timing {model.size}, {batch_tokens} tokens an update")
            for worker in workers:
                worker.ask(job)
            timings = [worker.answer() for worker in workers]
            shapes.append(
                CalibratedShape(model=model, batch_tokens=batch_tokens, timing=_mean(timings))
            )
    calibration = Calibration(
        written=time.time(), conditions=_conditions(study, slots), shapes=tuple(shapes)
    )
    write_json(study.folder / FILE, calibration.model_dump(mode="json"))
    return calibration


def _conditions(study: Study, slots: int) -> dict[str, Any]:
    resources = study.config.resources.model_dump(mode="json")
    for name in ("concurrency", "retries", "checkpoint_seconds", "stall_seconds"):
        del resources[name]  # no effect on one update
    return {
        "host": platform.node(),
        "subnormals": "flushed",  # older calibrations are up to twice too slow
        "slots": slots,
        "resources": resources,
        "windtunnel": __version__,
        "torch": importlib.metadata.version("torch"),
    }


def _jobs(study: Study, scratch: str) -> dict[Shape, dict[str, Any]]:
    """For each shape, its trunk with the most work, which decides whether compilation pays."""
    work: dict[str, int] = {}
    for planned in study.plan.segments:
        root = planned.segment.root.id
        work[root] = work.get(root, 0) + planned.tokens
    trunks: dict[Shape, tuple[int, dict[str, Any]]] = {}
    for planned in study.plan.trunks:
        known = trunks.get(shape_of(planned))
        if known is None or work[planned.id] > known[0]:
            trunks[shape_of(planned)] = work[planned.id], planned.segment.model_dump(mode="json")
    return {
        shape: {
            "trunk": trunk,
            "planned_tokens": tokens,
            "resources": study.config.resources.model_dump(mode="json"),
            "dataset": str(study.dataset.folder) if study.dataset else None,
            "scratch": scratch,
        }
        for shape, (tokens, trunk) in trunks.items()
    }


def _mean(timings: list[Timing]) -> Timing:
    times: Mapping[str, float] = {
        name: fmean(getattr(timing, name) for timing in timings)
        for name in ShapeTimes.__dataclass_fields__
    }
    return timings[0].replace(**times)


class _Worker:
    """A process that times one shape after another, with JSON lines in and out."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __enter__(self) -> "_Worker":
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "windtunnel.runs.budget.timing", str(self.number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=child_environment() | {"PYTHONUNBUFFERED": "1"},
        )
        return self

    def __exit__(self, *problem: object) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def ask(self, job: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail()

    def answer(self) -> Timing:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._fail()
        return Timing.model_validate_json(line)

    def _fail(self) -> None:
        self._process.wait()
        self._errors.seek(0)
        last = self._errors.read().strip().splitlines()[-1:] or ["no reason was given"]
        raise ConfigError(
            "cannot-calibrate",
            f"--calibrate: a shape cannot be timed here: {last[0]}",
            cause=last[0],
        )
