"""Training curves of segments: checks for damage, and averages small enough for a page.

A curve is only shown, and only laws of curves use it: losses are in `measurements.json`. A segment
with a broken curve is incomplete, so a sweep repeats the missing updates, to the same bits.
"""

import os
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from windtunnel.errors import Diagnostic, StoreError
from windtunnel.laws.table import Floats
from windtunnel.runs.files import undamaged_rows, unreadable
from windtunnel.runs.lease import LeaseHeld
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.schemas import CURVE_ROW
from windtunnel.runs.store import SegmentFolder, Store

TAIL_BYTES = 4096
_NUMBER = rb"-?\d++(?:\.\d++)?(?:[eE][-+]?\d++)?"
_VALUE = rb"(?:null|" + _NUMBER + rb")"
_ROW = rb'\{"step":\d++,"tokens":\d++,"loss":' + _VALUE + rb'(?:,"[a-z_]++":' + _VALUE + rb")*+\}\n"
_ROWS = re.compile(rb"(?:" + _ROW + rb")*+")
_STEP = re.compile(rb'\{"step": ?(\d{1,15})[,}]')
_NAMED = 3


def reaches(curve: Path, end: int) -> bool:
    """Whether the last row of a curve is of update `end` or later; reads only the file's end."""
    try:
        with curve.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            tail = file.read()
    except OSError:
        return False
    last = tail[: tail.rfind(b"\n") + 1].rstrip(b"\n").rpartition(b"\n")[2]
    match = _STEP.match(last)
    return match is not None and int(match[1]) >= end


class _Seal(NamedTuple):
    """A record's checksum of its curve: bytes, CRC-32 and last update."""

    size: int
    crc32: int
    reached: int

    def fits(self, data: bytes, rows_size: int, last_step: int) -> bool:
        """Whether whole rows of so many bytes, up to that update, can be the sealed ones.

        Fewer bytes are unknown, unless they reach as far: then a number was shortened.
        """
        if rows_size >= self.size:
            return zlib.crc32(memoryview(data)[: self.size]) == self.crc32
        return last_step < self.reached


def _seal_of(folder: SegmentFolder) -> _Seal | None:
    record = folder.record or {}
    if (seal := record.get("curve")) is None:
        return None
    return _Seal(seal["bytes"], seal["crc32"], record.get("reached", 0))


def is_broken(folder: SegmentFolder) -> bool:
    """Whether a curve has an invalid or missing line, or differs from its record's checksum.

    An incomplete last line, as a crash leaves it, is not damage.

    Raises:
        StoreError: It cannot be read.
    """
    curve = folder.curve
    try:
        status = curve.stat()
        stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        return _is_broken(curve, stamp, _seal_of(folder))
    except FileNotFoundError:
        return False
    except OSError as refused:
        raise unreadable(curve, refused) from None


@lru_cache(maxsize=1 << 16)
def _is_broken(curve: Path, stamp: tuple[int, int, int], seal: _Seal | None) -> bool:
    data = curve.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    count = whole.count(b"\n")
    if not _ROWS.fullmatch(whole):  # another version may have written them
        found = _whole_rows(curve)
        if found.rows < count:
            return True
        last_step = found.step or 0
    else:
        last_row = whole[whole.rfind(b"\n", 0, -1) + 1 :]
        first, last = _STEP.match(whole), _STEP.match(last_row)
        if first is None or last is None:
            return False  # no row
        last_step = int(last[1])
        if last_step - int(first[1]) + 1 != count:
            return True
    return seal is not None and not seal.fits(data, len(whole), last_step)


class _Whole(NamedTuple):
    """The rows before the first one that is damaged or out of sequence."""

    rows: int = 0
    step: int | None = None
    size: int = 0


def _whole_rows(curve: Path) -> _Whole:
    whole = _Whole()
    with curve.open("rb") as file, suppress(ValueError, RecursionError):
        for line in file:
            step = CURVE_ROW.read(line)["step"]
            if not line.endswith(b"\n") or step != (whole.step or step - 1) + 1:
                break
            whole = _Whole(whole.rows + 1, step, whole.size + len(line))
    return whole


def cut_broken_curves(store: Store, segments: Iterable[PlannedSegment]) -> None:
    """Cut curves before their first broken line, with a note; the next run repeats the rest.

    A diverged segment is never run again and keeps its curve; a segment in use is skipped.
    """
    begun = store.begun()
    for planned in segments:
        folder = store.segment(planned.id)
        try:
            if planned.id not in begun or not is_broken(folder):
                continue
        except StoreError:
            continue  # its own run fails with this, and the others continue
        if (folder.record or {}).get("outcome") == "diverged":
            continue
        with suppress(LeaseHeld), folder.lease():
            if is_broken(folder):  # check again under the lease
                _cut(folder, begin=planned.segment.fork_step)


def _cut(folder: SegmentFolder, *, begin: int) -> None:
    """Cut a broken curve before the damage; to nothing if no line shows where the damage is."""
    whole, seal = _whole_rows(folder.curve), _seal_of(folder)
    where = f"line {whole.rows + 1}: damaged, or rows are missing before it"
    if seal and not seal.fits(folder.curve.read_bytes(), whole.size, whole.step or 0):
        whole, where = _Whole(), "it does not match its checksum, and no line shows where"
    folder.note(
        f"{folder.curve}: {where}; cut there, and the updates after "
        f"{begin if whole.step is None else whole.step} are done again"
    )
    folder.unseal_curve(beyond=whole.size)
    os.truncate(folder.curve, whole.size)


def curve_diagnostics(
    store: Store, segments: Iterable[PlannedSegment], *, deep: bool = True
) -> tuple[Diagnostic, ...]:
    """One warning that names the finished segments whose curve is missing, cut or broken.

    Args:
        store: The store.
        segments: As planned.
        deep: Whether to check every line instead of only the ends of the curves.
    """
    damaged = list(_damaged(store, segments, deep=deep))
    if not damaged:
        return ()
    named = ", ".join(str(each.curve) for each in damaged[:_NAMED])
    more = f" and {len(damaged) - _NAMED} more" if len(damaged) > _NAMED else ""
    return (
        Diagnostic(
            "curve-damaged",
            f"{len(damaged)} finished segments have a curve that is gone, cut or broken: "
            f"{named}{more}; no measured loss is affected: `windtunnel sweep` does those updates "
            "again",
            segments=[each.root.name for each in damaged],
        ),
    )


def _damaged(
    store: Store, segments: Iterable[PlannedSegment], *, deep: bool
) -> Iterator[SegmentFolder]:
    begun = store.begun()
    for planned in segments:
        if planned.id not in begun:
            continue
        folder = store.segment(planned.id)
        record = folder.record or {}
        reached = record.get("reached", 0)
        if record.get("outcome") != "finished" or reached < planned.end:
            continue
        if not reaches(folder.curve, planned.end) or (deep and is_broken(folder)):
            yield folder


MOST_POINTS = 400


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Training loss of one segment, averaged over bins of updates; nats per token."""

    segment: str
    trunk: str
    kind: Literal["trunk", "branch"]
    params: int
    seed: int
    tokens: Floats
    loss: Floats


def read_curve(store: Store, planned: PlannedSegment, *, points: int = MOST_POINTS) -> Curve | None:
    """The segment's curve up to its planned end; None where nothing has been written.

    Damaged lines are skipped; `curve_diagnostics` reports them.
    """
    written = undamaged_rows(store.segment(planned.id).curve, CURVE_ROW)
    rows = (row for row in written if row["step"] <= planned.end)
    tokens, loss = downsample(rows, points=points)
    if not tokens.size:
        return None
    segment = planned.segment
    return Curve(
        segment=planned.id,
        trunk=segment.root.id,
        kind=segment.kind,
        params=segment.model.params,
        seed=segment.root.init_seed,
        tokens=tokens,
        loss=loss,
    )


def downsample(
    rows: Iterable[dict[str, Any]], *, points: int = MOST_POINTS
) -> tuple[Floats, Floats]:
    """Tokens and loss, at most `points` of each, without losses that are not finite.

    Means, not every k-th row, because the loss of one batch is noisier than the trend.
    """
    kept = [(row["tokens"], row["loss"]) for row in rows if row["loss"] is not None]
    if not kept:
        return np.empty(0), np.empty(0)
    tokens, loss = np.array(kept, np.float64).T
    if tokens.size > points:
        edges = np.geomspace(tokens[0], tokens[-1], points + 1)[1:-1]
        return bin_means(tokens, loss, edges)
    return tokens, loss


def bin_means(tokens: Floats, loss: Floats, edges: Floats) -> tuple[Floats, Floats]:
    """Means of both columns over the bins between `edges`; empty bins are left out."""
    index = np.searchsorted(edges, tokens, side="right")
    sizes = np.bincount(index, minlength=edges.size + 1)
    full = sizes > 0
    means = (np.bincount(index, column, edges.size + 1)[full] for column in (tokens, loss))
    mean_tokens, mean_loss = (mean / sizes[full] for mean in means)
    return mean_tokens, mean_loss
