"""Train or validation, decided by what a document says and not by where it stands."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from windtunnel.data.account import Tally
from windtunnel.errors import DataError

Document = TypeVar("Document")


def split_documents(
    documents: Iterable[Document],
    *,
    fraction: float,
    content: Callable[[Document], bytes],
    where: str,
    why: Callable[[], str] = lambda: "give more text, for instance in more files",
) -> Iterator[tuple[Document, bool]]:
    """Each document with whether it is validation: if hash(content) < fraction.

    Where no document falls below the fraction, the one of the lowest hash is taken, so that a small
    source has a validation set too. A fraction of 0 or 1 puts all on one side. `why` says what may
    be done where nothing can be split.

    Raises:
        DataError: If a fraction above 0 leaves nothing for training or for validation.
    """
    held: tuple[float, Document] | None = None
    validation = training = 0
    for document in documents:
        rank = _rank(content(document))
        if rank < fraction:
            validation += 1
            yield document, True
            continue
        training += 1
        # Until one falls below the fraction, the lowest so far waits to see which side it is on.
        if validation or fraction == 0:
            yield document, False
        elif held is None:
            held = (rank, document)
        elif rank < held[0]:
            yield held[1], False
            held = (rank, document)
        else:
            yield document, False
    if held is not None:
        training -= validation == 0
        yield held[1], validation == 0
    if 0 < fraction < 1 and not training:
        raise DataError(
            f"{where}: {validation + (held is not None)} document(s) cannot be split into training "
            f"and validation; {why()}"
        )


def few_documents(tally: Tally) -> str:
    """Why a source has too few documents to be split, and what to do about it."""
    if dropped := tally.count("near-duplicate"):
        return (
            f"{dropped:,} others were left out as near-duplicates of what was read before; set "
            "data.dedup: off, or to a higher share, or give more text"
        )
    said = tally.said()
    return f"give more text, for instance in more files{f' (left out: {said})' if said else ''}"


def _rank(content: bytes) -> float:
    """A number in [0, 1), uniform over documents."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=6).digest(), "big") / 2**48
