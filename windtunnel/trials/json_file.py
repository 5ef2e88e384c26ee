"""One JSON object a file, written by rename: it is there whole, or not at all."""

import errno
import json
import logging
import os
import re
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, overload

from windtunnel.data.folders import sync
from windtunnel.errors import StoreError, boundary, cannot_write
from windtunnel.trials.json_schema import Schema, sealed
from windtunnel.trials.store_files import ANYTHING

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
