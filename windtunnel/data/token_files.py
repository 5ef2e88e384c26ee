"""Sources of token ids: raw `.bin`, `.npy`, or Megatron's `.bin` with `.idx`.

Ids are checked against the vocabulary and split, but not changed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from windtunnel.data.account import Tally
from windtunnel.data.artifacts import Sides
from windtunnel.data.files import index_of, source_files, suffix_of
from windtunnel.data.megatron import megatron_documents
from windtunnel.data.raw_tokens import RawTokens, likely_dtype, raw_tokens
from windtunnel.data.source import Source
from windtunnel.data.tokenize import split_documents
from windtunnel.errors import DataError, boundary

# Files without documents are cut into blocks of this many tokens, the unit of the split.
BLOCK_TOKENS = 8192

_NPY_MAGIC = b"\x93NUMPY"


@dataclass(frozen=True)
class TokenDocument:
    """Token ids, shape (n,), with their file and the number of the first token in it."""

    ids: npt.NDArray[np.integer[Any]]
    path: Path
    start: int
    raw: RawTokens | None = None

    def checked(self, vocab_size: int) -> npt.NDArray[np.integer[Any]]:
        """The ids.

        Raises:
            DataError: An id is negative or not below `vocab_size`; names the id and its place.
        """
        low, high = int(self.ids.min()), int(self.ids.max())
        if low < 0 or high >= vocab_size:
            wrong = low if low < 0 else high
            place = self.start + int(np.flatnonzero(self.ids == wrong)[0])
            # `.npy` and Megatron files state their data type.
            likely, fix = None, "set the vocab_size of the tokenizer that made them"
            if self.raw:
                fix = "set the tokenizer's vocab_size, or the file's dtype"
                if other := likely_dtype(self.raw, vocab_size):
                    likely, fix = other
            elif low < 0:
                fix = "remove it; a mask, such as -100, is not a token"
            raise DataError(
                "out-of-range",
                f"{self.path}: token {place} has id {wrong}; allowed is 0 to {vocab_size - 1} "
                f"(vocab_size = {vocab_size}): {fix}",
                path=self.path,
                token=place,
                id=wrong,
                vocab_size=vocab_size,
                likely=likely,
            )
        return self.ids


def token_documents(
    source: Source, paths: list[Path], tally: Tally | None = None
) -> Iterator[TokenDocument]:
    """Documents of token files: Megatron's own, else blocks of BLOCK_TOKENS tokens.

    Args:
        source: The source; its dtype is that of raw files.
        paths: The files.
        tally: Counts tokens outside any document.

    Raises:
        DataError: A file is damaged, another format, or not a flat list of integers.
    """
    tally = tally or Tally()
    for path in paths:
        with boundary(path, "is it whole, and may it be read?"):
            yield from _documents(source, path, tally)


def _documents(source: Source, path: Path, tally: Tally) -> Iterator[TokenDocument]:
    if suffix_of(path) == ".npy":
        with path.open("rb") as file:
            has_header = file.read(len(_NPY_MAGIC)) == _NPY_MAGIC
        if has_header:
            yield from _blocks(_npy(path), path)
            return
        # OLMo and dolma write raw ids under this suffix.
        tally.add("raw-npy", example=path.name)
    elif index := index_of(path):
        for ids, start in megatron_documents(path, index, tally):
            yield TokenDocument(ids, path, start)
        return
    raw = raw_tokens(path, source.dtype)
    yield from _blocks(raw.ids(), path, raw)


def _blocks(
    ids: npt.NDArray[Any], path: Path, raw: RawTokens | None = None
) -> Iterator[TokenDocument]:
    for start in range(0, len(ids), BLOCK_TOKENS):
        yield TokenDocument(np.asarray(ids[start : start + BLOCK_TOKENS]), path, start, raw)


def _npy(path: Path) -> npt.NDArray[Any]:
    with boundary(path, "write it again with numpy.save", what="not a plain .npy array"):
        ids = np.load(path, mmap_mode="r", allow_pickle=False)
    size, want = path.stat().st_size, ids.offset + ids.nbytes
    if size != want:
        raise DataError(
            "wrong-size",
            f"{path}: {size} bytes, where its header announces {want}: another array, or something "
            "else, follows the first; write one array to a file, with numpy.save",
            path=path,
            bytes=size,
            expected=want,
        )
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise DataError(
            "wrong-type",
            f"{path}: an array of {ids.dtype} with shape {ids.shape}; "
            "needed is a flat (1-D) array of integers",
            path=path,
            type=str(ids.dtype),
            shape=ids.shape,
        )
    if not len(ids):
        raise DataError("empty", f"{path}: the array is empty", path=path)
    return ids  # type: ignore[no-any-return]


def write_ids(
    source: Source,
    sides: Sides,
    *,
    vocab_size: int,
    tally: Tally,
    tell: Callable[[str, int, int | None], None],
) -> None:
    """Write both sides of a source of token ids; the bytes behind them are unknown.

    Raises:
        DataError: An id is outside the vocabulary, or the source cannot be split.
    """
    paths = [path for _, path in source_files(source, tally)]
    parts = split_documents(
        token_documents(source, paths, tally),
        fraction=sides.fraction,
        content=_content,
        where=f"data source {source.name!r}",
    )
    for number, (document, is_validation) in enumerate(parts, start=1):
        writer = sides.validation if is_validation else sides.train
        writer.append(document.checked(vocab_size))
        writer.documents += 1
        if number % 256 == 0:
            tell(f"{source.name}: reading documents", number, None)


def _content(document: TokenDocument) -> bytes:
    # int64, so that the split does not depend on the file's data type.
    return document.ids.astype("<i8").tobytes()
