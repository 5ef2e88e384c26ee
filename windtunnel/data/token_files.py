"""Sources that come as token ids: raw `.bin`, `.npy`, or Megatron's `.bin` with `.idx`."""

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from windtunnel.data.spec import Source
from windtunnel.errors import DataError

# Files without documents are cut in blocks of this many tokens, the unit of the split.
BLOCK_TOKENS = 8192

_MEGATRON_MAGIC = b"MMIDIDX\x00\x00"
_MEGATRON_HEADER = struct.Struct("<QBQQ")  # version, dtype code, sequences, document index length
_MEGATRON_DTYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}


@dataclass(frozen=True)
class TokenDocument:
    """Token ids, shape (n,), and where they stand: file and number of the first token in it."""

    ids: npt.NDArray[np.integer[Any]]
    path: Path
    start: int

    def checked(self, vocab_size: int) -> npt.NDArray[np.integer[Any]]:
        """The ids.

        Raises:
            DataError: If an id is negative or not below `vocab_size`; names the id and its place.
        """
        low, high = int(self.ids.min()), int(self.ids.max())
        if low < 0 or high >= vocab_size:
            wrong = low if low < 0 else high
            place = self.start + int(np.flatnonzero(self.ids == wrong)[0])
            raise DataError(
                f"{self.path}: token {place} has id {wrong}; allowed is 0 to {vocab_size - 1} "
                f"(vocab_size = {vocab_size}): set the tokenizer's vocab_size, or the file's dtype"
            )
        return self.ids


def token_documents(source: Source, paths: list[Path]) -> Iterator[TokenDocument]:
    """Documents of token files: Megatron's own, else blocks of BLOCK_TOKENS tokens.

    Raises:
        DataError: If a file is damaged or not a flat list of integers.
    """
    for path in paths:
        if path.suffix == ".npy":
            yield from _blocks(_npy(path), path)
        elif path.with_suffix(".idx").exists():
            yield from _megatron(path)
        else:
            yield from _blocks(_flat(path, np.dtype(source.dtype).newbyteorder("<")), path)


def _blocks(ids: npt.NDArray[Any], path: Path) -> Iterator[TokenDocument]:
    for start in range(0, len(ids), BLOCK_TOKENS):
        yield TokenDocument(np.asarray(ids[start : start + BLOCK_TOKENS]), path, start)


def _flat(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if path.stat().st_size % dtype.itemsize:
        raise DataError(
            f"{path}: {path.stat().st_size} bytes are not a whole number of {dtype.name} tokens; "
            "is it cut off, or is dtype wrong?"
        )
    return np.memmap(path, dtype=dtype, mode="r")


def _npy(path: Path) -> npt.NDArray[Any]:
    try:
        ids = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: not a plain .npy array ({error})") from error
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise DataError(
            f"{path}: an array of {ids.dtype} with shape {ids.shape}; "
            "needed is a flat (1-D) array of integers"
        )
    if not len(ids):
        raise DataError(f"{path}: the array is empty")
    return ids  # type: ignore[no-any-return]


def _megatron(path: Path) -> Iterator[TokenDocument]:
    index = path.with_suffix(".idx").read_bytes()
    where = path.with_suffix(".idx")
    body = len(_MEGATRON_MAGIC) + _MEGATRON_HEADER.size
    if not index.startswith(_MEGATRON_MAGIC) or len(index) < body:
        raise DataError(f"{where}: not a Megatron index (it does not open with MMIDIDX)")
    version, code, sequences, entries = _MEGATRON_HEADER.unpack_from(index, len(_MEGATRON_MAGIC))
    if version != 1 or code not in _MEGATRON_DTYPES:
        raise DataError(
            f"{where}: version {version}, dtype code {code}; readable are version 1 and the "
            f"integer codes {sorted(_MEGATRON_DTYPES)}"
        )
    if len(index) < body + 12 * sequences + 8 * entries:
        raise DataError(f"{where}: cut off, {sequences} sequences announced")
    sizes = np.frombuffer(index, "<i4", sequences, body)
    pointers = np.frombuffer(index, "<i8", sequences, body + 4 * sequences)
    documents = np.frombuffer(index, "<i8", entries, body + 12 * sequences)
    ids = _flat(path, np.dtype(_MEGATRON_DTYPES[code]))
    starts = pointers // ids.itemsize
    if sequences and int((starts + sizes).max()) > len(ids):
        raise DataError(f"{path}: shorter than {where.name} says; is it cut off?")
    for first, last in itertools.pairwise(documents):
        parts = [ids[starts[s] : starts[s] + sizes[s]] for s in range(first, last)]
        if sum(map(len, parts)):
            yield TokenDocument(np.concatenate(parts), path, int(starts[first]))
