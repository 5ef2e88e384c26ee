"""Removing checkpoints and scratch files that nobody needs: `gc`, and `retain: last`.

A fork serves the branches planned from it, by every study of the store. Once all of them have
ended, the fork only saves time: a branch that is added later makes its trunk replay up to there, to
the same bits. A trunk's last fork stays, because a longer horizon continues from it.

`gc` considers the segments of one study and those that no study plans any more. It never touches
what a live process holds. No result is lost: what is freed can be recomputed, to the same bits, for
the FLOPs that `gc` prints.
"""

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from windtunnel.config import Branch, Segment, Trunk
from windtunnel.config.segment import flops_per_update
from windtunnel.data.artifacts import abandoned
from windtunnel.errors import StoreError
from windtunnel.runs.completion import WantedSet, missing_stops, outcome_of
from windtunnel.runs.curves import reaches
from windtunnel.runs.files import is_scratch, read_json
from windtunnel.runs.json_schema import Schema
from windtunnel.runs.lease import STALE_SECONDS, LeaseHeld, holder
from windtunnel.runs.plan import Plan, PlannedSegment
from windtunnel.runs.store import SegmentFolder, Store
from windtunnel.runs.study import Study


def clear_scratch_files(store: Store, study: Path, segment_ids: Iterable[str]) -> None:
    """Remove scratch files of finished segments and of the study's own folder, under its lease.

    A segment without a record is cleaned by the run that continues it. Other commands may be
    writing in the study's folder, so only files minutes older than our lease are removed.
    """
    for segment_id in segment_ids:
        folder = store.segment(segment_id)
        if _has_scratch_files(folder):
            with suppress(LeaseHeld), folder.lease():
                folder.clear_scratch()
                folder.drop_resume(up_to=(folder.record or {}).get("reached", 0))
    now = (study / "lease.json").stat().st_mtime
    for entry in study.iterdir():
        with suppress(FileNotFoundError):
            if is_scratch(entry) and abs(now - entry.stat().st_mtime) > STALE_SECONDS:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _has_scratch_files(folder: SegmentFolder) -> bool:
    if not (folder.root / "record.json").exists():
        return False
    if folder.lease_file.exists():
        return True
    places = [p for p in (folder.root, folder.checkpoints, folder.resume) if p.is_dir()]
    return any(is_scratch(entry) for place in places for entry in place.iterdir()) or any(
        folder.resume.glob("[0-9]*")
    )


PLAN_FILE = "plan.json"
PLAN: Schema[Plan] = Schema(
    TypeAdapter(Plan), "run `windtunnel sweep` on that study's file once, which writes it again"
)


class Needs:
    """The branches planned from every fork, and the update at which each segment ends."""

    def __init__(self, segments: Iterable[PlannedSegment] = ()) -> None:
        self.ends: dict[str, int] = {}
        self._branches: dict[tuple[str, int], list[PlannedSegment]] = defaultdict(list)
        self.add(segments)

    def add(self, segments: Iterable[PlannedSegment]) -> None:
        """Add further plans, or longer ones."""
        for planned in segments:
            self.ends[planned.id] = max(planned.end, self.ends.get(planned.id, 0))
            if isinstance(planned.segment, Branch):
                start = planned.segment.parent.id, planned.segment.fork_step
                self._branches[start].append(planned)

    def some_wait(self, store: Store, parent: str, fork: int) -> bool:
        """Whether an unfinished branch starts from a fork."""
        return any(not has_ended(store, each) for each in self._branches.get((parent, fork), ()))


def needs_of_others(store: Store, study: str) -> Needs:
    """The needs of every study but one, from the plans that their last sweeps wrote.

    Raises:
        StoreError: A study has been swept and left no plan, or a damaged one, so what it needs is
            unknown.
    """
    needs = Needs()
    for orders in sorted((store.root / "studies").glob("*/orders.json")):
        if orders.parent.name == study:
            continue
        written = read_json(orders.parent / PLAN_FILE, PLAN)
        if written is None:
            raise StoreError(
                "missing-file",
                f"{orders.parent}: what this study still needs is unknown, for it has no "
                f"{PLAN_FILE}; run `windtunnel sweep` on its file once, or remove the folder",
                file=orders.parent / PLAN_FILE,
                study=orders.parent.name,
            )
        needs.add(written.segments)
    return needs


def has_ended(
    store: Store, planned: PlannedSegment, wanted: dict[str, WantedSet] | None = None
) -> bool:
    """Whether a segment needs no further training."""
    folder = store.segment(planned.id)
    outcome = outcome_of(folder.record, planned)
    if outcome == "finished":
        whole = reaches(folder.curve, planned.end)
        return whole and not missing_stops(folder, planned, wanted or {})
    return outcome == "diverged"


def done_forks(store: Store, folder: SegmentFolder, *needs: Needs) -> list[int]:
    """Measured forks whose branches have all ended, except a trunk's last."""
    trunk, saved = folder.root.name, folder.saved_steps()
    last = {*saved[-1:], *(each.ends.get(trunk) for each in needs)}
    measured = folder.measurements
    return [
        step
        for step in saved
        if step not in last
        and measured.get(step)
        and not any(each.some_wait(store, trunk, step) for each in needs)
    ]


class RetainLast:
    """`retain: last`: a fork is freed as soon as the last branch planned from it has ended."""

    def __init__(self, store: Store, study: str, segments: Iterable[PlannedSegment]) -> None:
        self.store, self.study = store, study
        self.needs = Needs(segments)
        self._others = Needs()
        self._others_written: dict[str, int] | None = None

    def ended(self, planned: PlannedSegment) -> None:
        """Free the forks that only this segment still needed."""
        segment = planned.segment
        trunk = segment.parent.id if isinstance(segment, Branch) else planned.id
        folder = self.store.segment(trunk)
        if not done_forks(self.store, folder, self.needs):
            return
        try:
            self._ask_others()
        except StoreError:  # a fork of unknown use stays; `gc` says why
            return
        for step in done_forks(self.store, folder, self.needs, self._others):
            folder.release(step, why="retain: last")

    def _ask_others(self) -> None:
        """Read the plans of the other studies if one has changed since."""
        plans = (self.store.root / "studies").glob(f"*/{PLAN_FILE}")
        written = {str(path): path.stat().st_mtime_ns for path in plans}
        if written != self._others_written:
            self._others = needs_of_others(self.store, self.study)
            self._others_written = written


def wanted_back(
    store: Store, segments: Iterable[PlannedSegment], wanted: dict[str, WantedSet]
) -> Iterator[tuple[SegmentFolder, int]]:
    """Freed forks that a planned branch still has to start from, and those up its path."""
    has_released: dict[str, bool] = {}
    again: set[str] = set()
    for planned in reversed(list(segments)):  # children first, because they may need a parent again
        if not isinstance(planned.segment, Branch):
            continue
        parent, fork = planned.segment.parent.id, planned.segment.fork_step
        folder = store.segment(parent)
        if parent not in has_released:
            has_released[parent] = folder.has_released
        if (
            has_released[parent]
            and folder.is_released(fork)
            and (planned.id in again or not has_ended(store, planned, wanted))
        ):
            again.add(parent)
            yield folder, fork


Kind = Literal["forks", "resume", "scratch", "unfinished", "last forks", "ends"]

KINDS: dict[Kind, str] = {
    "forks": "forks whose planned branches have all ended",
    "resume": "resume checkpoints of segments that have ended or that no study plans",
    "scratch": "left half written by killed processes",
    "unfinished": "folders that killed preparations and calibrations left",
    "last forks": "a trunk's last fork, from which a longer horizon continues",
    "ends": "weights at the ends of branches, on which a new validation set is measured",
}

USUAL: tuple[Kind, ...] = ("forks", "resume", "scratch", "unfinished")
"""What is removed by default."""


CALIBRATION_SCRATCH = ".calibration."
OLD_SECONDS = 3600.0
"""Age from which a temporary file in a study's folder counts as abandoned (assumed: none lives
longer)."""


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """One removable item. `flops` is the cost of recomputing it; 0 where nobody would.

    An item that belongs to no segment has no segment id.
    """

    kind: Kind
    segment: str
    path: Path
    bytes: int
    step: int = 0
    flops: float = 0.0


def find_garbage(study: Study) -> tuple[list[Garbage], list[str]]:
    """Everything removable, and the ids of the segments skipped because they are in use.

    Raises:
        StoreError: What another study of the store needs is unknown.
    """
    store = study.store
    mine, theirs = Needs(study.plan.segments), needs_of_others(store, study.config.study)
    items = [
        Garbage(kind="unfinished", segment="", path=path, bytes=bytes_in(path))
        for path in (*abandoned(store.data), *_old_scratch(study.folder))
    ]
    in_use = []
    for segment_id in store.segment_ids():
        if segment_id in theirs.ends and segment_id not in mine.ends:
            continue
        folder = store.segment(segment_id)
        if holder(folder.lease_file) is not None:
            in_use.append(segment_id)
            continue
        planned = segment_id in mine.ends
        items.extend(_of_segment(store, folder, mine, theirs, planned=planned))
    return items, in_use


def free(store: Store, garbage: Iterable[Garbage]) -> tuple[int, list[str]]:
    """Free the items; the bytes freed, and the segments skipped because they came into use.

    Raises:
        StoreError: The store cannot be written.
    """
    by_segment: dict[str, list[Garbage]] = {}
    for each in garbage:
        by_segment.setdefault(each.segment, []).append(each)
    freed, left = 0, []
    for each in by_segment.pop("", ()):
        _remove(each.path)
        freed += each.bytes
    for segment_id, items in by_segment.items():
        folder = store.segment(segment_id)
        try:
            with folder.lease():
                for each in items:
                    _free(folder, each)
                    freed += each.bytes
        except LeaseHeld:
            left.append(segment_id)
    return freed, left


def bytes_in(path: Path | str) -> int:
    """Bytes of a file, or of all files in a folder; a file removed meanwhile counts as 0."""
    with suppress(FileNotFoundError):
        try:
            entries = os.scandir(path)  # a store has many files: no Path for each
        except NotADirectoryError:
            return os.lstat(path).st_size
        with entries:
            return sum(
                bytes_in(entry.path)
                if entry.is_dir(follow_symlinks=False)
                else entry.stat(follow_symlinks=False).st_size
                for entry in entries
            )
    return 0


def _old_scratch(study: Path) -> Iterator[Path]:
    """Scratch files that killed commands left in a study's folder."""
    for path in sorted(study.iterdir()) if study.is_dir() else ():
        if is_scratch(path) or path.name.startswith(CALIBRATION_SCRATCH):
            with suppress(FileNotFoundError):
                if abs(time.time() - path.stat().st_mtime) > OLD_SECONDS:
                    yield path


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _of_segment(
    store: Store, folder: SegmentFolder, mine: Needs, theirs: Needs, *, planned: bool
) -> Iterator[Garbage]:
    segment = folder.spec
    if segment is None:  # removed meanwhile
        return
    record = folder.record or {}
    over = record.get("outcome") in {"finished", "diverged"}
    yield from _checkpoints(store, folder, segment, mine, theirs, over=over)
    reached = record["reached"] if over else 0
    for step, path in folder.resume_steps():
        if step <= reached or not planned:
            yield Garbage(
                kind="resume", segment=segment.id, path=path, bytes=bytes_in(path), step=step
            )
    for place in (folder.root, folder.checkpoints, folder.resume):
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            if is_scratch(path) and not path.name.startswith(".lease."):
                yield Garbage(kind="scratch", segment=segment.id, path=path, bytes=bytes_in(path))


def _checkpoints(
    store: Store,
    folder: SegmentFolder,
    segment: Segment,
    mine: Needs,
    theirs: Needs,
    *,
    over: bool,
) -> Iterator[Garbage]:
    """Checkpoints in order of their updates, each with its cost from the one before."""
    is_trunk = isinstance(segment, Trunk)
    per_update = float(flops_per_update(segment))
    done = set(done_forks(store, folder, mine, theirs)) if is_trunk else set()
    measured = folder.measurements
    before = segment.fork_step
    for step in folder.saved_steps():
        kind: Kind | None = None
        if step in done:
            kind = "forks"
        elif over and measured.get(step):
            waited_for = any(n.some_wait(store, segment.id, step) for n in (mine, theirs))
            kind = None if waited_for else "last forks" if is_trunk else "ends"
        if kind is not None:
            path = folder.checkpoint(step)
            yield Garbage(
                kind=kind,
                segment=segment.id,
                path=path,
                bytes=bytes_in(path),
                step=step,
                flops=(step - before) * per_update,
            )
        before = step


def _free(folder: SegmentFolder, garbage: Garbage) -> None:
    match garbage.kind:
        case "forks" | "last forks" | "ends":
            folder.release(garbage.step, why="gc")
        case "resume":
            shutil.rmtree(garbage.path, ignore_errors=True)
        case "scratch":
            folder.clear_scratch()
