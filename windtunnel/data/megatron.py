"""Megatron's `.bin` with `.idx`: the place of each sequence, and the sequences of each document."""

import itertools
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from windtunnel.data.account import Tally
from windtunnel.errors import DataError, boundary

_MAGIC = b"MMIDIDX\x00\x00"
_OLD_MAGIC = b"TNTIDX\x00\x00"
_HEADER = struct.Struct("<QBQQ")  # version, dtype code, sequences, document index length
_DTYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
_FIX = "is it cut off, or of another .bin? Write both again with Megatron's preprocess_data.py"


def megatron_documents(
    path: Path, index: Path, tally: Tally
) -> Iterator[tuple[npt.NDArray[Any], int]]:
    """Ids of each document, shape (n,), and the number of its first token in the file.

    Raises:
        DataError: The index is damaged, or leads out of the file; names its entry.
    """
    with boundary(index, _FIX, what="not a Megatron index"):
        dtype, sizes, pointers, documents = _read(index)
        total, rest = divmod(path.stat().st_size, dtype.itemsize)
    if rest:
        raise DataError(
            "partial-token",
            f"{path}: {path.stat().st_size} bytes are not a whole number of {dtype.name} tokens, "
            f"the type that {index.name} names; {_FIX}",
            path=path,
            bytes=path.stat().st_size,
            token_bytes=dtype.itemsize,
        )
    _check(path, index, dtype.itemsize, total, (sizes, pointers, documents))
    ids = np.memmap(path, dtype=dtype, mode="r")
    starts = pointers // dtype.itemsize
    tally.add("unindexed-tokens", total - int(sizes.sum()), example=path.name)
    for first, last in itertools.pairwise(documents.tolist()):
        parts = [ids[starts[s] : starts[s] + sizes[s]] for s in range(first, last)]
        if sum(map(len, parts)):
            yield np.concatenate(parts), int(starts[first])
        else:
            tally.add("blank")


def _read(
    index: Path,
) -> tuple[np.dtype[Any], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Data type, sizes and pointers of the sequences, and the starts of the documents."""
    data = index.read_bytes()
    body = len(_MAGIC) + _HEADER.size
    if data.startswith(_OLD_MAGIC):
        raise DataError(
            "wrong-format",
            f"{index}: fairseq's old index, not Megatron's MMIDIDX; {_FIX}",
            path=index,
            found="fairseq index",
        )
    if not data.startswith(_MAGIC) or len(data) < body:
        raise DataError(
            "wrong-format",
            f"{index}: not a Megatron index (it does not open with MMIDIDX); {_FIX}",
            path=index,
        )
    version, code, sequences, entries = _HEADER.unpack_from(data, len(_MAGIC))
    if version != 1 or code not in _DTYPES:
        raise DataError(
            "unknown-version",
            f"{index}: version {version}, dtype code {code}; readable are version 1 and the "
            f"integer codes {sorted(_DTYPES)}; {_FIX}",
            path=index,
            version=version,
            dtype_code=code,
        )
    if len(data) < body + 12 * sequences + 8 * entries:
        raise DataError(
            "wrong-size",
            f"{index}: cut off, {sequences} sequences announced; {_FIX}",
            path=index,
            sequences=sequences,
        )
    return (
        np.dtype(_DTYPES[code]),
        np.frombuffer(data, "<i4", sequences, body).astype(np.int64),
        np.frombuffer(data, "<i8", sequences, body + 4 * sequences),
        np.frombuffer(data, "<i8", entries, body + 12 * sequences),
    )


def _check(
    path: Path, index: Path, itemsize: int, total: int, arrays: tuple[npt.NDArray[np.int64], ...]
) -> None:
    """Check that an index covers its whole file in order."""
    sizes, pointers, documents = arrays

    def refuse(
        wrong: npt.NDArray[np.bool_],
        values: npt.NDArray[np.int64],
        message: Callable[[int, int], str],
    ) -> None:
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            value = int(values[at])
            raise DataError(
                "inconsistent-index",
                f"{index}: {message(at, value)}; {_FIX}",
                path=index,
                entry=at,
                value=value,
            )

    refuse(sizes < 0, sizes, lambda at, value: f"sequence {at} has a length of {value}")
    refuse(pointers < 0, pointers, lambda at, value: f"sequence {at} begins at byte {value}")
    refuse(
        pointers % itemsize != 0,
        pointers,
        lambda at, value: (
            f"sequence {at} begins at byte {value}, which is within a token of {itemsize} bytes"
        ),
    )
    ends = pointers // itemsize + sizes
    refuse(
        ends > total,
        ends,
        lambda at, value: (
            f"sequence {at} ends at token {value}, but {path.name} is shorter than {index.name} "
            f"says: {total} tokens"
        ),
    )
    refuse(
        pointers[1:] // itemsize < ends[:-1],
        ends,
        lambda at, value: (
            f"the sequence after sequence {at} begins before token {value}, where that one ends"
        ),
    )
    refuse(
        (documents < 0) | (documents > len(sizes)),
        documents,
        lambda at, value: f"document {at} begins at sequence {value} of {len(sizes)}",
    )
    refuse(
        documents[1:] < documents[:-1],
        documents,
        lambda at, value: (
            f"the document after document {at} begins before sequence {value}, where that one does"
        ),
    )
    if len(sizes) and (not len(documents) or documents[0] != 0 or documents[-1] != len(sizes)):
        held = f"{documents[0]} to {documents[-1]}" if len(documents) else "none"
        raise DataError(
            "inconsistent-index",
            f"{index}: its documents hold sequences {held}, not all of 0 to {len(sizes)}; {_FIX}",
            path=index,
            sequences=len(sizes),
            documents=len(documents),
        )
