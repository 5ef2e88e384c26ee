"""The folder of an export: the target's files, the Handoff, and the fits that it rests on."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from windtunnel.errors import ConfigError
from windtunnel.export.build import Export
from windtunnel.export.handoff import FILE, Handoff

TARGETS = ("json", "hf", "megatron", "torchtitan", "nanotron", "torch")
KV_INIT = ("json", "hf", "torch")
"""Targets that express an init std of keys and values of their own."""
EXPERTS = ("json",)
"""Targets that carry a mixture of experts."""
FITS, VALIDATION = "fits", "validation"


def check_folder(folder: Path) -> None:
    """Refuse a folder whose content would be lost.

    Raises:
        ConfigError: It is there and not empty, or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(
            "not-a-folder",
            f"--out {folder}: is a file; give a new folder",
            option="--out",
            path=folder,
        )
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(
            "not-empty",
            f"--out {folder}: is there already and not empty; give a new folder, or remove it "
            "first",
            option="--out",
            path=folder,
        )


def write_export(export: Export, target: str, folder: Path) -> list[Path]:
    """Write a target's files and those of every export, all or nothing, and return their paths.

    Every export has handoff.json, fits/SET.json, and validation/SET.npy: the rows of token ids on
    which the study's losses were measured.

    Raises:
        ConfigError: The target cannot express the Handoff, or the folder is in use or cannot be
            written.
    """
    recipe = export.handoff.recipe
    if recipe.kv_init_std(export.handoff.model) != 1 and target not in KV_INIT:
        raise ConfigError(
            "unsupported-model",
            f"recipe.kv_rule = {recipe.kv_rule}: --to {target} draws queries, keys and values with "
            f"one init std; export --to {', '.join(KV_INIT)}",
            target=target,
            field="kv_rule",
            value=recipe.kv_rule,
            allowed=list(KV_INIT),
        )
    if export.handoff.model.experts > 1 and target not in EXPERTS:
        raise ConfigError(
            "unsupported-model",
            f"model.shape.experts = {export.handoff.model.experts}: --to {target} writes no "
            "mixture of experts: neither its routers nor the balance of their load over the whole "
            f"update; export --to {', '.join(EXPERTS)}",
            target=target,
            field="experts",
            value=export.handoff.model.experts,
            allowed=list(EXPERTS),
        )
    module = import_module(f"windtunnel.export.targets.{target}")
    write: Callable[[Handoff, Path], list[Path]] = module.write
    with new_folder(folder) as scratch:
        handoff = export.handoff
        written = write(handoff, scratch)
        (scratch / FILE).write_text(handoff.to_json(), encoding="utf-8")
        (scratch / FITS).mkdir()
        for name, fitted in export.fits.items():
            fitted.to_json(scratch / FITS / f"{name}.json")
        (scratch / VALIDATION).mkdir()
        for name, rows in export.validation.items():
            kind = _smallest(handoff) if (rows >= 0).all() else np.dtype(np.int32)
            np.save(scratch / VALIDATION / f"{name}.npy", rows.astype(kind))
        files = [FILE, *(str(path.relative_to(scratch)) for path in written)]
        files += [f"{FITS}/", f"{VALIDATION}/"]
    return [folder / file for file in files]


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A scratch folder that becomes `folder` when all went well, and vanishes when not."""
    folder = folder.resolve()
    check_folder(folder)
    scratch = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        scratch.mkdir(parents=True)
        yield scratch
        if folder.is_dir():
            folder.rmdir()
        scratch.rename(folder)
    except OSError as refused:
        raise ConfigError(
            "cannot-write",
            f"--out {folder}: cannot be written: {refused.strerror or refused}; nothing was left "
            "there; free space or choose another folder",
            option="--out",
            path=folder,
            cause=refused.strerror or str(refused),
        ) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _smallest(handoff: Handoff) -> np.dtype[np.unsignedinteger[Any]]:
    """The type that holds every token id in the fewest bytes."""
    return np.dtype(np.min_scalar_type(handoff.model.vocab_size - 1))
