"""Pairs of a prompt and its completion, their loss mask, and the rows they are packed into.

A row begins with an example and holds as many whole examples as fit. A token that is read without a
loss on its prediction is masked: stored as its bitwise complement `~id`, which is negative. The
first token of a row is never predicted, and never masked.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from windtunnel.data.tokenizer import Encoded, Ids, Tokenizer
from windtunnel.errors import DataError

COUNTS = 1
"""Bit of a mask: a token of a completion, or the separator that ends it."""
OPENS = 2
"""Bit of a mask: the first token of an example."""

Mask = npt.NDArray[np.uint8]


class Pair(NamedTuple):
    """One example, UTF-8 without byte 0; only the prompt may be empty."""

    prompt: bytes
    completion: bytes


class PairGroup(NamedTuple):
    """Pairs that stay together on one side of the split, and the content that decides the side."""

    content: bytes
    pairs: list[Pair]


def mask_file(tokens: Path) -> Path:
    """Path of a token file's mask."""
    return tokens.with_suffix(".mask.bin")


def encode_pairs(
    tokenizer: Tokenizer, pairs: Iterable[Pair], where: str
) -> tuple[list[Encoded], list[Encoded], Mask]:
    """Prompts and completions, encoded separately so that a token ends where the prompt does.

    Returns:
        The prompts, the completions, and the mask of both end to end, each pair closed by the
        separator.
    """
    pieces = list(tokenizer.pieces([text for pair in pairs for text in pair], where))
    prompts, completions = pieces[::2], pieces[1::2]
    lengths = [len(each.ids) + number % 2 for number, each in enumerate(pieces)]
    mask = np.repeat(np.tile(np.array([0, COUNTS], np.uint8), len(prompts)), lengths)
    mask[np.cumsum([0, *lengths[:-1]])[::2]] |= OPENS
    return prompts, completions, mask


def joined_ids(prompts: list[Encoded], completions: list[Encoded], end_id: int) -> Ids:
    """Ids of pairs end to end, each closed by the separator, shape (n,)."""
    end = np.array([end_id], dtype=np.uint32)
    pairs = zip(prompts, completions, strict=True)
    return np.concatenate([part for p, c in pairs for part in (p.ids, c.ids, end)])


Places = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Packing:
    """The tokens of a file that each row reads.

    Attributes:
        first: Position of each row's first token, shape (rows,).
        held: Tokens of each row in whole or cut examples, shape (rows,).
        examples: Number of examples in the file.
        cut: Number of examples longer than a row, cut at its end.
        left_out: Number of dropped examples, whose prompt alone fills a row.
    """

    first: Places
    held: Places
    examples: int
    cut: int
    left_out: int


def pack(mask: Mask, context: int) -> Packing:
    """Rows of `context` + 1 tokens, filled in the order of the file."""
    row = context + 1
    starts = np.flatnonzero(mask & OPENS)
    ends = np.append(starts[1:], len(mask))
    long = ends - starts > row
    # For each example, the first one that does not fit into a row starting with it.
    following = np.searchsorted(ends, starts + row, side="right")
    following[long] = np.flatnonzero(long) + 1
    begins, example, then = [], 0, following.tolist()
    while example < len(starts):
        begins.append(example)
        example = then[example]
    opening = np.array(begins, dtype=np.int64)
    # The first token of a row is not predicted, so completions count only after it.
    answers = np.append(np.flatnonzero(mask & COUNTS), len(mask))
    answer = answers[np.searchsorted(answers, starts[opening] + 1)]
    lost = long[opening] & (answer >= starts[opening] + row)
    opening = opening[~lost]
    return Packing(
        first=starts[opening],
        held=np.minimum(ends[following[opening] - 1] - starts[opening], row),
        examples=len(starts),
        cut=int(np.count_nonzero(long) - np.count_nonzero(lost)),
        left_out=int(np.count_nonzero(lost)),
    )


@lru_cache(maxsize=32)
def packing_of(mask: Path, context: int) -> Packing:
    """The packing of a mask file, cached because a prepared folder never changes."""
    return pack(np.fromfile(mask, dtype=np.uint8), context)


class PackedRows:
    """A table of rows: `len(table)`, and `table[numbers]`, int64, shape (n, context + 1).

    Args:
        tokens: The token file.
        mask: Its mask.
        dtype: Data type of the token file.
        context: Tokens predicted in each row.
        completion: Mask all tokens but completions.
        where: Name of the source, for errors.

    Raises:
        DataError: No example fits.
    """

    def __init__(
        self, tokens: Path, mask: Path, *, dtype: str, context: int, completion: bool, where: str
    ) -> None:
        self._packing = packing_of(mask, context)
        if not len(self):
            raise DataError(
                "prompts-fill-rows",
                f"{where}: every prompt fills a row of context {context} + 1, so that no "
                "completion is left to predict; give shorter prompts or a longer context",
                where=where,
                context=context,
            )
        self._tokens = np.asarray(np.memmap(tokens, dtype=dtype, mode="r"))
        self._mask = np.asarray(np.memmap(mask, dtype=np.uint8, mode="r")) if completion else None
        self._within = np.arange(context + 1)

    def __len__(self) -> int:
        return len(self._packing.first)

    def __getitem__(self, rows: Places) -> npt.NDArray[np.int64]:
        places = self._packing.first[rows, None] + self._within
        # A file ends with a separator, and so does a row that runs past its end.
        ids: npt.NDArray[Any] = self._tokens.take(places, mode="clip").astype(np.int64)
        counts = self._within < self._packing.held[rows, None]
        if self._mask is not None:
            counts &= (self._mask.take(places, mode="clip") & COUNTS).astype(bool)
        counts[:, 0] = True
        return np.where(counts, ids, ~ids)
