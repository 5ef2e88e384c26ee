"""Content hashes of files, cached by file metadata; and the schema of manifests.

Every byte of a source is hashed (BLAKE2b, about 1 GB/s on one core), so any edit is detected;
prepared tokens carry the SHA-256 in their manifest. A file with unchanged size, times, inode and
device is not read again. The cache is derived data: if damaged or missing, it is rebuilt.

A manifest may hold more than the schema; older manifests lack its optional keys.
"""

import hashlib
import json
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, cast

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from windtunnel.config.errors import expected
from windtunnel.errors import DataError, Refused, boundary
from windtunnel.laws.schema import SHORT

NAME = "digests.json"
SHA256_HEX = 64
DIGEST_HEX = 40
"""Hex digits of a digest. Older manifests have shorter ones, of parts of a file."""

# Below this, hashing the files again is cheaper than storing the list of them.
_WORTH_BYTES = 1 << 24
# Within this time a second edit may leave equal times (a coarse clock): not cached.
_SETTLED_NS = 2_000_000_000
_CHUNK_BYTES = 1 << 22
_TELL_BYTES = 1 << 28

Stamp = tuple[int, int, int, int, int]


class Digests:
    """Hashes of files, cached in a folder.

    Args:
        folder: The folder of the cache; None: no cache.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file = None if folder is None else folder / NAME
        self._known = {} if self._file is None else _read(self._file)
        self._seen: dict[Path, tuple[Stamp, str]] = {}
        self._hashed_bytes = 0
        self._changed = False

    def of(self, path: Path, tell: Callable[[int], None] | None = None) -> str:
        """Hash of a file's content; `tell` is called with the bytes hashed so far.

        Raises:
            DataError: The file cannot be read, or changes meanwhile.
        """
        return self._of(path, DIGEST_HEX, lambda: self._hash(path, tell))

    def sha256_of(
        self,
        path: Path,
        tell: Callable[[int], None] | None = None,
        check: Callable[[bytes], None] | None = None,
    ) -> str:
        """SHA-256 of a file that windtunnel wrote; `check` is called with each part read.

        The hash of a file that `check` refuses is not cached.

        Raises:
            DataError: As `of`.
        """
        return self._of(path, SHA256_HEX, lambda: self._hash(path, tell, hashlib.sha256(), check))

    def _of(self, path: Path, length: int, hashed: Callable[[], str]) -> str:
        with boundary(path, "check that the file is there and that it may be read"):
            stamp = _stamp(path)
            if path in self._seen and self._seen[path][0] == stamp:
                return self._seen[path][1]
            key = str(path.resolve())
            old = self._known.get(key)
            if old is not None and old[0] == stamp and len(old[1]) == length:
                digest = old[1]
            else:
                digest = hashed()
                if _stamp(path) != stamp:
                    raise _changed(path)
                if time.time_ns() - max(stamp[3], stamp[4]) > _SETTLED_NS:
                    self._known[key] = (stamp, digest)
                    self._changed = True
        self._seen[path] = (stamp, digest)
        return digest

    def check_unchanged(self, path: Path) -> None:
        """Check that a file has not changed since it was hashed.

        Raises:
            DataError: It has changed or is missing.
        """
        with boundary(path, "check that the file is there and that it may be read"):
            if path in self._seen and _stamp(path) != self._seen[path][0]:
                raise _changed(path)

    def save(self) -> None:
        """Store the cache if that saves time; a read-only store is ignored."""
        if self._file is None or not self._changed:
            return
        if self._hashed_bytes < _WORTH_BYTES and not self._file.exists():
            return
        scratch = self._file.with_name(f".{self._file.name}.{uuid.uuid4().hex[:8]}")
        kept = {key: [*stamp, digest] for key, (stamp, digest) in self._known.items()}
        with suppress(OSError):
            try:
                scratch.write_text(json.dumps(kept), encoding="utf-8")
                scratch.replace(self._file)
            finally:
                scratch.unlink(missing_ok=True)
            self._changed = False

    def _hash(
        self,
        path: Path,
        tell: Callable[[int], None] | None,
        content: "hashlib._Hash | None" = None,
        check: Callable[[bytes], None] | None = None,
    ) -> str:
        if content is None:
            content = cast("hashlib._Hash", hashlib.blake2b(digest_size=DIGEST_HEX // 2))
        with path.open("rb") as file:  # buffered, so that a part is short only at the end
            while chunk := file.read(_CHUNK_BYTES):
                content.update(chunk)
                if check is not None:
                    check(chunk)
                before, self._hashed_bytes = self._hashed_bytes, self._hashed_bytes + len(chunk)
                if tell is not None and before // _TELL_BYTES < self._hashed_bytes // _TELL_BYTES:
                    tell(self._hashed_bytes)
        return content.hexdigest()


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _changed(path: Path) -> DataError:
    return DataError(
        "changed-while-read",
        f"{path}: changed while it was read, so that its tokens would be of no one content; run "
        "again once nothing writes to it",
        path=path,
    )


def _read(file: Path) -> dict[str, tuple[Stamp, str]]:
    """Content of a cache file without its damaged parts."""
    try:
        held = json.loads(file.read_bytes())
        items = list(held.items())
    except Exception:  # derived data: rebuilt when damaged
        return {}
    return {
        key: (tuple(value[:5]), value[5])
        for key, value in items
        if isinstance(value, list)
        and [type(each) for each in value] == [int] * 5 + [str]
        and len(value[5]) in {DIGEST_HEX, SHA256_HEX}
    }


_STRICT = ConfigDict(strict=True, extra="allow")
_Count = Annotated[int, Field(ge=0, lt=1 << 63)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Name = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
_Share = Annotated[float, Field(ge=0, le=1)]


@with_config(_STRICT)
class _Side(TypedDict):
    tokens: _Count
    documents: _Count
    bytes: _Count | None
    sha256: _Sha256
    mask_sha256: NotRequired[_Sha256]
    completion_tokens: NotRequired[_Count]
    completion_bytes: NotRequired[_Count]


class _HeldOut(_Side):
    residue: _Share | None


@with_config(_STRICT)
class _LeftOut(TypedDict):
    count: _Count
    bytes: NotRequired[_Count | None]
    examples: NotRequired[list[str]]
    kinds: NotRequired[dict[str, "_LeftOut"]]


@with_config(_STRICT)
class _Account(TypedDict):
    files: NotRequired[_Count | None]
    file_bytes: NotRequired[_Count]
    suffixes: NotRequired[dict[str, _Count]]
    left_out: NotRequired[dict[str, _LeftOut]]


@with_config(_STRICT)
class _Recipe(TypedDict):
    builtin: NotRequired[str]
    tokenizer: NotRequired[dict[str, str]]
    files: NotRequired[list[Annotated[list[Any], Field(min_length=3, max_length=3)]]]


@with_config(_STRICT)
class _Source(TypedDict):
    recipe: _Recipe
    vocab_size: Annotated[int, Field(gt=0, le=1 << 32)]
    dtype: Literal["<u2", "<u4"]
    documents_dropped: _Count
    account: NotRequired[_Account]
    train: _Side
    validation: _HeldOut


@with_config(_STRICT)
class _Entry(TypedDict):
    name: str
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    folder: _Name


@with_config(_STRICT)
class _Dataset(TypedDict):
    vocab_size: Annotated[int, Field(gt=0, le=1 << 32)]
    sources: Annotated[list[_Entry], Field(min_length=1)]


_SCHEMAS: dict[str, TypeAdapter[Any]] = {
    "source": TypeAdapter(_Source),
    "dataset": TypeAdapter(_Dataset),
}


def check_content(manifest: Any, kind: str) -> None:
    """Check the keys of a manifest that this version reads.

    Raises:
        Refused: A wrong value, with its key and the expected type.
    """
    try:
        _SCHEMAS[kind].validate_python(manifest)
    except ValidationError as wrong:
        error: Any = wrong.errors()[0]
        place = ".".join(map(str, error["loc"]))
        if error["type"] == "missing":
            raise Refused("damaged", f"{place}: is missing", key=place) from None
        value = SHORT.repr(error["input"])
        raise Refused("damaged", f"{place}: {value}: {expected(error)}", key=place) from None
    if kind == "dataset":
        return
    for name in ("train", "validation"):
        side = manifest[name]
        if "mask_sha256" in side and not {"completion_tokens", "completion_bytes"} <= side.keys():
            raise Refused(
                "damaged", f"{name}: has a mask, but no completion_tokens or _bytes", key=name
            )
    for name, size, digest in manifest["recipe"].get("files", ()):
        if [type(name), type(size), type(digest)] != [str, int, str]:
            message = "recipe.files: expected a name, a size and a hash for each"
            raise Refused("damaged", message, key="recipe.files")
