"""Checkpoints: safetensors and JSON with checksums, written beside and moved into place by rename.

A checkpoint folder that exists is whole; one that is damaged later is noticed by its checksums.
Nothing is ever unpickled.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from windtunnel.errors import StoreError
from windtunnel.train.state import DivergenceWatch, TrainState

WEIGHTS, MOMENTS, META = "model.safetensors", "optimizer.safetensors", "state.json"
FORMAT = 1


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
            save_file({k: v.to("cpu", copy=True) for k, v in tensors.items()}, scratch / name)
        meta = {
            "format": FORMAT,
            "step": state.step,
            "seconds": state.seconds,
            "overhead": dict(overhead or {}),
            "smoothed": repr(state.watch.smoothed),
            "best": repr(state.watch.best),
            "sha256": {name: _sha256(scratch / name) for name in files},
        }
        (scratch / META).write_text(json.dumps(meta, indent=1))
        for name in (*files, META):
            _sync(scratch / name)
        try:
            scratch.rename(folder)
        except OSError:
            if not folder.exists():  # else another writer was first, with the same bits
                raise
        _sync(folder.parent)
    except OSError as full:
        raise StoreError(
            f"{folder}: the checkpoint cannot be written: {full.strerror or full}; "
            "free space or permissions, then run the same command again"
        ) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def load(state: TrainState, folder: Path) -> dict[str, Any]:
    """Fill `state` from `folder`, bit for bit; the checkpoint's metadata.

    Raises:
        StoreError: A file is missing, cannot be read or does not match its checksum.
    """
    meta = verify(folder)
    weights = load_file(folder / WEIGHTS)
    moments = load_file(folder / MOMENTS) if MOMENTS in meta["sha256"] else {}
    state.load(weights, moments)
    state.step = meta["step"]
    state.seconds = meta["seconds"]
    state.watch = DivergenceWatch(
        warmup=state.watch.warmup, smoothed=float(meta["smoothed"]), best=float(meta["best"])
    )
    return meta


def verify(folder: Path) -> dict[str, Any]:
    """The checkpoint's metadata, after every file has matched its checksum.

    Raises:
        StoreError: It is damaged.
    """
    try:
        meta: dict[str, Any] = json.loads((folder / META).read_text())
        if meta["format"] != FORMAT:
            raise StoreError(f"{folder}: checkpoint format {meta['format']}, expected {FORMAT}")
        wrong = [n for n, digest in meta["sha256"].items() if _sha256(folder / n) != digest]
    except (OSError, ValueError, KeyError) as broken:
        raise StoreError(f"{folder}: damaged checkpoint: {broken}") from None
    if wrong:
        raise StoreError(f"{folder}: damaged checkpoint: {wrong[0]} does not match its checksum")
    return meta


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
