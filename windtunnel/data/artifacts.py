"""Prepared folders and their manifests: written beside their final place, then renamed into it.

A folder therefore exists only when it is complete.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from windtunnel.data.digests import check_content
from windtunnel.errors import DataError, boundary, cause_of

# Increased when the same input would give other tokens or another manifest.
FORMAT = 1


def digest_of(content: Any) -> str:
    """16 hex digits of the canonical JSON of `content`."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def build_once(folder: Path, write: Callable[[Path], dict[str, Any]]) -> None:
    """Fill `folder` by `write`, whose result becomes its manifest, unless it exists already.

    Two processes may build the same folder at once: the first to finish wins, and the
    other uses its result.
    """
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    lock = _locked(unfinished)
    try:
        manifest = {"format": FORMAT, **write(unfinished)}
        manifest["digest"] = digest_of(manifest)
        text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False)
        (unfinished / "manifest.json").write_text(text + "\n", encoding="utf-8")
        unfinished.chmod(0o755)  # mkdtemp makes it private; a store may be shared
        for path in (*unfinished.iterdir(), unfinished):
            sync(path)
        unfinished.rename(folder)
        sync(folder.parent)
    except OSError:
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def abandoned(root: Path) -> Iterator[Path]:
    """Unfinished folders below `root` whose process was killed."""
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if re.fullmatch(r"\.[0-9a-f]{16}-.+", path.name) and path.is_dir():
            lock = _locked(path)
            if lock is not None:
                os.close(lock)
                yield path


def _locked(folder: Path) -> int | None:
    """Lock a folder until the handle is closed or the process ends; None if it is locked.

    None also on a file system without locks, where nothing shows that a folder was abandoned.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def read_manifest(folder: Path, kind: str) -> dict[str, Any]:
    """The manifest of a finished folder.

    Raises:
        DataError: It is missing, damaged, of another kind or of another format.
    """
    path = folder / "manifest.json"
    fix = prepare_again(folder)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(
            "missing-file", f"{folder}: no prepared data here (no manifest.json); {fix}", path=path
        ) from error
    except OSError as refused:
        raise DataError(
            "unreadable",
            f"{path}: cannot be read: {cause_of(refused)}; check its permissions and the disk",
            path=path,
            cause=cause_of(refused),
        ) from refused
    with boundary(path, fix, what="damaged", code="damaged"):
        manifest = json.loads(content.decode())
    if not isinstance(manifest, dict) or manifest.get("kind") != kind:
        raise DataError(
            "wrong-format", f"{path}: not the manifest of a {kind}; {fix}", path=path, expected=kind
        )
    if manifest.get("format") != FORMAT:
        raise DataError(
            "later-version",
            f"{path}: format {manifest.get('format')}, this version reads {FORMAT}; {fix}",
            path=path,
            version=manifest.get("format"),
            readable=FORMAT,
        )
    with boundary(path, fix, what="damaged", code="damaged"):
        check_content(manifest, kind)
    return manifest


def check_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Check a manifest against its digest, which older versions did not write.

    Raises:
        DataError: It was changed.
    """
    content = {key: value for key, value in manifest.items() if key != "digest"}
    if manifest.get("digest", digest_of(content)) != digest_of(content):
        raise DataError(
            "damaged",
            f"{folder / 'manifest.json'}: damaged: its digest is that of another content; "
            f"{prepare_again(folder)}",
            path=folder / "manifest.json",
        )


def prepare_again(folder: Path) -> str:
    """The fix that messages about a damaged folder give."""
    return f"delete {folder}: `windtunnel sweep` prepares it again from the sources"


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk.

    Raises:
        OSError: A file cannot be flushed; for folders it is ignored.
    """
    with suppress(OSError) if path.is_dir() else nullcontext():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class TokenWriter:
    """Appends token ids to a little-endian file; counts and hashes them.

    Attributes:
        tokens: Ids written so far.
        documents: Number of documents; counted by the caller.
        text_bytes: UTF-8 bytes behind the tokens, None if unknown; counted by the caller.
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
        """Write ids, shape (n,); the caller has checked their range."""
        data = np.ascontiguousarray(ids, dtype=self._dtype).tobytes()
        self._file.write(data)
        self._hash.update(data)
        self.tokens += len(ids)

    def summary(self) -> dict[str, Any]:
        """The manifest's entry for the file."""
        return {
            "tokens": self.tokens,
            "documents": self.documents,
            "bytes": self.text_bytes,
            "sha256": self._hash.hexdigest(),
        }


@dataclass(frozen=True, kw_only=True)
class Sides:
    """The two token files of a source, and the rule that splits its documents between them.

    Attributes:
        train: Training tokens.
        validation: Held-out tokens.
        fraction: Share of documents held out.
        dedup: Share already read at which a document is dropped; None: never.
    """

    train: TokenWriter
    validation: TokenWriter
    fraction: float
    dedup: float | None
