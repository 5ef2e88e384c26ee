"""Running one segment: from the store's present state to what the plan needs, stop by stop.

A run may be killed at any time and started again: it resumes from the last checkpoint and reaches
the same bits. A fork checkpoint is saved and reported before it is evaluated, so its branch can
start while the trunk continues.
"""

import shutil
import time
import traceback
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from windtunnel.config import Branch, ModelChange, Segment, Trunk
from windtunnel.config.segment import rows_at
from windtunnel.errors import ConfigError, StoreError
from windtunnel.runs.budget.throughput import Timers
from windtunnel.runs.completion import missing_stops, stops_of
from windtunnel.runs.files import undamaged
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.store import DYNAMICS, ROUTING, SegmentFolder
from windtunnel.runs.streams import changes_data
from windtunnel.runs.worker import CurveWriter, Evaluator, Recorder, WorkerContext
from windtunnel.train import checkpoint
from windtunnel.train.dynamics import Dynamics
from windtunnel.train.execution import Execution, current, decide
from windtunnel.train.loop import Diverged, train
from windtunnel.train.routing import RoutingSeries
from windtunnel.train.upcycling import Upcycling


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The state of a run after one stop."""

    event: Literal["saved", "fork", "interrupted", "done"]
    step: int
    outcome: str | None = None


class LostFork(StoreError):
    """The checkpoint that a branch starts from was damaged and has been removed."""


class SegmentRun(AbstractContextManager["SegmentRun"]):
    """One segment under its lease; call `advance` until it is done."""

    def __init__(
        self, context: WorkerContext, planned: PlannedSegment, *, planned_tokens: int
    ) -> None:
        self.context, self.planned, self.segment = context, planned, planned.segment
        self.folder = context.store.segment(planned.id)
        self.evaluator = Evaluator(context, planned)
        self.planned_tokens = planned_tokens
        self.outcome: str | None = None
        self.stops: tuple[int, ...] = ()
        self.to_make: list[int] = []
        self.overhead = Timers()
        self.recorders: dict[str, Recorder] = {}
        self._just_saved: int | None = None
        self._lease = self.folder.lease(lambda: context.work_done)

    def __enter__(self) -> "SegmentRun":
        self._lease.__enter__()
        try:
            if self._lease.note:
                self.folder.note(self._lease.note)
            self.folder.clear_scratch()
            self._prepare()
        except BaseException:
            self._lease.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *problem: Any) -> None:
        self._lease.__exit__(*problem)

    def advance(self) -> Progress:
        """Train to the next stop: a fork, a checkpoint, an interruption, or the end.

        Raises:
            LeaseHeld: The lease was lost.
            StoreError: The store cannot be written or read.
        """
        self._lease.check()
        if self._just_saved is not None:
            self._measure(self._just_saved)
            self._just_saved = None
        target = next((step for step in self.to_make if step > self.state.step), None)
        if target is None or self.outcome is not None:
            return self._finish()
        saved_at = time.monotonic()
        stop_file = self.context.config.stop_file
        interrupted = False

        def stop() -> bool:
            nonlocal interrupted
            interrupted = stop_file.exists()
            waited = time.monotonic() - saved_at
            return interrupted or waited > self.context.config.resources.checkpoint_seconds

        try:
            with CurveWriter(
                self.folder.curve, after=self._curve_end, recorders=self.recorders
            ) as writer:
                train(
                    self.step,
                    self.segment,
                    self.context.stream(self.segment),
                    until=target,
                    write=writer.write,
                    stop=stop,
                    watches=tuple(self.recorders.values()),
                )
            self._lease.check()
        except Diverged as diverged:
            self.outcome = "diverged"
            self.state.step = diverged.step
            return self._finish()
        if self.state.step < target:
            with self.overhead.timing("checkpoint_seconds"):
                self.folder.save_resume(self.state.step, self._save)
            return Progress(event="interrupted" if interrupted else "saved", step=self.state.step)
        self._save_stop(target)
        return Progress(event="fork", step=target)

    def _prepare(self) -> None:
        """Decide or inherit the execution, load the state, and cut the curve back to it."""
        self.folder.create(self.segment)
        execution = self._execution()
        self.step = self.context.step(self.segment, execution)
        self.state = self.step.state
        record = self.folder.record or {}
        if record.get("outcome") == "diverged":
            self.outcome = "diverged"
            self.state.step, self.state.seconds = record["reached"], record["seconds"]
            return
        self.stops = stops_of(self.planned)
        for fork in self.planned.forks if isinstance(self.segment, Branch) else ():
            if self.folder.has_checkpoint(fork) and not self.folder.has_checkpoint(
                fork, moments=True
            ):
                self._discard(
                    self.folder.checkpoint(fork),
                    f"step {fork} was an end and kept no moments; made again, for a branch leaves",
                )
        saved = self._load(record.get("reached", 0))
        self.recorders = {}
        if (dynamics := self.context.config.dynamics) is not None:
            first = self.segment.fork_step
            self.recorders[DYNAMICS] = Dynamics(self.state, dynamics, first_step=first)
        if self.state.model.routed is not None:
            self.recorders[ROUTING] = RoutingSeries(self.state)
        self.overhead.go_on_from(record, saved.get("overhead", {}))

    def _load(self, reached: int) -> dict[str, Any]:
        """Load the state; the metadata of the segment's own checkpoint, if it had one."""
        saved: dict[str, Any] = {}
        written = self.folder.curve_end(self.segment.fork_step)
        begin_by = min(written, *(self._missing(written)[:1] or self.stops[-1:]))
        for folder in self.folder.resumable(begin_by):
            try:
                saved = checkpoint.load(self.state, folder)
                break
            except checkpoint.Damaged as damaged:
                self._discard(folder, f"{damaged}; removed, going on from the one before")
        else:
            self._load_start()
        self.state.watch.warmup = self._judged_from()
        missing = self._missing(written)  # again: damaged checkpoints have to be recomputed
        self.to_make = missing
        replays = bool(missing) and missing[-1] <= min(reached, written)
        if missing and not replays:
            recording = self.context.config.dynamics is not None
            self.folder.truncate_curve(self.state.step, dynamics=recording)
        self._curve_end = reached if replays else self.state.step
        return saved

    def _judged_from(self) -> int:
        """The first update of divergence detection: after warmup, and after a mixture ramp."""
        mixture = None if isinstance(self.segment, Trunk) else self.segment.mixture
        ramp_end = self.segment.fork_step + mixture.ramp if mixture is not None else 0
        return max(self.segment.recipe.warmup_steps, ramp_end)

    def _missing(self, written: int) -> list[int]:
        """Stops without a checkpoint or without their part of the curve."""
        missing = missing_stops(self.folder, self.planned, self.context.wanted)
        return [stop for stop in self.stops if stop in missing or stop > written]

    def _discard(self, damaged: Path, note: str) -> None:
        self.folder.note(note)
        shutil.rmtree(damaged, ignore_errors=True)

    def _load_start(self) -> None:
        if isinstance(self.segment, Trunk):
            self.state.start(self.segment)
            return
        parent = self.context.store.segment(self.segment.parent.id)
        source = parent.checkpoint(self.segment.fork_step)
        try:
            checkpoint.load(self.state, source, convert=self._conversion())
        except checkpoint.Damaged as damaged:
            self._discard(source, f"{damaged}; removed, its parent makes it again")
            self._recall_path()
            raise LostFork(
                "lost-fork",
                f"{damaged}; its parent makes it again",
                folder=source,
                fork_step=self.segment.fork_step,
            ) from None
        self.state.seconds = 0.0  # seconds are counted per segment
        if changes_data(self.segment) or self.segment.change(ModelChange) is not None:
            self.state.forget_losses()

    def _conversion(self) -> checkpoint.Conversion | None:
        """How the parent's checkpoint becomes the start of another model; None of the same one."""
        assert isinstance(self.segment, Branch)
        change = self.segment.change(ModelChange)
        if change is None:
            return None
        return partial(Upcycling(self.segment, change), self.state.model)

    def _recall_path(self) -> None:
        """Request every missing checkpoint up the path, down to one that exists."""
        segment: Segment = self.segment
        while isinstance(segment, Branch):
            parent = self.context.store.segment(segment.parent.id)
            if parent.has_checkpoint(segment.fork_step, moments=True):
                return
            parent.recall(segment.fork_step)
            segment = segment.parent

    def _execution(self) -> Execution:
        """The trunk's execution record: decided by its first run, inherited by all later ones."""
        home = self.context.store.segment(self.segment.root.id)
        config = self.context.config
        if home.execution is None:
            decided = decide(
                config.resources,
                self.segment.model,
                self.segment.recipe,
                planned_tokens=self.planned_tokens,
            )
            home.set_execution(decided.model_dump())
            return decided
        fix = "put back a copy of it, or remove the folder: the segment is made again"
        with undamaged(home.root / "execution.json", fix):
            recorded = Execution(**home.execution)
        now = current(recorded)
        if differences := recorded.differences(now):
            changes = ", ".join(differences)
            if not config.accept_execution_change:
                raise ConfigError(
                    "execution-changed",
                    f"segment {self.planned.id}: its trunk has another execution ({changes}), and "
                    "continuing here would not be exact; pass --accept-execution-change to "
                    "continue and record the change, or finish it where it began",
                    segment=self.planned.id,
                    changes=list(differences),
                )
            home.note(f"execution changed before segment {self.planned.id}: {changes}")
            home.set_execution(now.model_dump())
        return now

    def _save_stop(self, step: int) -> None:
        """Save the stop's checkpoint; without moments if no branch starts from it."""
        with self.overhead.timing("checkpoint_seconds"):
            self._save(self.folder.checkpoint(step), with_optimizer=step in self.planned.forks)
            self.folder.recall(step)  # no longer freed
            self.folder.drop_resume(up_to=step)
        self._just_saved = step

    def _save(self, folder: Path, *, with_optimizer: bool = True) -> None:
        overhead = dict(self.overhead.seconds)
        checkpoint.save(self.state, folder, with_optimizer=with_optimizer, overhead=overhead)

    def _measure(self, step: int) -> None:
        with self.overhead.timing("evaluation_seconds"):
            self.evaluator.measure(step, self.step)

    def _finish(self) -> Progress:
        """Measure missing validation losses, then write the record."""
        step, seconds = self.state.step, self.state.seconds
        for stop in self.stops:
            if self.folder.has_checkpoint(stop) and self.evaluator.lacking(stop):
                source = self.folder.checkpoint(stop)
                try:
                    checkpoint.load(self.state, source)
                except checkpoint.Damaged as damaged:
                    self._discard(source, f"{damaged}; removed, its updates are done again")
                    self.outcome = None
                    self._prepare()
                    return Progress(event="saved", step=self.state.step)
                self._measure(stop)
        before = self.folder.record or {}
        reached = max(step, before.get("reached", 0))
        rows = rows_at(self.segment, reached)
        record = {
            "segment": self.planned.id,
            "outcome": self.outcome or "finished",
            "reached": reached,
            "seconds": max(seconds, before.get("seconds", 0.0)),
            **self.overhead.seconds,
            "epochs": self.context.stream(self.segment).epochs(rows),
            "execution": self.step.execution.model_dump(),
            "curve": self.folder.curve_seal(),
            "written": time.time(),
        }
        if all(before.get(key) == record[key] for key in ("outcome", "reached")):
            record = before | {"curve": record["curve"]}  # only the curve was rebuilt
        if record != before:
            self.folder.finish(record)
        self.folder.drop_resume(up_to=reached)
        return Progress(event="done", step=reached, outcome=record["outcome"])


def fail(folder: SegmentFolder, problem: BaseException | str) -> None:
    """Record that a segment was given up; the same command tries it again.

    The progress in an earlier record, made for another study, is kept.
    """
    text = (
        problem
        if isinstance(problem, str)
        else "".join(traceback.format_exception(problem)).strip()
    )
    new = {"outcome": "failed", "error": text[-4000:], "written": time.time()}
    folder.finish({"segment": folder.root.name, "reached": 0} | (folder.record or {}) | new)
