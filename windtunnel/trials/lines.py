"""Files of JSON lines that are only ever appended to, read as lines with their numbers."""

import json
import os
from pathlib import Path

from windtunnel.errors import StoreError, cannot_write


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
