"""Checkpoints: safetensors and JSON with checksums, written beside and moved into place by rename.

A checkpoint folder that exists is whole; one that is damaged later is noticed by its checksums, of
which the metadata has one too. Nothing is ever unpickled.
"""

import errno
import hashlib
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import OutOfMemoryError, Tensor

from windtunnel.errors import StoreError, cannot_write, cause_of
from windtunnel.train.state import DivergenceWatch, TrainState

WEIGHTS, MOMENTS, META = "model.safetensors", "optimizer.safetensors", "state.json"
FORMAT = 2
"""Format 1 had no checksum of the metadata."""

LOST = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO})
"""Errors of reading that another attempt does not mend."""


KINDS: Mapping[str, Any] = {
    "step": int, "seconds": int | float, "smoothed": str, "best": str, "sha256": dict,
}  # fmt: skip
"""Of what the metadata holds, by key."""


class Damaged(StoreError):
    """A checkpoint of which a part is missing or does not match its checksum."""


def save(
    state: TrainState,
    folder: Path,
    *,
    with_optimizer: bool = True,
    overhead: Mapping[str, float] | None = None,
) -> None:
    """Write `state` as `folder`; one that is already there holds the same state and is kept.

    `overhead` (seconds by name) is kept in the metadata, which `load` returns.
    """
    if folder.exists():
        return
    scratch = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        scratch.mkdir(parents=True)
        weights, moments = state.tensors()
        files = {WEIGHTS: weights} | ({MOMENTS: moments} if with_optimizer else {})
        for name, tensors in files.items():
            _write(tensors, scratch / name)
        meta = {
            "format": FORMAT,
            "step": state.step,
            "seconds": state.seconds,
            "overhead": dict(overhead or {}),
            "smoothed": repr(state.watch.smoothed),
            "best": repr(state.watch.best),
            "sha256": {name: _sha256(scratch / name) for name in files},
        }
        (scratch / META).write_text(json.dumps(meta | {"checksum": _checksum(meta)}, indent=1))
        for name in (*files, META, "."):
            _sync(scratch / name)
        try:
            scratch.rename(folder)
        except OSError:
            if not folder.exists():  # else another writer was first, with the same bits
                raise
        _sync(folder.parent)
    except OSError as refused:
        raise cannot_write(folder, refused) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def load(state: TrainState, folder: Path) -> dict[str, Any]:
    """Fill `state` from `folder`, bit for bit; the checkpoint's metadata.

    Raises:
        Damaged: A file is missing or does not match its checksum.
        StoreError: A file cannot be read.
    """
    meta = verify(folder)
    with _reading(folder, "its tensors"):
        weights = load_file(folder / WEIGHTS)
        moments = load_file(folder / MOMENTS) if MOMENTS in meta["sha256"] else {}
        _check_shapes(state, weights, moments)
    state.load(weights, moments)
    state.step = meta["step"]
    state.seconds = meta["seconds"]
    state.watch = DivergenceWatch(
        warmup=state.watch.warmup, smoothed=float(meta["smoothed"]), best=float(meta["best"])
    )
    return meta


def _check_shapes(
    state: TrainState, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]
) -> None:
    """Refuse tensors of another model; copied, some would be spread over a larger one.

    Raises:
        ValueError: With the first that does not fit.
    """
    for found, expected in zip((weights, moments), state.tensors(), strict=True):
        for name, tensor in expected.items() if found else ():
            if name not in found or found[name].shape != tensor.shape:
                raise ValueError(f"{name} is not there in the shape {tuple(tensor.shape)}")
    if not weights:
        raise ValueError("there are no weights")


def verify(folder: Path) -> dict[str, Any]:
    """The checkpoint's metadata, after every file has matched its checksum.

    Raises:
        Damaged: A file is missing or does not match its checksum, or the metadata is not as `save`
            writes it.
        StoreError: A file cannot be read.
    """
    with _reading(folder, META):
        meta: dict[str, Any] = json.loads((folder / META).read_bytes())
        found = meta["format"]
        if found == FORMAT and meta.pop("checksum") != _checksum(meta):
            raise ValueError("does not match its checksum")
        if found not in (1, FORMAT):
            raise ValueError(f"format {found!r:.40}, expected {FORMAT}")
        _check(meta)
    with _reading(folder, "its files"):
        wrong = [n for n, digest in meta["sha256"].items() if _sha256(folder / n) != digest]
    if wrong:
        raise Damaged(f"{folder}: damaged checkpoint: {wrong[0]} does not match its checksum")
    return meta


@contextmanager
def _reading(folder: Path, what: str) -> Iterator[None]:
    """Anything that goes wrong within is damage, but for what another attempt may mend."""
    try:
        yield
    except (StoreError, MemoryError, OutOfMemoryError, KeyboardInterrupt, SystemExit):
        raise
    except OSError as refused:
        if refused.errno in LOST:
            raise Damaged(f"{folder}: damaged checkpoint: {refused}") from None
        raise StoreError(
            f"{folder}: the checkpoint cannot be read: {refused.strerror}; mend that, then run "
            "the same command again"
        ) from None
    except BaseException as broken:  # Rust's panics are no Exception
        raise Damaged(f"{folder}: damaged checkpoint: {what}: {cause_of(broken)}") from None


def _check(meta: dict[str, Any]) -> None:
    """Refuse metadata that `save` would not write.

    Raises:
        ValueError: With the key.
    """
    for key, kinds in KINDS.items():
        value = meta[key]
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise ValueError(f"{key}: {value!r:.40} is none that is written there")
    for key in ("step", "seconds"):
        if not 0 <= meta[key] < math.inf:
            raise ValueError(f"{key}: {meta[key]!r:.40}, expected 0 or more")
    for key in ("smoothed", "best"):
        float(meta[key])
    if set(meta["sha256"]) not in ({WEIGHTS}, {WEIGHTS, MOMENTS}):
        raise ValueError("sha256: expected the checksums of the weights, and of the moments if any")
    if not all(isinstance(each, int | float) for each in meta.get("overhead", {}).values()):
        raise ValueError("overhead: expected seconds by name")


def _write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file; a full disk is an OSError, as everywhere else.

    Raises:
        OSError: It cannot be written.
    """
    try:
        save_file({k: v.to("cpu", copy=True) for k, v in tensors.items()}, path)
    except SafetensorError as refused:
        number = re.search(r"os error (\d+)", str(refused))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from None


def _checksum(meta: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
