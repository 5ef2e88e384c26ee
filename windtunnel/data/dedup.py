"""Near-duplicate documents, and contamination (train-test overlap).

A document is a near-duplicate when half of it, or another share, was read before. It is split into
paragraphs (at blank lines), or into sentences if it has few paragraphs; each is remembered by a
64-bit hash of its words. This is simpler and faster than MinHash (measured: 100 MB of code in 1.3 s
on one core), and finds a short document copied into a long one. Memory grows with the text, by
about 70 bytes a paragraph.

Contamination is the share of validation tokens that lie in a window of `window` tokens which occurs
anywhere in training, at any offset. Windows are compared by 64-bit hashes, built by doubling: the
hash of 2k tokens joins the hashes of two neighbouring runs of k. Training is first split into
blocks of half a window: any repeated window contains a whole block, so only windows near a block
that occurs in validation are hashed. Exact up to hash collisions; 90 MB in about two seconds
(measured).
"""

import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from windtunnel.config.data import NEAR_DUPLICATE_SHARE
from windtunnel.data.account import Tally

# With fewer paragraphs one edited word would hide a copy, so sentences are compared.
FEW_PARAGRAPHS = 4
# Repeats shorter than this (a heading, a brace) are part of the language, not copies.
SHORTEST_REPEAT_BYTES = 32

PARAGRAPH_BREAK = re.compile(rb"\n[ \t\r]*\n\s*?(?=\S|[ \t]|\Z)")
_SENTENCE_BREAK = re.compile(rb"(?<=[.!?])\s+|\n")


class NearDuplicates:
    """Memory of the text read so far, which finds the new part of the next document.

    Args:
        drop_repeats: Also remove repeated paragraphs from documents that are kept.
        whole: Compare whole documents, for text that shares a template.
        share: Share already read at which a document is a near-duplicate.
        tally: Counts near-duplicates and repeated paragraphs.
    """

    def __init__(
        self,
        *,
        drop_repeats: bool = False,
        whole: bool = False,
        share: float = NEAR_DUPLICATE_SHARE,
        tally: Tally | None = None,
    ) -> None:
        self._drop_repeats, self._whole, self._share = drop_repeats, whole, share
        self._tally = tally or Tally()
        self._seen: set[bytes] = set()

    @property
    def dropped(self) -> int:
        """Near-duplicates found so far."""
        return self._tally.count("near-duplicate")

    def novel(self, document: bytes) -> bytes | None:
        """The document, perhaps without repeated paragraphs; None if a near-duplicate."""
        parts = [document] if self._whole else PARAGRAPH_BREAK.split(document)
        if len(parts) < FEW_PARAGRAPHS and not (self._drop_repeats or self._whole):
            parts = _SENTENCE_BREAK.split(document)
        digests = [_digest(part) for part in parts]
        repeated = sum(
            len(part) for part, key in zip(parts, digests, strict=True) if key in self._seen
        )
        if repeated >= self._share * sum(map(len, parts)):
            self._tally.add("near-duplicate", 1, len(document), example=self._tally.place)
            return None
        if not self._drop_repeats:
            self._seen.update(digests)
            return document
        kept = []
        for part, key in zip(parts, digests, strict=True):
            if key not in self._seen or len(part) < SHORTEST_REPEAT_BYTES:
                kept.append(part)
            else:
                self._tally.add("repeated-paragraph", 1, len(part))
            self._seen.add(key)
        return b"\n\n".join(kept)


def _digest(part: bytes) -> bytes:
    return hashlib.blake2b(b" ".join(part.split()), digest_size=8).digest()


# 64 bytes is about ten words: long enough that chance and idiom rarely repeat it.
WINDOW_BYTES = 64
# The same length in tokens of about four bytes, for sources that come as tokens.
WINDOW_TOKENS = 16
# A validation paragraph more than this share of which occurs in training is dropped from builtins.
# Measured: 1/4 leaves a contamination of 0.5% (docs) and 2.7% (code); 1/2 of 2.8% and 6.9%.
CLEAN_SHARE = 0.25

# Blocks looked up at once; small enough that they and their hashes stay in the cache.
_CHUNK = 1 << 12
# Two threads: numpy releases the lock, and more would slow trials on a shared machine.
_THREADS = 2

Mask = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint64]


def repeated_windows(
    train: npt.NDArray[Any], validation: npt.NDArray[Any], *, window: int
) -> Hashes:
    """Hashes of the windows of validation that also occur in training, sorted.

    Args:
        train: Unsigned tokens or bytes, shape (n,); may be a memory map.
        validation: The same kind, shape (m,).
        window: Window length, a power of two, and 16 bytes or more.
    """
    if min(len(train), len(validation)) < window:
        return np.empty(0, dtype=np.uint64)
    half = window // 2
    windows = _Lookup(_window_hashes(validation, window))
    halves = _Lookup(_window_hashes(validation, half))
    repeated = np.zeros(len(windows.known), dtype=bool)

    blocks = train[: len(train) // half * half].reshape(-1, half)
    span = min(3 * half, len(train))
    around = np.lib.stride_tricks.sliding_window_view(train, span)

    def look(first: int) -> None:
        near = first + halves.places(_block_hashes(blocks[first : first + _CHUNK]))[0]
        # Half a window to the left of the block, the block, and half a window to the right.
        begins = np.clip((near - 1) * half, 0, len(around) - 1)
        repeated[windows.places(_window_hashes(around[begins], window).ravel())[1]] = True

    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        list(pool.map(look, range(0, len(blocks), _CHUNK)))
    return windows.known[repeated]


def repeated_mask(tokens: npt.NDArray[Any], repeated: Hashes, *, window: int) -> Mask:
    """Mask of the tokens in one of the `repeated` windows: booleans, shape (n,)."""
    if len(tokens) < window or not len(repeated):
        return np.zeros(len(tokens), dtype=bool)
    starts = _Lookup(repeated).places(_window_hashes(tokens, window))[0]
    edges = np.zeros(len(tokens) + 1, dtype=np.int32)
    edges[starts] += 1
    edges[starts + window] -= 1
    return np.cumsum(edges)[:-1] > 0


def without_repeats(documents: list[bytes], mask: Mask, tally: Tally | None = None) -> list[bytes]:
    """Validation documents without the paragraphs that also occur in training.

    Args:
        documents: Validation documents.
        mask: From `repeated_mask` over the documents, each followed by one separator byte.
        tally: Counts the paragraphs left out.

    Returns:
        The documents that keep any text.
    """
    marked = np.concatenate([[0], np.cumsum(mask)])
    cleaned, tally = [], tally or Tally()
    start = 0
    for document in documents:
        kept = []
        for begin, end in _paragraph_spans(document):
            if marked[start + end] - marked[start + begin] <= CLEAN_SHARE * (end - begin):
                kept.append(document[begin:end])
            else:
                tally.add("residue", 1, end - begin)
        if kept:
            cleaned.append(b"\n\n".join(kept))
        start += len(document) + 1
    return cleaned


def _paragraph_spans(document: bytes) -> list[tuple[int, int]]:
    breaks = [match.span() for match in PARAGRAPH_BREAK.finditer(document)]
    begins = [0, *(end for _, end in breaks)]
    ends = [*(begin for begin, _ in breaks), len(document)]
    return [(begin, end) for begin, end in zip(begins, ends, strict=True) if end > begin]


class _Lookup:
    """A set of hashes, with a table on their top bits that answers "surely not" without search."""

    _BITS = 24

    def __init__(self, hashes: Hashes) -> None:
        self.known = np.sort(hashes)  # np.unique is ten times slower (measured)
        self._shift = np.uint64(64 - self._BITS)
        self._maybe = np.zeros(1 << self._BITS, dtype=bool)
        self._maybe[self.known >> self._shift] = True

    def places(self, hashes: Hashes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Positions in `hashes` of those in the set, and the first positions in `known`."""
        candidates = np.flatnonzero(self._maybe[hashes >> self._shift])
        wanted = hashes[candidates]
        known = np.searchsorted(self.known, wanted)
        known[known == len(self.known)] = 0
        equal = self.known[known] == wanted
        return candidates[equal], known[equal]


def _window_hashes(tokens: npt.NDArray[Any], window: int) -> Hashes:
    """Hash of every window along the last axis: shape (..., n) to (..., n - window + 1)."""
    plain = np.ascontiguousarray(tokens)
    width = 8 // plain.itemsize
    shape = (*plain.shape[:-1], plain.shape[-1] - width + 1)
    # Eight bytes are already a 64-bit number; reading one at every token is one copy.
    hashes = _scrambled(np.ndarray(shape, "<u8", plain, strides=plain.strides).astype(np.uint64))
    while width < window:
        hashes = _joined(hashes[..., :-width], hashes[..., width:], width)
        width *= 2
    return hashes


def _block_hashes(blocks: npt.NDArray[Any]) -> Hashes:
    """The same hash for each row alone: shape (rows, block) to (rows,)."""
    plain = np.ascontiguousarray(blocks)
    width = 8 // plain.itemsize
    hashes = _scrambled(plain.view("<u8").astype(np.uint64))
    while hashes.shape[-1] > 1:
        hashes = _joined(hashes[:, ::2], hashes[:, 1::2], width)
        width *= 2
    return hashes[:, 0]


def _scrambled(words: Hashes) -> Hashes:
    words *= np.uint64(0xD6E8FEB86659FD93)  # an odd constant with well-mixed bits
    words ^= words >> np.uint64(29)
    return words


def _joined(left: Hashes, right: Hashes, width: int) -> Hashes:
    """Hash of two neighbouring runs of `width` tokens; each width has its own odd multiplier."""
    joined = left * np.uint64((0x9E3779B97F4A7C15 * (2 * width + 1)) % 2**64)
    joined += right
    joined ^= joined >> np.uint64(29)
    return joined
