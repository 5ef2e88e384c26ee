"""Pairs of a prompt and its completion, and what is noted of each of their tokens."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from windtunnel.data.tokenizer import Ids, Tokenizer

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
    """Pairs that stand on one side of the split, and what decides on which."""

    content: bytes
    pairs: list[Pair]


def mask_file(tokens: Path) -> Path:
    """Where the mask of a token file lies."""
    return tokens.with_suffix(".mask.bin")


def encode_pairs(tokenizer: Tokenizer, pairs: Iterable[Pair]) -> tuple[Ids, Mask]:
    """Ids of pairs end to end, each closed by the separator, and their mask: both of shape (n,).

    Prompt and completion are encoded apart, so that a token ends where the prompt does.
    """
    parts: list[npt.NDArray[np.unsignedinteger[Any]]] = []
    lengths: list[int] = []
    end = np.array([tokenizer.end_id], dtype=np.uint32)
    pieces = tokenizer.pieces([text for pair in pairs for text in pair])
    for prompt, completion in zip(pieces, pieces, strict=True):
        parts += (prompt, completion, end)
        lengths += (len(prompt), len(completion) + 1)
    mask = np.repeat(np.tile(np.array([0, COUNTS], np.uint8), len(lengths) // 2), lengths)
    mask[np.cumsum([0, *lengths[:-1]])[::2]] |= OPENS
    return np.concatenate(parts), mask
