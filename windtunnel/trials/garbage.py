"""What `gc` may free of a store: which checkpoints and leftovers, how large, and what they cost.

Looked at are the segments of one study and those that no study plans any more. What a live process
holds is left alone. Nothing here loses a result; what is freed can be computed again, to the same
bits, for the FLOPs that are said.
"""

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from windtunnel.data.folders import abandoned
from windtunnel.spec import Segment, Trunk
from windtunnel.spec.path import flops_per_update
from windtunnel.trials.json_file import is_scratch
from windtunnel.trials.lease import LeaseHeld, holder
from windtunnel.trials.retention import Needs, done_forks, needs_of_others
from windtunnel.trials.store import SegmentFolder, Store
from windtunnel.trials.study import Study

Kind = Literal["forks", "resume", "scratch", "unfinished", "last forks", "ends"]

KINDS: dict[Kind, str] = {
    "forks": "forks whose planned branches have all ended",
    "resume": "checkpoints to go on from, of segments that have ended or that no study plans",
    "scratch": "left half written by killed processes",
    "unfinished": "folders that killed preparations and calibrations left",
    "last forks": "a trunk's last fork, from which a longer horizon goes on",
    "ends": "weights at the ends of branches, on which a new validation set is measured",
}

USUAL: tuple[Kind, ...] = ("forks", "resume", "scratch", "unfinished")
"""What goes unless more is asked for."""


CALIBRATION_SCRATCH = ".calibration."
OLD_SECONDS = 3600.0
"""Age from which a temporary file of a study's folder is left over (assumed: none lives longer)."""


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """One thing that may go. `flops` is what making it again takes; 0 where nobody would.

    What no segment has left has none.
    """

    kind: Kind
    segment: str
    path: Path
    bytes: int
    step: int = 0
    flops: float = 0.0


def find_garbage(study: Study) -> tuple[list[Garbage], list[str]]:
    """Everything that may go, and the ids of the segments left alone because they are in use.

    Raises:
        StoreError: What another study of the store needs is unknown.
    """
    store = study.store
    mine, theirs = Needs(study.plan.segments), needs_of_others(store, study.config.study)
    found = [
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
        found.extend(_of_segment(store, folder, mine, theirs, planned=planned))
    return found, in_use


def free(store: Store, garbage: Iterable[Garbage]) -> tuple[int, list[str]]:
    """Free it; the bytes freed, and the segments that have come into use meanwhile and were left.

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
    """Bytes of a file, or of all files in a folder; what is removed meanwhile counts nothing."""
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
    """What commands that were killed left in a study's folder; others may be writing just now."""
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
    """In order of their updates, so that each says what it takes from the one before."""
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
