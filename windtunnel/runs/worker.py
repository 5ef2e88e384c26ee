"""A worker process: its configuration, its context, its curve files and its evaluations.

A curve has one JSON row per update. Rows are appended in groups, so a killed process loses at most
the last group.
"""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, Self

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
from windtunnel.runs.store import Store
from windtunnel.runs.streams import Streams
from windtunnel.runs.study import Study
from windtunnel.train.copying import CopyRows, copy_gain, copy_rows
from windtunnel.train.dynamics import DynamicsRow
from windtunnel.train.execution import Execution, apply
from windtunnel.train.loop import CurveRow, evaluate
from windtunnel.train.routing import RoutingRow
from windtunnel.train.step import TrainStep, Watch

Sets = dict[str, dict[str, Any]]
"""What is measured after an update, by validation set."""


class Recorder(Watch, Protocol):
    """A watch that keeps rows until they are written."""

    def rows(self, *, up_to: int) -> Sequence[DynamicsRow | RoutingRow]:
        """Rows recorded since the last call; those beyond update `up_to` are dropped."""


class CurveWriter(AbstractContextManager["CurveWriter"]):
    """Appends curve rows with a step beyond `after`; each recorder has a file of its own beside."""

    def __init__(
        self, path: Path, *, after: int, recorders: Mapping[str, Recorder] = MappingProxyType({})
    ) -> None:
        self._curve = _RowFile(path, after=after)
        self._beside = [
            (recorder, _RowFile(path.with_name(name), after=after))
            for name, recorder in recorders.items()
        ]

    def __enter__(self) -> "CurveWriter":
        with ExitStack() as opened:
            for file in (self._curve, *(file for _, file in self._beside)):
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
        for recorder, file in self._beside:
            file.write(recorder.rows(up_to=rows[-1].step))
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

    def write(self, rows: Sequence[CurveRow | DynamicsRow | RoutingRow]) -> None:
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
    if isinstance(value, list):
        return [_finite(each) for each in value]
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

    @classmethod
    def of(cls, study: Study, *, accept_execution_change: bool = False) -> Self:
        """The configuration of a study whose data is prepared."""
        assert study.dataset is not None
        validation = study.config.data.validation
        return cls(
            study=study.config.study,
            store=str(study.store.root),
            dataset=str(study.dataset.folder),
            extra_validation={
                extra.name: str(extra.folder)
                for extra in study.extra_validation
                if not extra.conditional  # it is a folder's second set
            },
            validation_tokens=validation.tokens,
            fork_tokens=validation.fork_tokens,
            resources=study.config.resources,
            accept_execution_change=accept_execution_change,
            dynamics=study.config.dynamics,
        )

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
        self.probed = next((each for each in self.validation if not each.conditional), None)
        self._step: TrainStep | None = None
        self._key = ""
        self._work_of_before = 0
        self._streams = Streams(self.dataset)
        self._copy_rows: dict[int, CopyRows | None] = {}

    @property
    def work_done(self) -> int:
        """Updates and evaluation batches of this process so far."""
        step = self._step  # read once: another thread reads it too
        return self._work_of_before + (step.work_done if step is not None else 0)

    def stream(self, segment: Trunk | Branch) -> TrainStream:
        """The training rows of a segment."""
        return self._streams.of(segment)

    def copy_rows(self, context: int) -> CopyRows | None:
        """Rows of the copy gain, of the first set of full text; None where there are none."""
        if self.probed is None:
            return None
        if context not in self._copy_rows:
            self._copy_rows[context] = copy_rows(self.probed, context)
        return self._copy_rows[context]

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
    """Validation losses of one segment at its stops: the missing ones are measured and stored.

    The end also has a copy gain, and a segment without one is complete all the same.
    """

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
        """Evaluate the state at `step` on every lacking set, at the end copying too; store it."""
        losses = {
            validation.name: self._losses(validation, wanted.tokens(self._planned), trained)
            for validation, wanted in self.lacking(step)
        }
        if step == self._planned.end:
            losses |= self._copy_gain(losses, trained)
        if losses:
            self._folder.add_measurement(step, losses)

    @property
    def lacks_copy_gain(self) -> bool:
        """Whether the end has losses without a copy gain, and its context allows one."""
        return bool(self._without_copy_gain({})) and self._copy_rows is not None

    def _copy_gain(self, losses: Sets, trained: TrainStep) -> Sets:
        """The losses at the end with a copy gain beside them, where it lacks one."""
        rows = self._copy_rows
        if rows is None:
            return {}
        return {
            name: measured | {"copy_gain": asdict(copy_gain(trained, rows))}
            for name, measured in self._without_copy_gain(losses).items()
        }

    def _without_copy_gain(self, losses: Sets) -> Sets:
        """The losses at the end of the probed set, unless they have a copy gain; new ones first."""
        known = self._folder.measurements.get(self._planned.end, {}) | losses
        probed = self._context.probed
        if probed is None or "copy_gain" in known.get(probed.name, {"copy_gain": None}):
            return {}
        return {probed.name: known[probed.name]}

    @property
    def _copy_rows(self) -> CopyRows | None:
        return self._context.copy_rows(self._planned.segment.model.context)

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
