"""One JSON object a file, written by rename: it is there whole, or not at all."""

import json
import os
import re
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from windtunnel.errors import StoreError, cannot_write


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


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in `path`, or None where there is no file.

    Raises:
        StoreError: The file is damaged.
    """
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as broken:
        raise StoreError(f"{path}: damaged: {broken}") from None
    if not isinstance(value, dict):
        raise StoreError(f"{path}: damaged: expected an object")
    return value


def is_scratch(path: Path) -> bool:
    """Whether a file or folder is named as those that are renamed once they are whole."""
    return re.fullmatch(r"\..+\.[0-9a-f]{8,32}", path.name) is not None
