"""The store: the folder on disk that is the source of truth.

Each segment has one folder:

    segments/<id>/spec.json            what it is
                  execution.json       how it is computed, decided once
                  curve.jsonl          one row per update; survives kill -9
                  dynamics.jsonl       gradients and steps, if the study records them
                  routing.jsonl        of a mixture of experts: load and routers, by layer
                  measurements.json    losses per validation set, by update; at the end a copy gain
                  checkpoints/<step>/  weights, moments, checksums, at forks and ends
                  resume/<step>/       the same, only for a resume after a crash
                  released/<step>.json why a checkpoint was freed on purpose
                  record.json          written last, by rename: it exists only when finished

Beside `segments/` lie `data/`, `studies/`, `tracking/` (the lease of the MLflow mirror) and
`store.json`, which holds the format of all of it and the store's own id.
Paths are confined to the root: ids are hex digits and names are checked before they become paths.
"""

import os
import re
import shutil
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from windtunnel.config import Segment
from windtunnel.errors import StoreError, cannot_write
from windtunnel.runs.files import (
    append_line,
    is_scratch,
    json_rows,
    read_json,
    read_lines,
    whole_steps,
    write_json,
)
from windtunnel.runs.lease import Lease
from windtunnel.runs.schemas import (
    CURVE_ROW,
    DYNAMICS_ROW,
    EXECUTION,
    FORMAT_FILE,
    MEASUREMENTS,
    NOTE,
    RECORD,
    ROUTING_ROW,
    SPEC,
)
from windtunnel.version import __version__

FORMAT = 2
"""Raised when an earlier version can no longer read the files.

2: JSON files end in a checksum, and records hold that of their curve."""

DYNAMICS, ROUTING = "dynamics.jsonl", "routing.jsonl"
MOMENTS = "optimizer.safetensors"
"""The file of a checkpoint without which training cannot continue from it (train/checkpoint.py)."""


class SegmentFolder:
    """The files of one segment."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def curve(self) -> Path:
        """The training curve: one row per update."""
        return self.root / "curve.jsonl"

    @property
    def dynamics(self) -> Path:
        """The dynamics, if a study records them: one row every few updates."""
        return self.root / DYNAMICS

    @property
    def routing(self) -> Path:
        """The routing of a mixture of experts: one row every few updates."""
        return self.root / ROUTING

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints at forks and ends."""
        return self.root / "checkpoints"

    @property
    def resume(self) -> Path:
        """Folder of the checkpoints that only serve a resume."""
        return self.root / "resume"

    @property
    def lease_file(self) -> Path:
        """The file that names the process with the right to write here."""
        return self.root / "lease.json"

    def lease(self, work: Callable[[], object] | None = None) -> Lease:
        """The right to write here; `work` as of a `Lease`."""
        return Lease(self.lease_file, what=f"segment {self.root.name}", work=work)

    def create(self, segment: Segment) -> None:
        """Make the folder and write the segment's spec."""
        if not (self.root / "spec.json").exists():
            write_json(self.root / "spec.json", segment.model_dump(mode="json"))

    @property
    def spec(self) -> Segment | None:
        """The segment in this folder; None before it was created.

        Raises:
            StoreError: It is damaged, or is another segment.
        """
        path = self.root / "spec.json"
        spec = read_json(path, SPEC)
        if spec is not None and spec.id != self.root.name:
            raise StoreError(
                "edited",
                f"{path}: it describes segment {spec.id} in the folder of another: it was edited; "
                f"{SPEC.fix}",
                file=path,
                segment=spec.id,
                expected=self.root.name,
            )
        return spec

    @property
    def record(self) -> dict[str, Any] | None:
        """The record of a finished segment: outcome, reached, seconds of its parts, error, written.

        Raises:
            StoreError: It is damaged, or that of another segment.
        """
        path = self.root / "record.json"
        record = read_json(path, RECORD)
        if record is not None and record.get("segment", self.root.name) != self.root.name:
            raise StoreError(
                "edited",
                f"{path}: segment: {record['segment']!r:.60}, expected {self.root.name!r}: it is "
                f"the record of another segment; {RECORD.fix}",
                file=path,
                segment=record["segment"],
                expected=self.root.name,
            )
        return record

    def finish(self, record: dict[str, Any]) -> None:
        """Write the record."""
        write_json(self.root / "record.json", record)

    @property
    def execution(self) -> dict[str, Any] | None:
        """The execution record, once decided."""
        return read_json(self.root / "execution.json", EXECUTION)

    def set_execution(self, execution: dict[str, Any]) -> None:
        """Set the execution record, or replace it after an accepted change."""
        write_json(self.root / "execution.json", execution)

    @property
    def measurements(self) -> dict[int, dict[str, Any]]:
        """Step -> validation set -> losses, and of one set at the end its copy gain (`schemas`)."""
        measurements = read_json(self.root / "measurements.json", MEASUREMENTS) or {}
        return {int(step): sets for step, sets in measurements.items()}

    def add_measurement(self, step: int, sets: dict[str, Any]) -> None:
        """Merge losses measured at `step`."""
        known = self.measurements
        known[step] = known.get(step, {}) | sets
        write_json(self.root / "measurements.json", {str(s): known[s] for s in sorted(known)})

    def checkpoint(self, step: int) -> Path:
        """Folder of the checkpoint after `step` updates."""
        return self.checkpoints / f"{step:09d}"

    def has_checkpoint(self, step: int, *, moments: bool = False) -> bool:
        """Whether there is a checkpoint at `step`; damage shows only when it is read.

        `moments`: whether it must have those of the optimizer, without which training cannot
        continue.
        """
        folder = self.checkpoint(step)
        return (folder / MOMENTS).exists() if moments else folder.is_dir()

    def is_released(self, step: int) -> bool:
        """Whether the checkpoint at `step` was freed on purpose, so its loss loses no result."""
        return self._release_mark(step).exists() and not self.has_checkpoint(step)

    def release(self, step: int, *, why: str) -> None:
        """Free the checkpoint at `step`, after a note that this is on purpose."""
        write_json(self._release_mark(step), {"why": why, "time": time.time()})
        freed = self.checkpoint(step).with_name(f".{step:09d}.{uuid.uuid4().hex[:8]}")
        with suppress(FileNotFoundError):
            self.checkpoint(step).rename(freed)
        shutil.rmtree(freed, ignore_errors=True)

    def recall(self, step: int) -> None:
        """Request a freed checkpoint again: it counts as missing and is recomputed."""
        self._release_mark(step).unlink(missing_ok=True)

    @property
    def has_released(self) -> bool:
        """Whether any checkpoint was ever freed here."""
        return (self.root / "released").is_dir()

    def _release_mark(self, step: int) -> Path:
        return self.root / "released" / f"{step:09d}.json"

    def saved_steps(self) -> list[int]:
        """Updates with a checkpoint at a fork or an end, in order."""
        return sorted(step for step, _ in _steps(self.checkpoints))

    def every_step(self) -> list[int]:
        """Updates with any checkpoint."""
        return [step for step, _ in (*_steps(self.checkpoints), *_steps(self.resume))]

    def resume_steps(self) -> list[tuple[int, Path]]:
        """Updates of the checkpoints that only serve a resume."""
        return _steps(self.resume)

    def save_resume(self, step: int, save: Callable[[Path], None]) -> None:
        """Save a checkpoint that only serves a resume, and remove the one before."""
        save(self.resume / f"{step:09d}")
        self.drop_resume(up_to=step - 1)

    def drop_resume(self, *, up_to: int) -> None:
        """Remove the resume checkpoints at or before `up_to`."""
        for step, folder in _steps(self.resume):
            if step <= up_to:
                shutil.rmtree(folder, ignore_errors=True)

    def resumable(self, step: int) -> list[Path]:
        """Checkpoints at or before `step`, the latest first."""
        checkpoints = [*_steps(self.checkpoints), *_steps(self.resume)]
        return [folder for at, folder in sorted(checkpoints, reverse=True) if at <= step]

    def note(self, text: str) -> None:
        """Append a dated line about a problem that was repaired."""
        append_line(self.root / "notes.jsonl", {"time": time.time(), "note": text})

    def last_note(self) -> str | None:
        """The latest note, if any."""
        notes = self.notes()
        return str(notes[-1]["note"]) if notes else None

    def notes(self) -> list[dict[str, Any]]:
        """Every `{time, note}`, oldest first.

        Raises:
            StoreError: A line is damaged.
        """
        return read_lines(self.root / "notes.jsonl", NOTE)

    def curve_rows(self) -> Iterator[dict[str, Any]]:
        """Whole rows of the curve; a torn last line is left out."""
        return json_rows(self.curve, CURVE_ROW)

    def dynamics_rows(self) -> Iterator[dict[str, Any]]:
        """Whole rows of the dynamics; empty if no study records them."""
        return json_rows(self.dynamics, DYNAMICS_ROW)

    def routing_rows(self) -> Iterator[dict[str, Any]]:
        """Whole rows of the routing; empty of a dense model."""
        return json_rows(self.routing, ROUTING_ROW)

    def curve_end(self, begin: int) -> int:
        """The last update up to which the curve has every row from `begin` on, in order."""
        end = begin
        for step, _ in whole_steps(self.curve):
            if step != end + 1:
                break
            end = step
        return end

    def truncate_curve(self, step: int, *, dynamics: bool = True) -> None:
        """Keep the rows of the first `step` updates; a resume writes the later ones again.

        Without `dynamics` it writes no dynamics, and the existing ones stay: the updates are the
        same.
        """
        for path in (self.curve, self.routing, *((self.dynamics,) if dynamics else ())):
            if path.exists():
                size = max((b for at, b in whole_steps(path) if at <= step), default=0)
                if path == self.curve:
                    self.unseal_curve(beyond=size)
                os.truncate(path, size)

    def curve_seal(self) -> dict[str, int]:
        """Bytes and CRC-32 of the curve, for its record."""
        content = self.curve.read_bytes() if self.curve.exists() else b""
        return {"bytes": len(content), "crc32": zlib.crc32(content)}

    def unseal_curve(self, *, beyond: int) -> None:
        """Remove the record's checksum of a curve that will be cut to `beyond` bytes."""
        record = self.record or {}
        if record.get("curve", {"bytes": 0})["bytes"] > beyond:
            self.finish({key: value for key, value in record.items() if key != "curve"})

    def clear_scratch(self) -> None:
        """Remove half-written files of killed writers; only for the holder of the lease."""
        for place in (self.root, self.checkpoints, self.resume):
            for entry in place.iterdir() if place.is_dir() else ():
                if not is_scratch(entry) or entry.name.startswith(".lease."):
                    continue  # another process may be acquiring the lease
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)


class Store:
    """A folder that many studies, drivers and workers share."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.data = self.root / "data"
        self.segments = self.root / "segments"

    def check_format(self) -> None:
        """Check that this version reads the store.

        Raises:
            StoreError: The store has a later format, or its file is damaged.
        """
        path = self.root / "store.json"
        version = self._format()
        if version > FORMAT:
            raise StoreError(
                "later-version",
                f"{path}: the store has format {version}, and this version of windtunnel "
                f"({__version__}) reads {FORMAT}: update windtunnel, or name another `store:`",
                file=path,
                format=version,
                reads=FORMAT,
                version=__version__,
            )

    @property
    def id(self) -> str | None:
        """32 hex digits, by which MLflow knows the store; None of stores of earlier versions."""
        return (read_json(self.root / "store.json", FORMAT_FILE) or {}).get("id")

    def _format(self) -> int:
        """The store's format; 0 where none was written, as in the first version."""
        entry = read_json(self.root / "store.json", FORMAT_FILE) or {"format": 0}
        return int(entry["format"])

    def open_for_writing(self) -> None:
        """Make the folder and write its format; earlier formats are read too.

        Raises:
            StoreError: It cannot be written, or is of a later format.
        """
        probe = self.root / ".probe"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"windtunnel")
        except OSError as refused:
            raise cannot_write(self.root, refused, "the store cannot be written") from None
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)
        self.check_format()
        if self._format() < FORMAT:
            entry = {"format": FORMAT, "windtunnel": __version__}
            if not self.segments.exists():  # an earlier store keeps its runs in MLflow
                entry["id"] = uuid.uuid4().hex
            write_json(self.root / "store.json", entry)

    def segment(self, segment_id: str) -> SegmentFolder:
        """The folder of one segment."""
        if not re.fullmatch(r"[0-9a-f]{16}", segment_id):
            raise StoreError(
                "bad-id",
                f"{segment_id!r} is not a segment id, which has 16 hex digits",
                segment=segment_id,
            )
        return SegmentFolder(self.segments / segment_id)

    def segment_ids(self) -> list[str]:
        """Ids of the segments that have a folder."""
        return sorted(p.parent.name for p in self.segments.glob("*/spec.json"))

    def begun(self) -> set[str]:
        """Ids of the segments that have been started, by one directory listing."""
        try:
            return {folder.name for folder in self.segments.iterdir()}
        except FileNotFoundError:
            return set()

    def study(self, name: str) -> Path:
        """The folder of one study: its plan, data lock, forecasts, fits and report."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise StoreError(
                "bad-name",
                f"{name!r} is not a study name: letters, digits, '.', '_' and '-'",
                study=name,
            )
        return self.root / "studies" / name


def _steps(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    return [(int(entry.name), entry) for entry in folder.iterdir() if entry.name.isdecimal()]
