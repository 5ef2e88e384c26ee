"""JSON files written atomically, and JSON-lines files that are only appended to.

A JSON file holds one object and is written by rename: readers see all of it or none. A torn last
line of a JSON-lines file, as a crash leaves it, does not count; any other damaged line is an error
with its line number.
"""

import errno
import json
import logging
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, overload

from pydantic_core import from_json

from windtunnel.data.artifacts import sync
from windtunnel.errors import StoreError, boundary, cannot_write
from windtunnel.runs.json_schema import Schema, sealed
from windtunnel.runs.schemas import ANY_LINE, ANYTHING

log = logging.getLogger(__name__)

T = TypeVar("T")


class DamagedFile(StoreError):
    """A file whose content is invalid; `values` has its `file` and `line`."""


@contextmanager
def undamaged(path: Path, fix: str, *, line: int | None = None) -> Iterator[None]:
    """Turn any exception about a file's content into a DamagedFile.

    Args:
        path: The file.
        fix: What the user can do about it.
        line: Number of the line from 1; 0 for one near the end whose number is unknown.

    Raises:
        DamagedFile: With the code of the fault, or `damaged` where a library raised it.
    """
    place: object = path
    if line is not None:
        place = f"{path}, " + (f"line {line}" if line else "near its end")
    try:
        with boundary(place, fix, DamagedFile, what="damaged", code="damaged"):
            yield
    except DamagedFile as damaged:
        damaged.values.pop("where", None)
        damaged.values |= {"file": path} | ({"line": line} if line else {})
        raise


def write_json(path: Path, value: Any, *, seal: bool = True) -> None:
    """Write a JSON object by rename: readers see the old or the new one, never a part.

    Args:
        path: The file.
        value: The object.
        seal: Whether a checksum becomes its last key; files for people have none.

    Raises:
        StoreError: Disk full, or no permission.
    """
    text = json.dumps(value, indent=1, allow_nan=False)
    try:
        write_whole(path, sealed(text) if seal else text)
    except OSError as refused:
        raise cannot_write(path, refused) from None


def write_whole(path: Path, text: str) -> None:
    """Write a text beside `path` and rename it there.

    A symbolic link is followed; a device or a pipe is written directly.

    Raises:
        OSError: Disk full, or no permission.
    """
    place = path.resolve()
    if place.exists() and not place.is_file():
        place.write_text(text, encoding="utf-8")
        return
    scratch = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}")
    try:
        make_folder(place.parent)
        with scratch.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(place)
        sync(place.parent)
    except OSError:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise


def make_folder(folder: Path) -> None:
    """Make a folder and its parent; the grandparent must exist.

    Every file of a store lies at most two folders below its root, so a store that is moved or
    unmounted during a write is not partly recreated at its old place.

    Raises:
        OSError: The folder cannot be made.
    """
    if not folder.is_dir():
        folder.parent.mkdir(exist_ok=True)
        folder.mkdir(exist_ok=True)


def write_if_changed(path: Path, value: Any, *, seal: bool = True) -> None:
    """Write a JSON object unless the file already holds it, so its time is its content's.

    Raises:
        StoreError: Disk full, or no permission.
    """
    try:
        known = read_json(path)
    except StoreError:  # damaged: replaced now
        known = None
    if known != json.loads(json.dumps(value)):
        write_json(path, value, seal=seal)


@overload
def read_json(path: Path) -> dict[str, Any] | None: ...


@overload
def read_json(path: Path, schema: Schema[T]) -> T | None: ...


def read_json(path: Path, schema: Schema[Any] | None = None) -> Any:
    """The object in a file, checked against its schema; None where there is no file.

    Raises:
        StoreError: The file cannot be read.
        DamagedFile: It does not hold what it must.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as refused:
        raise unreadable(path, refused) from None
    schema = schema or ANYTHING
    try:
        return schema.read(content)
    except BaseException as problem:
        with undamaged(path, schema.fix):
            raise problem from None


def read_derived(path: Path, schema: Schema[T]) -> T | None:
    """The object in a file that can be made again; None, and a log entry, where it is damaged.

    Raises:
        StoreError: The file exists and cannot be read; its content may be whole.
    """
    try:
        return read_json(path, schema)
    except DamagedFile as problem:
        log.warning("%s; it counts as missing", problem)
        return None


def unreadable(path: Path, refused: OSError) -> StoreError:
    """The StoreError for an OSError from reading `path`, whose content may be whole."""
    if refused.errno == errno.EISDIR:
        return StoreError(
            "not-a-file", f"{path}: is a folder, where a file belongs; move it away", file=path
        )
    cause = refused.strerror or str(refused)
    return StoreError(
        "unreadable",
        f"{path}: cannot be read: {cause}; repair that (its permissions, or the disk), then run "
        "the same command again",
        file=path,
        cause=cause,
    )


def is_scratch(path: Path) -> bool:
    """Whether a file or folder has the name of a temporary one, renamed once it is whole."""
    return re.fullmatch(r"\..+\.[0-9a-f]{8,32}", path.name) is not None


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Append one JSON line; a torn last line is ended first.

    Raises:
        StoreError: Disk full, or no permission.
    """
    try:
        make_folder(path.parent)
        with path.open("ab+") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"
                file.write(b"\n" if torn else b"")
            file.write(sealed(json.dumps(value)).encode() + b"\n")
    except OSError as refused:
        raise cannot_write(path, refused) from None


def read_lines(path: Path, schema: Schema[dict[str, Any]] = ANY_LINE) -> list[dict[str, Any]]:
    """The whole lines of a file that `append_line` wrote; torn ones are left out.

    Raises:
        StoreError: The file cannot be read.
        DamagedFile: A line is damaged.
    """
    rows = []
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            rows.append(_row(path, number, line.encode(), schema))
        except DamagedFile:
            if not is_torn(line):
                raise
    return rows


def json_rows(path: Path, schema: Schema[dict[str, Any]] = ANY_LINE) -> Iterator[dict[str, Any]]:
    """The whole lines of a file, one by one; a torn last line is left out.

    Raises:
        StoreError: As `read_lines`.
    """
    for number, line in _ended_lines(path):
        yield _row(path, number, line, schema)


def undamaged_rows(path: Path, schema: Schema[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The whole lines that are undamaged; for plots, since others report the damage.

    Raises:
        StoreError: The file cannot be read.
    """
    for _, line in _ended_lines(path):
        try:
            row = schema.read(line)
        except (ValueError, RecursionError):
            continue
        yield row


def undamaged_lines(path: Path, schema: Schema[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The whole lines that are undamaged, with a log entry for every other; no result rests on it.

    Raises:
        StoreError: The file cannot be read.
    """
    for number, line in _ended_lines(path):
        if not line.strip():
            continue
        try:
            row = _row(path, number, line, schema)
        except DamagedFile as damaged:
            log.warning("%s; the line is left out", damaged)
            continue
        yield row


def _ended_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers from 1, without a last line that has no end."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    except OSError as refused:
        raise unreadable(path, refused) from None
    with file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n"):
                yield number, line


def checked_rows(
    path: Path, lines: Iterable[bytes], schema: Schema[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The rows of some whole lines near the end of a file.

    Raises:
        DamagedFile: A line is damaged.
    """
    return [_row(path, 0, line, schema) for line in lines]


def _row(path: Path, number: int, line: bytes, schema: Schema[dict[str, Any]]) -> dict[str, Any]:
    try:
        return schema.read(line)
    except BaseException as problem:
        with undamaged(path, schema.fix, line=number):
            raise problem from None


def whole_steps(path: Path) -> Iterator[tuple[int, int]]:
    """(step, bytes up to its end) of each row before the first torn or damaged one."""
    if not path.exists():
        return
    end = 0
    with path.open("rb") as file, suppress(ValueError, KeyError, TypeError, RecursionError):
        for line in file:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            yield int(json.loads(line)["step"]), end


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """Every line with its number from 1; the last one has no line end and is often empty.

    Raises:
        StoreError: The file cannot be read.
        DamagedFile: A line is not UTF-8.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as refused:
        raise unreadable(path, refused) from None
    numbered = []
    for number, line in enumerate(lines, start=1):
        try:
            numbered.append((number, line.decode()))
        except UnicodeDecodeError as broken:
            raise DamagedFile(
                "not-utf8",
                f"{path}, line {number}: damaged: not UTF-8 text (its byte {broken.start}): put "
                "back a copy of the file, save it as UTF-8, or take the line out",
                file=path,
                line=number,
                byte=broken.start,
            ) from None
    return numbered


def whole_lines(path: Path) -> list[tuple[int, str]]:
    """The lines with their numbers, without blank lines and without a torn last one.

    Raises:
        StoreError: As `numbered_lines`.
    """
    lines = numbered_lines(path)
    if lines and is_torn(lines[-1][1]):
        del lines[-1]
    return [(number, line) for number, line in lines if line.strip()]


def drop_torn(path: Path) -> None:
    """Cut off a torn last line, which never counted.

    Raises:
        StoreError: A line is not UTF-8, or the file cannot be written.
    """
    lines = numbered_lines(path)
    if lines and is_torn(lines[-1][1]):
        half = len(lines[-1][1].encode())
        try:
            os.truncate(path, path.stat().st_size - half)
        except OSError as refused:
            raise cannot_write(path, refused) from None


def is_torn(line: str) -> bool:
    """Whether a line is a prefix of a JSON line, as a crash leaves it; anything else is damage."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return bool(line) and _may_go_on(line)
    return False


def _may_go_on(line: str) -> bool:
    if not line.strip("\0"):  # the file grew, and a power cut lost its content
        return True
    try:
        from_json(line, allow_partial="trailing-strings")
    except ValueError:
        return False
    return True
