"""A worker process: its configuration, its context, its curve files and its evaluations.

A curve has one JSON row per update. Rows are appended in groups, so a killed process loses at most
the last group.
"""

import json
import math
import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from windtunnel.config import Branch, Trunk
from windtunnel.config.study import DynamicsConfig, Resources
from windtunnel.config.units import Strict
from windtunnel.data import Dataset, TrainStream, ValidationSet
from windtunnel.errors import cannot_write
from windtunnel.runs.completion import WantedSet
from windtunnel.runs.files import undamaged
from windtunnel.runs.json_schema import Schema
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.store import DYNAMICS, Store
from windtunnel.runs.streams import Streams
from windtunnel.train.dynamics import Dynamics, DynamicsRow
from windtunnel.train.execution import Execution, apply
from windtunnel.train.loop import CurveRow, evaluate
from windtunnel.train.step import TrainStep


class CurveWriter(AbstractContextManager["CurveWriter"]):
    """Appends curve rows with a step beyond `after`; rows of `dynamics` go to a second file."""

    def __init__(self, path: Path, *, after: int, dynamics: Dynamics | None = None) -> None:
        self._curve = _RowFile(path, after=after)
        self._beside = _RowFile(path.with_name(DYNAMICS), after=after) if dynamics else None
        self._dynamics = dynamics

    def __enter__(self) -> "CurveWriter":
        with ExitStack() as opened:
            for file in filter(None, (self._curve, self._beside)):
                opened.enter_context(file)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *problem: Any) -> None:
        self._opened.__exit__(*problem)

    def write(self, rows: list[CurveRow]) -> None:
        """Append the new ones of `rows` in one write.

        Raises:
            StoreError: Disk full.
        """
        if self._dynamics is not None and self._beside is not None:
            self._beside.write(self._dynamics.rows(up_to=rows[-1].step))
        self._curve.write(rows)


class _RowFile(AbstractContextManager["_RowFile"]):
    """A file of JSON rows, each with a `step` and its time of writing."""

    def __init__(self, path: Path, *, after: int) -> None:
        self.path, self.after = path, after

    def __enter__(self) -> "_RowFile":
        self._file = self.path.open("ab", buffering=0)
        return self

    def __exit__(self, *problem: Any) -> None:
        with self._file:
            os.fsync(self._file)  # after a power cut, no checkpoint is ahead of its rows

    def write(self, rows: Sequence[CurveRow | DynamicsRow]) -> None:
        now = time.time()
        fresh = [asdict(row) | {"time": now} for row in rows if row.step > self.after]
        if not fresh:
            return
        text = "".join(json.dumps(_finite(row), separators=(",", ":")) + "\n" for row in fresh)
        try:
            left = memoryview(text.encode())
            while left:  # a nearly full disk writes a part without an error
                left = left[self._file.write(left) :]
        except OSError as refused:
            raise cannot_write(self.path, refused) from None
        self.after = fresh[-1]["step"]


def _finite(value: Any) -> Any:
    """JSON has no NaN: a number that is not finite is null."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


class WorkerConfig(Strict):
    """Everything that a worker needs besides the segment."""

    study: str
    store: str
    dataset: str
    extra_validation: dict[str, str]
    validation_tokens: int
    fork_tokens: int
    resources: Resources
    accept_execution_change: bool = False
    dynamics: DynamicsConfig | None = None

    @property
    def stop_file(self) -> Path:
        """The file whose existence makes runs save a checkpoint and return."""
        return Store(Path(self.store)).study(self.study) / "stop"


def read_worker_config(path: Path) -> WorkerConfig:
    """The worker configuration in a study's folder.

    Raises:
        StoreError: It is missing or damaged.
    """
    with undamaged(path, WORKER_CONFIG.fix):
        return WORKER_CONFIG.read(path.read_bytes())


WORKER_CONFIG = Schema(
    TypeAdapter(WorkerConfig), "run the same command again, which writes it anew"
)


class WorkerContext:
    """Open data and compiled shapes, which a worker process keeps between segments."""

    def __init__(self, config: WorkerConfig) -> None:
        self.config = config
        self.store = Store(Path(config.store))
        self.dataset = Dataset.open(Path(config.dataset))
        self.validation: tuple[ValidationSet, ...] = (
            *self.dataset.validation,
            *(
                each
                for name, folder in config.extra_validation.items()
                for each in ValidationSet.open(Path(folder), name=name)
            ),
        )
        self.wanted = {
            each.name: WantedSet(
                each.fingerprint,
                end_tokens=config.validation_tokens,
                fork_tokens=config.fork_tokens,
            )
            for each in self.validation
        }
        self._step: TrainStep | None = None
        self._key = ""
        self._work_of_before = 0
        self._streams = Streams(self.dataset)

    @property
    def work_done(self) -> int:
        """Updates and evaluation batches of this process so far."""
        step = self._step  # read once: another thread reads it too
        return self._work_of_before + (step.work_done if step is not None else 0)

    def stream(self, segment: Trunk | Branch) -> TrainStream:
        """The training rows of a segment."""
        return self._streams.of(segment)

    def step(self, segment: Trunk | Branch, execution: Execution) -> TrainStep:
        """A train step of the segment's shape; its state holds whatever ran last."""
        execution = execution.for_segment(segment)
        apply(execution)
        key = json.dumps(
            [value.model_dump() for value in (segment.model, segment.recipe, execution)]
        )
        if self._step is None or key != self._key:
            self._work_of_before = self.work_done
            self._step = None  # one at a time, because it holds a model
            self._step = TrainStep(segment.model, segment.recipe, execution)
            self._key = key
        return self._step


class Evaluator:
    """Validation losses of one segment at its stops: the missing ones are measured and stored."""

    def __init__(self, context: WorkerContext, planned: PlannedSegment) -> None:
        self._context, self._planned = context, planned
        self._folder = context.store.segment(planned.id)

    def lacking(self, step: int) -> list[tuple[ValidationSet, WantedSet]]:
        """Validation sets that still need a measurement after `step` updates."""
        known = self._folder.measurements.get(step, {})
        wanted = self._context.wanted
        return [
            (validation, wanted[validation.name])
            for validation in self._context.validation
            if not wanted[validation.name].is_met_by(known.get(validation.name), self._planned)
        ]

    def measure(self, step: int, trained: TrainStep) -> None:
        """Evaluate the state at `step` on every lacking set and store the losses."""
        losses = {
            validation.name: self._losses(validation, wanted.tokens(self._planned), trained)
            for validation, wanted in self.lacking(step)
        }
        if losses:
            self._folder.add_measurement(step, losses)

    def _losses(self, validation: ValidationSet, tokens: int, trained: TrainStep) -> dict[str, Any]:
        rows = validation.rows(self._planned.segment.model.context, tokens)
        nats, bytes_each = evaluate(trained, rows), validation.bytes_per_token
        return {
            "fingerprint": validation.fingerprint,
            "asked": tokens,
            "tokens": int((rows[:, 1:] >= 0).sum()),
            "nats_per_token": nats,
            "bits_per_byte": None if bytes_each is None else nats / math.log(2) / bytes_each,
        } | ({"conditional": True} if validation.conditional else {})
