"""Files of JSON lines that are only ever appended to, read as lines with their numbers."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from windtunnel.errors import StoreError, cannot_write


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Append one JSON line, after ending a line that a crash has torn.

    Raises:
        StoreError: Disk full, or no permission.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"
                file.write(b"\n" if torn else b"")
            file.write(json.dumps(value).encode() + b"\n")
    except OSError as refused:
        raise cannot_write(path, refused) from None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that `append_line` wrote; a torn one is left out.

    Raises:
        StoreError: The file is not UTF-8.
    """
    found = []
    for _, line in numbered_lines(path):
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file that nothing damages but a crash; a torn last one is left out."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def whole_steps(path: Path) -> Iterator[tuple[int, int]]:
    """(step, bytes up to its end) of each row before the first that is torn or damaged."""
    if not path.exists():
        return
    end = 0
    with path.open("rb") as file, suppress(ValueError, KeyError, TypeError):
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
    if lines and _is_torn(lines[-1][1]):
        del lines[-1]
    return [(number, line) for number, line in lines if line.strip()]


def drop_torn(path: Path) -> None:
    """Cut off half a line that a crash has left at the end; it never counted.

    Raises:
        StoreError: A line is not UTF-8, or the file cannot be written.
    """
    lines = numbered_lines(path)
    if lines and _is_torn(lines[-1][1]):
        half = len(lines[-1][1].encode())
        try:
            os.truncate(path, path.stat().st_size - half)
        except OSError as refused:
            raise cannot_write(path, refused) from None


def _is_torn(last: str) -> bool:
    """Whether what stands behind the last line end is part of a line, and not a whole one."""
    try:
        json.loads(last)
    except (ValueError, RecursionError):
        return bool(last)
    return False
