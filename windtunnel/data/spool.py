"""Texts on the disk between reading and tokenising: end to end, each closed by byte 0."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

_BATCH_BYTES = 1 << 22


def joined(texts: Iterable[bytes]) -> npt.NDArray[np.uint8]:
    """Texts as a spool holds them."""
    return np.frombuffer(b"".join(text + b"\0" for text in texts), dtype=np.uint8)


def spooled(spool: Path) -> Iterator[bytes]:
    """The texts of a spool, in order."""
    tail = b""
    with spool.open("rb") as file:
        while chunk := file.read(_BATCH_BYTES):
            *whole, tail = (tail + chunk).split(b"\0")
            yield from whole


def batches(texts: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Lists of texts, each of about four million bytes."""
    batch: list[bytes] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
