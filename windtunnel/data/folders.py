"""Folders that exist only when finished: written beside their place, then renamed into it."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from windtunnel.errors import DataError

# Raised when the same input would give other tokens or another manifest.
FORMAT = 1

_CHUNK_BYTES = 1 << 24


def digest_of(content: Any) -> str:
    """16 hex digits of the canonical JSON of `content`."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def build_once(folder: Path, write: Callable[[Path], dict[str, Any]]) -> None:
    """Fills `folder` by `write`, whose result becomes its manifest, unless it is there already.

    Two processes may build the same folder at once: the first to finish wins, and the other uses
    what it finds.
    """
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        manifest = {"format": FORMAT, **write(unfinished)}
        text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False)
        (unfinished / "manifest.json").write_text(text + "\n", encoding="utf-8")
        unfinished.chmod(0o755)  # mkdtemp makes it private; a store may be shared
        unfinished.rename(folder)
    except OSError:
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def read_manifest(folder: Path, kind: str) -> dict[str, Any]:
    """The manifest of a finished folder.

    Raises:
        DataError: If it is missing, damaged, of another kind or of another format.
    """
    path = folder / "manifest.json"
    fix = f"delete {folder} and prepare the data again"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{folder}: no prepared data here (no manifest.json); {fix}") from error
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: damaged ({error}); {fix}") from error
    if not isinstance(manifest, dict) or manifest.get("kind") != kind:
        raise DataError(f"{path}: not the manifest of a {kind}; {fix}")
    if manifest.get("format") != FORMAT:
        raise DataError(
            f"{path}: format {manifest.get('format')}, this version reads {FORMAT}; {fix}"
        )
    return manifest


class TokenWriter:
    """Appends token ids to a little-endian file, counting and hashing them.

    Attributes:
        tokens: Ids written so far.
        documents: How many documents they are; counted by the caller.
        text_bytes: UTF-8 bytes behind them, None where unknown; counted by the caller.
    """

    def __init__(self, path: Path, dtype: str) -> None:
        self._file = path.open("wb")
        self._dtype = np.dtype(dtype)
        self._hash = hashlib.sha256()
        self.tokens = 0
        self.documents = 0
        self.text_bytes: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def append(self, ids: npt.NDArray[Any]) -> None:
        """Writes ids, shape (n,); the caller has checked that they fit the type."""
        data = np.ascontiguousarray(ids, dtype=self._dtype).tobytes()
        self._file.write(data)
        self._hash.update(data)
        self.tokens += len(ids)

    def summary(self) -> dict[str, Any]:
        """What the manifest says of the file."""
        return {
            "tokens": self.tokens,
            "documents": self.documents,
            "bytes": self.text_bytes,
            "sha256": self._hash.hexdigest(),
        }


@dataclass(frozen=True, kw_only=True)
class Sides:
    """The two files that a source is split into, and how.

    Attributes:
        train: For training.
        validation: Held out.
        fraction: Share of documents for validation.
        dedup: Share of a document that was read before from which it is dropped; None: never.
    """

    train: TokenWriter
    validation: TokenWriter
    fraction: float
    dedup: float | None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    content = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            content.update(chunk)
    return content.hexdigest()
