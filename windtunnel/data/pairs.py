"""Pairs of a prompt and its completion, and what is noted of each of their tokens."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from windtunnel.data.tokenizer import Encoded, Ids, Tokenizer

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


def encode_pairs(
    tokenizer: Tokenizer, pairs: Iterable[Pair], where: str
) -> tuple[list[Encoded], list[Encoded], Mask]:
    """Prompts and completions encoded apart, so that a token ends where the prompt does.

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
