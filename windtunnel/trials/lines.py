"""Files of JSON lines that are only ever appended to, read as lines with their numbers."""

import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from windtunnel.errors import StoreError, boundary, cannot_write
from windtunnel.trials.json_file import make_folder, unreadable
from windtunnel.trials.json_schema import Schema, sealed
from windtunnel.trials.store_files import ANY_LINE

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
