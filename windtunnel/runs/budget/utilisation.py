"""Utilisation of the slots by past sweeps, and actual against predicted seconds."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windtunnel.runs.budget.throughput import Throughput
from windtunnel.runs.files import append_line, undamaged_lines
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.schemas import SWEEP
from windtunnel.runs.study import Study

FILE = "sweeps.jsonl"


@dataclass(frozen=True, kw_only=True)
class SweepTook:
    """One sweep of a study.

    Attributes:
        began: Unix time.
        startup: Seconds until the first segment started; not in `seconds`.
        seconds: From then until the last segment ended.
        slots: Parallel segments.
        segments: Number of segments started or continued.
        busy: Summed seconds of their training, evaluations and checkpoints.
        bound: Lower bound in seconds for these segments on these slots.
    """

    began: float
    startup: float
    seconds: float
    slots: int
    segments: int
    busy: float
    bound: float


@dataclass(frozen=True, kw_only=True)
class Utilisation:
    """Busy share of the slots' time over several sweeps: achieved, and the best possible.

    `seconds` are those of the sweeps, `best` the lower bound of any schedule.
    """

    reached: float
    bound: float
    seconds: float
    best: float
    sweeps: int
    segments: int


def log_sweep(folder: Path, took: SweepTook) -> None:
    """Append a sweep to its study's log."""
    append_line(folder / FILE, vars(took))


def utilisation(folder: Path) -> Utilisation | None:
    """Utilisation over all sweeps of a study that ran a segment; None before the first.

    A damaged line of the log is logged and skipped, because no result depends on it.

    Raises:
        StoreError: The log cannot be read.
    """
    names = SweepTook.__dataclass_fields__
    sweeps = [
        SweepTook(**{name: line[name] for name in names})
        for line in undamaged_lines(folder / FILE, SWEEP)
    ]
    busy = sum(each.busy for each in sweeps)
    offered = sum(each.slots * each.seconds for each in sweeps)
    bound = sum(each.slots * each.bound for each in sweeps)
    if not offered or not bound:
        return None
    return Utilisation(
        reached=busy / offered,
        bound=busy / bound,
        seconds=sum(each.seconds for each in sweeps),
        best=sum(each.bound for each in sweeps),
        sweeps=len(sweeps),
        segments=sum(each.segments for each in sweeps),
    )


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Predicted and actual seconds of the finished segments of one size and kind."""

    size: str
    kind: str
    segments: int
    predicted: float
    actual: float


def compared(study: Study, throughput: Throughput) -> list[Compared]:
    """Actual against predicted seconds of finished segments, in the plan's order of sizes."""
    groups: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for planned in study.plan.segments:
        took = _took(study, planned, throughput)
        if took is not None:
            groups[(planned.segment.model.size, planned.segment.kind)].append(took)
    return [
        Compared(
            size=size,
            kind=kind,
            segments=len(pairs),
            predicted=sum(predicted for predicted, _ in pairs),
            actual=sum(actual for _, actual in pairs),
        )
        for (size, kind), pairs in sorted(groups.items(), key=lambda item: item[0][1] != "trunk")
    ]


def _took(
    study: Study, planned: PlannedSegment, throughput: Throughput
) -> tuple[float, float] | None:
    """Predicted and actual seconds of a finished segment, over the updates that it ran."""
    record: dict[str, Any] = study.store.segment(planned.id).record or {}
    parts = ("seconds", "evaluation_seconds", "checkpoint_seconds")
    if record.get("outcome") != "finished" or not all(part in record for part in parts):
        return None
    updates = record["reached"] - planned.segment.fork_step
    return throughput.seconds(planned, updates), sum(float(record[part]) for part in parts)
