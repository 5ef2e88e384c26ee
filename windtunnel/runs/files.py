"""One JSON object a file, written by rename: it is there whole, or not at all.

Files of JSON lines that are only ever appended to, read as lines with their numbers.
"""

import errno
import json
import logging
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
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
    """A file that could be read, and does not hold what it must."""


def write_json(path: Path, value: Any, *, seal: bool = True) -> None:
    """Write beside and rename: readers see the old object or the new one, never half of one.

    `seal`: with a checksum as its last key, which a file for people does without.

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

    Of a link, the file that it leads to is replaced; a device or a pipe is written through.

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
    """Make a folder, and the one that it lies in; what is above must be there.

    So much lies between a store and any file of it: one that moves away or is unmounted while
    something writes is not half made anew in its old place.

    Raises:
        OSError: It cannot be made.
    """
    if not folder.is_dir():
        folder.parent.mkdir(exist_ok=True)
        folder.mkdir(exist_ok=True)


def write_if_changed(path: Path, value: Any, *, seal: bool = True) -> None:
    """As `write_json`, if the file does not hold it already: its time is its content's.

    Raises:
        StoreError: Disk full, or no permission.
    """
    try:
        known = read_json(path)
    except StoreError:  # damaged, and replaced by this
        known = None
    if known != json.loads(json.dumps(value)):
        write_json(path, value, seal=seal)


@overload
def read_json(path: Path) -> dict[str, Any] | None: ...


@overload
def read_json(path: Path, schema: Schema[T]) -> T | None: ...


def read_json(path: Path, schema: Schema[Any] | None = None) -> Any:
    """The object in `path` as its schema has it, or None where there is no file.

    Raises:
        StoreError: The file cannot be read, or (DamagedFile) does not hold what it must: with the
            place, and what to do.
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
        with boundary(path, schema.fix, DamagedFile, what="damaged"):
            raise problem from None


def read_derived(path: Path, schema: Schema[T]) -> T | None:
    """As `read_json`, of a file that can be made again: a damaged one is noted and counts as none.

    Raises:
        StoreError: The file is there and cannot be read, which says nothing of its content.
    """
    try:
        return read_json(path, schema)
    except DamagedFile as problem:
        log.warning("%s; it counts as missing", problem)
        return None


def unreadable(path: Path, refused: OSError) -> StoreError:
    """The error to raise where `refused` came from reading `path`: its content may be whole."""
    if refused.errno == errno.EISDIR:
        return StoreError(f"{path}: is a folder, where a file belongs; move it away")
    return StoreError(
        f"{path}: cannot be read: {refused.strerror or refused}; mend that (its permissions, or "
        "the disk), then run the same command again"
    )


def is_scratch(path: Path) -> bool:
    """Whether a file or folder is named as those that are renamed once they are whole."""
    return re.fullmatch(r"\..+\.[0-9a-f]{8,32}", path.name) is not None


log = logging.getLogger(__name__)


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Append one JSON line, after ending a line that a crash has torn.

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
    """The whole lines of a file that `append_line` wrote; one that a crash has torn is left out.

    Raises:
        StoreError: The file cannot be read, or a line is damaged: with its number and what to do.
    """
    found = []
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            found.append(_row(path, number, line.encode(), schema))
        except StoreError:
            if not is_torn(line):
                raise
    return found


def json_rows(path: Path, schema: Schema[dict[str, Any]] = ANY_LINE) -> Iterator[dict[str, Any]]:
    """The whole lines of a file that nothing damages but a crash; a torn last one is left out.

    Raises:
        StoreError: As `read_lines`.
    """
    for number, line in _ended_lines(path):
        yield _row(path, number, line, schema)


def undamaged_rows(path: Path, schema: Schema[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """As `json_rows`, without the lines that are damaged: for what is shown, and told elsewhere.

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
    """As `undamaged_rows`, with a note of each line that is left out: of logs nothing rests on.

    Raises:
        StoreError: The file cannot be read.
    """
    for number, line in _ended_lines(path):
        if not line.strip():
            continue
        try:
            row = _row(path, number, line, schema)
        except StoreError as damaged:
            log.warning("%s; the line is left out", damaged)
            continue
        yield row


def _ended_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers, without a last one that has no end."""
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
    """Rows of some whole lines at the end of a file.

    Raises:
        StoreError: One of them is damaged.
    """
    return [_row(path, None, line, schema) for line in lines]


def _row(
    path: Path, number: int | None, line: bytes, schema: Schema[dict[str, Any]]
) -> dict[str, Any]:
    try:
        return schema.read(line)
    except BaseException as problem:
        place = f"{path}, " + (f"line {number}" if number else "near its end")
        with boundary(place, schema.fix, StoreError, what="damaged"):
            raise problem from None


def whole_steps(path: Path) -> Iterator[tuple[int, int]]:
    """(step, bytes up to its end) of each row before the first that is torn or damaged."""
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
    """Every line with its number from 1; the last is what no line end follows yet, often empty.

    Without a file there are none.

    Raises:
        StoreError: A line is not UTF-8.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as refused:
        raise unreadable(path, refused) from None
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append((number, line.decode()))
        except UnicodeDecodeError as broken:
            raise StoreError(
                f"{path}, line {number}: damaged: not UTF-8 text (its byte {broken.start}): put "
                "back a copy of the file, save it as UTF-8, or take the line out"
            ) from None
    return found


def whole_lines(path: Path) -> list[tuple[int, str]]:
    """The lines with their numbers, without blank ones and without a last one that is torn.

    Raises:
        StoreError: A line is not UTF-8.
    """
    lines = numbered_lines(path)
    if lines and is_torn(lines[-1][1]):
        del lines[-1]
    return [(number, line) for number, line in lines if line.strip()]


def drop_torn(path: Path) -> None:
    """Cut off half a line that a crash has left at the end; it never counted.

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
    """Whether a line is the first part of one: what is written of it is well, and it ends early.

    A crash leaves such a line; a hand leaves what is no part of any, and that is damage.
    """
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return bool(line) and _may_go_on(line)
    return False


def _may_go_on(line: str) -> bool:
    if not line.strip("\0"):  # a file that grew, and whose content a loss of power took
        return True
    try:
        from_json(line, allow_partial="trailing-strings")
    except ValueError:
        return False
    return True
