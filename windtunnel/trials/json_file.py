"""One JSON object a file, written by rename: it is there whole, or not at all."""

import errno
import json
import os
import re
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, overload

from windtunnel.errors import StoreError, boundary, cannot_write
from windtunnel.trials.json_schema import Schema
from windtunnel.trials.store_files import ANYTHING

T = TypeVar("T")


def write_json(path: Path, value: Any) -> None:
    """Write beside and rename: readers see the old file or the new one, never half of one.

    Raises:
        StoreError: Disk full, or no permission.
    """
    try:
        write_whole(path, json.dumps(value, indent=1, allow_nan=False))
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
        place.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(place)
    except OSError:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise


def write_if_changed(path: Path, value: Any) -> None:
    """Write what can be made again, if the file does not hold it: its time is its content's.

    Raises:
        StoreError: Disk full, or no permission.
    """
    try:
        known = read_json(path)
    except StoreError:  # damaged, and replaced by this
        known = None
    if known != json.loads(json.dumps(value)):
        write_json(path, value)


@overload
def read_json(path: Path) -> dict[str, Any] | None: ...


@overload
def read_json(path: Path, schema: Schema[T]) -> T | None: ...


def read_json(path: Path, schema: Schema[Any] | None = None) -> Any:
    """The object in `path` as its schema has it, or None where there is no file.

    Raises:
        StoreError: The file cannot be read, or is damaged: with the place, and what to do.
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
        with boundary(path, schema.fix, StoreError, what="damaged"):
            raise problem from None


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
