"""Progress of a study, read from the store alone: what `status` and the live view show."""

import os
from dataclasses import dataclass
from typing import Any

from windtunnel.config import Branch
from windtunnel.config.segment import flops_per_update
from windtunnel.errors import StoreError
from windtunnel.runs.completion import is_complete
from windtunnel.runs.files import checked_rows
from windtunnel.runs.lease import holder, quiet_seconds
from windtunnel.runs.plan import Plan, PlannedSegment
from windtunnel.runs.schemas import CURVE_ROW
from windtunnel.runs.study import Study

TAIL_BYTES = 4096

PARTS = {
    "training": "seconds",
    "evaluation": "evaluation_seconds",
    "checkpoints": "checkpoint_seconds",
}
"""Parts of a segment's seconds in its record."""


@dataclass(frozen=True, kw_only=True)
class SegmentProgress:
    """Progress and speed of one segment.

    `quiet_seconds`: seconds since the last update or evaluation batch of a running segment, to 5 s.
    """

    segment: str
    name: str
    status: str
    step: int
    end: int
    loss: float | None
    tokens_per_second: float | None
    quiet_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class StudyProgress:
    """All segments, and the finished and planned training FLOPs (attention and head included).

    `seconds` has training, evaluation and checkpoints, summed over the segments whose record has
    them. Parallel trials each count. It is empty before the first record.
    """

    segments: tuple[SegmentProgress, ...]
    flops_done: float
    flops_planned: float
    seconds: dict[str, float]

    def count(self, status: str) -> int:
        """Number of segments with a status."""
        return sum(each.status == status for each in self.segments)

    @property
    def ended(self) -> set[str]:
        """Ids of the segments that finished or diverged."""
        return {each.segment for each in self.segments if each.status in {"finished", "diverged"}}

    @property
    def running(self) -> tuple[SegmentProgress, ...]:
        """The running segments."""
        return tuple(each for each in self.segments if each.status == "running")


class Watch:
    """Progress read repeatedly: only segments that are started and unfinished are read again."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._wanted = study.wanted
        self._seen: dict[str, SegmentProgress] = {}
        self._parts: dict[str, dict[str, float]] = {}

    def read(self, plan: Plan | None = None) -> StudyProgress:
        """The progress now, from every segment's record or the end of its curve.

        `plan` is the study's current plan, which a search may have extended.
        """
        begun = self.study.store.begun()
        done = planned_flops = 0.0
        for planned in (plan or self.study.plan).segments:
            seen = self._seen.get(planned.id)
            if seen is None or seen.end != planned.end:
                self._seen[planned.id] = _unbegun(planned)
            if planned.id in begun and self._seen[planned.id].status != "finished":
                self._look(planned)
            updates = self._seen[planned.id].step - planned.segment.fork_step
            per_step = flops_per_update(planned.segment)
            planned_flops += planned.steps * per_step
            done += max(0, min(updates, planned.steps)) * per_step
        seconds: dict[str, float] = {}
        for parts in self._parts.values():
            for part, spent in parts.items():
                seconds[part] = seconds.get(part, 0.0) + spent
        return StudyProgress(
            segments=tuple(self._seen.values()),
            flops_done=done,
            flops_planned=planned_flops,
            seconds=seconds,
        )

    def _look(self, planned: PlannedSegment) -> None:
        record = self.study.store.segment(planned.id).record
        complete = is_complete(self.study.store, planned, self._wanted)
        self._seen[planned.id] = _segment(self.study, planned, record, complete=complete)
        self._parts[planned.id] = _parts(record or {})


def study_progress(study: Study) -> StudyProgress:
    """The progress of the study now."""
    return Watch(study).read()


def _unbegun(planned: PlannedSegment) -> SegmentProgress:
    return SegmentProgress(
        segment=planned.id,
        name=name_of(planned),
        status="waiting",
        step=planned.segment.fork_step,
        end=planned.end,
        loss=None,
        tokens_per_second=None,
    )


def name_of(planned: PlannedSegment) -> str:
    """A segment's name for people: 64x3 seed 0, trunk."""
    label = planned.labels[0]
    part = "trunk"
    if isinstance(planned.segment, Branch):
        part = " ".join(filter(None, (planned.variant, label.horizon)))
    return f"{planned.segment.model.size} seed {label.seed}, {part}"


def _parts(record: dict[str, Any]) -> dict[str, float]:
    """Seconds of a record by part; empty where it has none."""
    if not all(key in record for key in PARTS.values()):
        return {}
    return {part: record[key] for part, key in PARTS.items()}


def _segment(
    study: Study, planned: PlannedSegment, record: dict[str, Any] | None, *, complete: bool
) -> SegmentProgress:
    folder = study.store.segment(planned.id)
    outcome = (record or {}).get("outcome")
    if complete:
        status, step = "finished", planned.end
    elif holder(folder.lease_file) is not None:
        status, step = "running", planned.segment.fork_step
    elif outcome in {"diverged", "failed"}:
        status, step = str(outcome), (record or {}).get("reached", 0)
    else:
        status, step = "waiting", planned.segment.fork_step
    tail = [] if complete else known_tail(folder.curve)
    rate = None
    if len(tail) > 1:
        tokens = tail[-1]["tokens"] - tail[0]["tokens"]
        seconds = tail[-1].get("seconds", 0.0) - tail[0].get("seconds", 0.0)
        rate = tokens / seconds if seconds > 0 else None
    return SegmentProgress(
        segment=planned.id,
        name=name_of(planned),
        status=status,
        step=max(step, tail[-1]["step"] if tail else 0),
        end=planned.end,
        loss=tail[-1]["loss"] if tail else None,
        tokens_per_second=rate,
        quiet_seconds=quiet_seconds(folder.lease_file) if status == "running" else None,
    )


def known_tail(path: Any, *, most: int = 0) -> list[dict[str, Any]]:
    """As `curve_tail`, but empty where the end is damaged; `curves` repairs that."""
    try:
        return curve_tail(path, most=most)
    except StoreError:
        return []


def curve_tail(path: Any, *, most: int = 0) -> list[dict[str, Any]]:
    """The last rows of a curve that may be growing, without a torn line at either end.

    `most`: how many rows; by default all in one read of the file's end.

    Raises:
        StoreError: One of them is damaged.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().split(b"\n")
    except OSError:  # missing or unreadable: its own run reports that
        return []
    whole = lines[1:-1] if size > TAIL_BYTES else lines[:-1]
    return checked_rows(path, whole[-most:], CURVE_ROW)
