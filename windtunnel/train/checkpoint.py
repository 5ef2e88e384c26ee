"""Checkpoints: safetensors and JSON with checksums, written to a scratch folder and renamed.

A checkpoint folder that exists is complete. Checksums of every file, the metadata included, detect
later damage. Nothing is unpickled.
"""

import errno
import hashlib
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import OutOfMemoryError, Tensor

from windtunnel.errors import Refused, StoreError, cannot_write, cause_of
from windtunnel.train.state import DivergenceWatch, TrainState

WEIGHTS, MOMENTS, META = "model.safetensors", "optimizer.safetensors", "state.json"
FORMAT = 2
"""Format 1 had no checksum of the metadata."""

LOST = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO})
"""Read errors that a retry cannot fix."""


KINDS: Mapping[str, Any] = {
    "step": int, "seconds": int | float, "smoothed": str, "best": str, "sha256": dict,
}  # fmt: skip
"""Types of the metadata's values, by key."""


class Damaged(StoreError):
    """A checkpoint with a part that is missing or does not match its checksum."""


def save(
    state: TrainState,
    folder: Path,
    *,
    with_optimizer: bool = True,
    overhead: Mapping[str, float] | None = None,
) -> None:
    """Write `state` to `folder`; an existing checkpoint holds the same state and is kept.

    `overhead` (seconds by name) goes into the metadata, which `load` returns.

    Raises:
        StoreError: The folder cannot be written.
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
            if not folder.exists():  # otherwise another writer was first, with the same bits
                raise
        _sync(folder.parent)
    except OSError as refused:
        raise cannot_write(folder, refused) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


Tensors = dict[str, Tensor]
Conversion = Callable[[Tensors, Tensors], tuple[Tensors, Tensors]]
"""Weights and moments of one model from those of another."""


def load(
    state: TrainState,
    folder: Path,
    convert: Conversion | None = None,
) -> dict[str, Any]:
    """Metadata of the checkpoint in `folder`, which fills `state` bit for bit.

    Args:
        state: It is overwritten.
        folder: Of the checkpoint.
        convert: Makes weights and moments of the state's model from those of another.

    Raises:
        Damaged: A file is missing or does not match its checksum.
        StoreError: A file cannot be read.
    """
    meta = verify(folder)
    with _reading(folder, "tensors"):
        weights = load_file(folder / WEIGHTS)
        moments = load_file(folder / MOMENTS) if MOMENTS in meta["sha256"] else {}
        if convert is not None:
            weights, moments = convert(weights, moments)
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
    """Refuse tensors of another model, which `copy_` would broadcast silently.

    Raises:
        Refused: The first tensor that is missing or has another shape.
    """
    for loaded, expected in zip((weights, moments), state.tensors(), strict=True):
        for name, tensor in expected.items() if loaded else ():
            if name not in loaded or loaded[name].shape != tensor.shape:
                shape = list(tensor.shape)
                message = f"{name} is not there in the shape {tuple(shape)}"
                raise Refused("wrong-shape", message, tensor=name, shape=shape)
    if not weights:
        raise Refused("empty", "there are no weights")


def verify(folder: Path) -> dict[str, Any]:
    """Metadata of a checkpoint whose files all match their checksums.

    Raises:
        Damaged: A file is missing or does not match its checksum, or the metadata is malformed.
        StoreError: A file cannot be read.
    """
    with _reading(folder, META):
        meta: dict[str, Any] = json.loads((folder / META).read_bytes())
        version = meta["format"]
        if version == FORMAT and meta.pop("checksum") != _checksum(meta):
            raise Refused("wrong-checksum", "does not match its checksum")
        if version not in (1, FORMAT):
            message = f"format {version!r:.40}, expected {FORMAT}"
            raise Refused("unknown-version", message, format=version, known=[1, FORMAT])
        _check(meta)
    for name, digest in meta["sha256"].items():
        with _reading(folder, name):
            if _sha256(folder / name) != digest:
                raise Refused("wrong-checksum", "does not match its checksum")
    return meta


@contextmanager
def _reading(folder: Path, part: str) -> Iterator[None]:
    """Turn any failure of the body into damage, except errors that a retry may fix."""

    def damaged(cause: str, problem: BaseException) -> Damaged:
        reason = {"reason": problem.code, **problem.values} if isinstance(problem, Refused) else {}
        message = f"{folder}: damaged checkpoint: {cause}"
        values: dict[str, object] = {"path": folder, "part": part, "cause": cause, **reason}
        return Damaged("damaged", message, **values)

    try:
        yield
    except (StoreError, MemoryError, OutOfMemoryError, KeyboardInterrupt, SystemExit):
        raise
    except OSError as refused:
        if refused.errno in LOST:
            raise damaged(str(refused), refused) from None
        raise StoreError(
            "unreadable",
            f"{folder}: the checkpoint cannot be read: {refused.strerror}; fix that, then run "
            "the same command again",
            path=folder,
            cause=refused.strerror,
        ) from None
    except BaseException as broken:  # Rust panics are not an Exception
        raise damaged(f"{part}: {cause_of(broken)}", broken) from None


def _check(meta: dict[str, Any]) -> None:
    """Refuse metadata that `save` would not write.

    Raises:
        Refused: The first key with a wrong value.
    """
    for key, kinds in KINDS.items():
        value = meta[key]
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise Refused("wrong-type", f"{key}: {value!r:.40} has the wrong type", key=key)
    for key in ("step", "seconds"):
        if not 0 <= meta[key] < math.inf:
            message = f"{key}: {meta[key]!r:.40}, expected 0 or more"
            raise Refused("out-of-range", message, key=key, value=meta[key])
    for key in ("smoothed", "best"):
        float(meta[key])
    if set(meta["sha256"]) not in ({WEIGHTS}, {WEIGHTS, MOMENTS}):
        message = "sha256: expected the checksums of the weights, and of the moments if any"
        raise Refused("wrong-type", message, key="sha256")
    if not all(isinstance(value, int | float) for value in meta.get("overhead", {}).values()):
        raise Refused("wrong-type", "overhead: expected seconds by name", key="overhead")


def _write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file; turn the errno in its error text back into an OSError.

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
