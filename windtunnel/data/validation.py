"""Validation sets: fixed rows of held-out tokens, with the bytes behind them."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from windtunnel.data.folders import read_manifest, sha256_of
from windtunnel.data.permutation import permute, shuffle_keys
from windtunnel.errors import DataError


@dataclass(frozen=True, kw_only=True)
class ValidationSet:
    """Held-out tokens of one source. Holds no open file, so it can be sent to another process.

    Attributes:
        name: The source's name.
        folder: Where its tokens lie.
        vocab_size: Ids are below it.
        tokens: How many, separators included.
        bytes: UTF-8 bytes behind them, one more for each document's end; None if unknown.
        documents: How many documents.
        residue: Share of it that also stands in training (see `residue.py`); None if not measured.
        fingerprint: SHA-256 of the tokens, first 16 hex digits.
    """

    name: str
    folder: Path
    vocab_size: int
    tokens: int
    bytes: int | None
    documents: int
    residue: float | None
    fingerprint: str

    @classmethod
    def open(cls, folder: Path, *, name: str) -> "ValidationSet":
        """The validation side of a built source.

        Raises:
            DataError: If the folder is missing or damaged.
        """
        manifest = read_source(folder)
        side = manifest["validation"]
        return cls(
            name=name,
            folder=folder,
            vocab_size=manifest["vocab_size"],
            tokens=side["tokens"],
            bytes=side["bytes"],
            documents=side["documents"],
            residue=side["residue"],
            fingerprint=side["sha256"][:16],
        )

    @property
    def bytes_per_token(self) -> float | None:
        """Divides nats per token to give nats per byte; None if the bytes are unknown."""
        return None if self.bytes is None else self.bytes / self.tokens

    def rows(self, context: int, tokens: int) -> npt.NDArray[np.int64]:
        """The set's first rows, in a shuffled order that never changes.

        The shuffle makes a few rows a sample of the whole set; more tokens only add rows.

        Args:
            context: Tokens predicted in each row.
            tokens: How many predicted tokens are wanted.

        Returns:
            Ids, shape (n, context + 1), n = ceil(tokens / context) or all rows there are.

        Raises:
            DataError: If the set is too short for one row.
        """
        if self.tokens < context + 1:
            raise DataError(
                f"validation set {self.name!r}: {self.tokens} tokens are too few for one row of "
                f"context {context} + 1; raise data.validation.fraction or shorten the context"
            )
        path, dtype = self.folder / "validation.bin", read_source(self.folder)["dtype"]
        flat = np.asarray(np.memmap(path, dtype=dtype, mode="r"))
        table = np.lib.stride_tricks.sliding_window_view(flat, context + 1)[::context]
        count = min(math.ceil(tokens / context), len(table))
        order = permute(np.arange(count), size=len(table), keys=shuffle_keys("validation"))
        return table[order].astype(np.int64)


def read_source(folder: Path) -> dict[str, Any]:
    """Manifest of a built source, once its files have the size it tells.

    Raises:
        DataError: If the folder is missing or damaged.
    """
    manifest = read_manifest(folder, "source")
    for side in ("train", "validation"):
        path = folder / f"{side}.bin"
        want = manifest[side]["tokens"] * np.dtype(manifest["dtype"]).itemsize
        have = path.stat().st_size if path.exists() else 0
        if have != want:
            raise DataError(
                f"{path}: damaged: {have} bytes where the manifest tells {want}; delete {folder} "
                "and prepare the data again"
            )
    return manifest


def verify_source(folder: Path) -> None:
    """Reads all of a built source.

    Raises:
        DataError: If a file is not what was written.
    """
    manifest = read_source(folder)
    for side in ("train", "validation"):
        path = folder / f"{side}.bin"
        if sha256_of(path) != manifest[side]["sha256"]:
            raise DataError(
                f"{path}: damaged: its SHA-256 is not the manifest's; delete {folder} and prepare "
                "the data again"
            )
