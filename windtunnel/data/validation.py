"""Validation sets: fixed rows of held-out tokens, with the bytes behind them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from windtunnel.config.data import CONDITIONAL
from windtunnel.data.account import Account
from windtunnel.data.artifacts import check_manifest, digest_of, prepare_again, read_manifest
from windtunnel.data.digests import Digests
from windtunnel.data.pairs import PackedRows, mask_file
from windtunnel.data.stream import permute, shuffle_keys
from windtunnel.errors import DataError


@dataclass(frozen=True, kw_only=True)
class ValidationSet:
    """Held-out tokens of one source. It holds no open file, so it can be sent to another process.

    A source of pairs has two sets with the same rows: of all its text, and of its completions given
    their prompts. In the second, `tokens` and `bytes` are those of completions.

    Attributes:
        name: The source's name; of completions, NAME_conditional.
        folder: Where its tokens lie.
        vocab_size: Ids are below it.
        tokens: Number of tokens, separators included.
        bytes: UTF-8 bytes behind the tokens, one more per document; None if unknown.
        documents: Number of documents.
        contamination: Share of its tokens that also occur in training (see `dedup.py`); None if
            not measured.
        fingerprint: SHA-256 of the tokens, first 16 hex digits; of completions, one of the tokens
            and which of them count.
        paired: Whether the documents are pairs.
        conditional: Whether only completions count.
    """

    name: str
    folder: Path
    vocab_size: int
    tokens: int
    bytes: int | None
    documents: int
    contamination: float | None
    fingerprint: str
    paired: bool = False
    conditional: bool = False

    @classmethod
    def open(cls, folder: Path, *, name: str) -> tuple["ValidationSet", ...]:
        """Validation sets of a built source: one, two for pairs, none if nothing is held out.

        Raises:
            DataError: The folder is missing or damaged.
        """
        manifest = read_source(folder)
        side = manifest["validation"]
        if not side["tokens"]:
            return ()
        paired = "mask_sha256" in side
        whole = cls(
            name=name,
            folder=folder,
            vocab_size=manifest["vocab_size"],
            tokens=side["tokens"],
            bytes=side["bytes"],
            documents=side["documents"],
            contamination=side["residue"],
            fingerprint=side["sha256"][:16],
            paired=paired,
        )
        if not paired:
            return (whole,)
        conditional = replace(
            whole,
            name=f"{name}{CONDITIONAL}",
            tokens=side["completion_tokens"],
            bytes=side["completion_bytes"],
            fingerprint=digest_of({"tokens": side["sha256"], "mask": side["mask_sha256"]}),
            conditional=True,
        )
        return whole, conditional

    @property
    def account(self) -> Account:
        """Account of its source, both sides included."""
        return Account.of(self.name, read_source(self.folder))

    @property
    def bytes_per_token(self) -> float | None:
        """The divisor from nats per token to nats per byte; None if the bytes are unknown."""
        return None if self.bytes is None else self.bytes / self.tokens

    def rows(self, context: int, tokens: int) -> npt.NDArray[np.int64]:
        """The first rows of the set, in a fixed shuffled order.

        The shuffle makes a few rows a sample of the whole set; more tokens only add rows.

        Args:
            context: Tokens predicted in each row.
            tokens: Number of predicted tokens.

        Returns:
            Ids, shape (n, context + 1), n = ceil(tokens / context) or all rows there are. Of pairs,
            tokens without a loss are masked as in `pairs.py`.

        Raises:
            DataError: The set is too short for one row.
        """
        table = self._table(context)
        count = min(math.ceil(tokens / context), len(table))
        order = permute(np.arange(count), size=len(table), keys=shuffle_keys("validation"))
        return table[order].astype(np.int64)

    def check(self, context: int) -> None:
        """Check that the set has a row of this context.

        Raises:
            DataError: The set is too short for one row.
        """
        self._table(context)

    def _table(self, context: int) -> PackedRows | npt.NDArray[np.unsignedinteger]:
        path, dtype = self.folder / "validation.bin", read_source(self.folder)["dtype"]
        if self.paired:
            return PackedRows(
                path,
                mask_file(path),
                dtype=dtype,
                context=context,
                completion=self.conditional,
                where=f"validation set {self.name!r}",
            )
        if self.tokens < context + 1:
            raise DataError(
                "too-few-tokens",
                f"validation set {self.name!r}: {self.tokens} tokens are too few for one row of "
                f"context {context} + 1; raise data.validation.fraction or shorten the context",
                validation_set=self.name,
                tokens=self.tokens,
                context=context,
            )
        flat = np.asarray(np.memmap(path, dtype=dtype, mode="r"))
        return np.lib.stride_tricks.sliding_window_view(flat, context + 1)[::context]


def read_source(folder: Path) -> dict[str, Any]:
    """Manifest of a built source, after a check of its file sizes.

    Raises:
        DataError: The folder is missing or damaged.
    """
    manifest = read_manifest(folder, "source")
    for path, side, dtype, _ in _files(folder, manifest):
        want = side["tokens"] * np.dtype(dtype).itemsize
        have = path.stat().st_size if path.exists() else 0
        if have != want:
            raise DataError(
                "damaged",
                f"{path}: damaged: {have} bytes where the manifest has {want}; "
                f"{prepare_again(folder)}",
                path=path,
                bytes=have,
                expected=want,
            )
    return manifest


def verify_source(
    folder: Path, digests: Digests | None = None, tell: Callable[[int], None] | None = None
) -> None:
    """Read every file of a built source that `digests` does not know as unchanged.

    Raises:
        DataError: A file is not what was written, or holds an id beyond the vocabulary.
    """
    manifest = read_source(folder)
    check_manifest(folder, manifest)
    digests, vocab_size = digests or Digests(), manifest["vocab_size"]
    for path, _, dtype, sha256 in _files(folder, manifest):

        def check(part: bytes, path: Path = path, dtype: str = dtype) -> None:
            ids = np.frombuffer(part, dtype=dtype)
            if dtype != "u1" and ids.max(initial=0) >= vocab_size:
                raise DataError(
                    "damaged",
                    f"{path}: damaged: it holds the id {ids.max()}, and the vocabulary has "
                    f"{vocab_size}; {prepare_again(folder)}",
                    path=path,
                    id=int(ids.max()),
                    vocab_size=vocab_size,
                )

        if digests.sha256_of(path, tell, check) != sha256:
            raise DataError(
                "damaged",
                f"{path}: damaged: its SHA-256 is not the manifest's; {prepare_again(folder)}",
                path=path,
            )


def _files(
    folder: Path, manifest: dict[str, Any]
) -> Iterator[tuple[Path, dict[str, Any], str, str]]:
    """Files of a built source: path, the manifest's entry of its side, data type, SHA-256."""
    for name in ("train", "validation"):
        side, path = manifest[name], folder / f"{name}.bin"
        yield path, side, manifest["dtype"], side["sha256"]
        if "mask_sha256" in side:
            yield mask_file(path), side, "u1", side["mask_sha256"]
