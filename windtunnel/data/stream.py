"""The training stream: an infinite table of rows, each a pure function of its number and a seed.

A fixed pattern, repeated forever, decides which source a row comes from; a ramp leads from one
mixture to another. Each epoch of a source is shuffled by a permutation that is computed and not
stored: position -> shuffled position, in constant memory.

The permutation writes a number below `size` as (left, right) with left < a, right < b and a * b
just above `size`. Each half in turn is shifted by a hash of the other (a Feistel network). Every
shift can be undone, so the whole is a bijection of a * b numbers. The few results not below `size`
are permuted again until they land below it ("cycle walking"), which keeps the bijection.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from windtunnel.config.data import PERIOD, whole_shares
from windtunnel.data.pairs import PackedRows, mask_file, packing_of
from windtunnel.errors import DataError

# Six half rounds; four are the minimum for a pseudo-random permutation (Luby and Rackoff 1988).
HALF_ROUNDS = 6

Positions = npt.NDArray[np.uint64]


def shuffle_keys(*parts: str | int) -> tuple[int, ...]:
    """One 64-bit key for each half round, a pure function of `parts`."""
    text = "\x1f".join(map(str, parts)).encode()
    digest = hashlib.blake2b(text, digest_size=8 * HALF_ROUNDS).digest()
    return tuple(int.from_bytes(digest[i : i + 8], "little") for i in range(0, len(digest), 8))


def permute(
    positions: npt.NDArray[np.int64], *, size: int, keys: tuple[int, ...]
) -> npt.NDArray[np.int64]:
    """Shuffled positions: a bijection of range(size).

    Args:
        positions: Shape (n,), each in [0, size).
        size: Number of positions, 1 to 2**63.
        keys: From `shuffle_keys`.

    Returns:
        Shape (n,), each in [0, size).
    """
    left_size = math.isqrt(size - 1) + 1
    right_size = -(-size // left_size)
    shuffled = _feistel(positions.astype(np.uint64), left_size, right_size, keys)
    while (outside := shuffled >= size).any():
        shuffled[outside] = _feistel(shuffled[outside], left_size, right_size, keys)
    return shuffled.astype(np.int64)


def _feistel(
    positions: Positions, left_size: int, right_size: int, keys: tuple[int, ...]
) -> Positions:
    right, left = np.divmod(positions, np.uint64(left_size))
    for left_key, right_key in zip(keys[::2], keys[1::2], strict=True):
        left = (left + _hash32(right, left_key)) % np.uint64(left_size)
        right = (right + _hash32(left, right_key)) % np.uint64(right_size)
    return right * np.uint64(left_size) + left


def _hash32(half: Positions, key: int) -> Positions:
    """A 32-bit hash; adding it to a half cannot wrap, so the shift can be undone."""
    mixed = (half + np.uint64(key)) * np.uint64(0xBF58476D1CE4E5B9)  # multipliers of splitmix64
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0x94D049BB133111EB)
    return mixed >> np.uint64(32)


def row_counts(weights: Sequence[float], names: Sequence[str]) -> tuple[int, ...]:
    """Rows of each source in one period, by largest remainder, in lowest terms.

    A source of weight 0 has none.

    Raises:
        DataError: A source of positive weight would get no row in a period.
    """
    counts = whole_shares(weights)
    if starved := [s for s, count in enumerate(counts) if weights[s] and not count]:
        source = starved[0]
        raise DataError(
            "share-too-small",
            f"data source {names[source]!r}: its weight {weights[source]} is "
            f"{weights[source] / math.fsum(weights):.2g} of all weights; a share below "
            f"1/{2 * PERIOD} gets no rows: raise the weight or remove the source",
            source=names[source],
            weight=weights[source],
            share=weights[source] / math.fsum(weights),
        )
    divisor = math.gcd(*counts)
    return tuple(count // divisor for count in counts)


def interleave(counts: Sequence[int]) -> npt.NDArray[np.int64]:
    """Source of each slot of a period, shape (sum(counts),): each source evenly spread."""
    total = sum(counts)
    credit = [0] * len(counts)
    pattern = []
    for _ in range(total):
        credit = [have + count for have, count in zip(credit, counts, strict=True)]
        source = credit.index(max(credit))
        credit[source] -= total
        pattern.append(source)
    return np.array(pattern, dtype=np.int64)


def ramp_pattern(before: Sequence[int], after: Sequence[int], rows: int) -> npt.NDArray[np.int64]:
    """Source of each of `rows` rows while the mixture goes from `before` to `after`, shape (rows,).

    Both are counts of the same sources. Row k has the mixture (1 - p) before + p after, where
    p = (k + 0.5) / rows; like `interleave` it goes to the source that is most behind its share.
    Whole numbers, so that no machine rounds a tie.
    """
    old_total, new_total = sum(before), sum(after)
    old_shares = [count * new_total for count in before]
    new_shares = [count * old_total for count in after]
    whole = 2 * rows * old_total * new_total
    credit = [0] * len(before)
    pattern = []
    for gone in range(1, 2 * rows, 2):
        credit = [
            have + (2 * rows - gone) * old + gone * new
            for have, old, new in zip(credit, old_shares, new_shares, strict=True)
        ]
        source = credit.index(max(credit))
        credit[source] -= whole
        pattern.append(source)
    return np.array(pattern, dtype=np.int64)


def ranks(pattern: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Number of earlier slots of the same source, for each slot of a pattern."""
    rank = np.empty_like(pattern)
    for source in np.unique(pattern):
        here = pattern == source
        rank[here] = np.arange(np.count_nonzero(here))
    return rank


Rows = npt.NDArray[np.int64]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TokenFile:
    """A little-endian token file and its use in a stream.

    Attributes:
        name: Name of its source.
        path: Where it lies.
        dtype: Data type of its tokens.
        weight: Relative share of rows.
        paired: Whether it holds pairs, with a mask file beside it.
    """

    name: str
    path: Path
    dtype: str
    weight: float
    paired: bool = False

    def row_count(self, context: int) -> int:
        """Number of rows of this context."""
        if self.paired:
            return len(packing_of(mask_file(self.path), context).first)
        tokens = self.path.stat().st_size // np.dtype(self.dtype).itemsize
        return max(0, tokens - 1) // context

    def rows(
        self, context: int, *, completion: bool = False
    ) -> PackedRows | npt.NDArray[np.unsignedinteger]:
        """View of shape (rows, context + 1): row i is tokens[i*context : i*context + context + 1].

        Of pairs, whole examples packed into rows; see `pairs.py`.

        Raises:
            DataError: The file is too short for one row.
        """
        if self.paired:
            return PackedRows(
                self.path,
                mask_file(self.path),
                dtype=self.dtype,
                context=context,
                completion=completion,
                where=f"data source {self.name!r}",
            )
        tokens = self.path.stat().st_size // np.dtype(self.dtype).itemsize
        if tokens < context + 1:
            raise DataError(
                "too-few-tokens",
                f"data source {self.name!r}: {tokens} tokens are too few for one row of context "
                f"{context} + 1; give more text or a shorter context",
                source=self.name,
                tokens=tokens,
                context=context,
            )
        flat = np.asarray(np.memmap(self.path, dtype=self.dtype, mode="r"))
        return np.lib.stride_tricks.sliding_window_view(flat, context + 1)[::context]


class TrainStream:
    """Rows of `context` tokens and one target, drawn from weighted sources.

    Row r belongs to a source by a fixed pattern of r. The rows of each source are counted
    separately, and each epoch of a source is shuffled by (data_seed, epoch, source name). There is
    no state: any range of rows can be read in any order.

    A stream may begin at row `first` of a path that has read `begun` rows of each source. Every
    source continues where the path left it, so no row is repeated early. A stream that keeps its
    weights has the same rows as an uninterrupted one.

    Over its first `ramp` rows the mixture may be interpolated linearly from the weights `before`,
    which may name sources that the stream itself does not read.

    Args:
        files: Token files of all sources.
        context: Tokens predicted in each row.
        first: Row of the path at which the stream begins.
        begun: Rows of each source, of this context, that the path has read before.
        passed: Epochs of each source before; default: `begun` divided by its rows.
        ramp: Rows over which the mixture changes.
        before: Weights at the start of a ramp.
        completion: Mask the loss of everything but completions (see `pairs.py`).

    Raises:
        DataError: A source is too short for one row, a share too small to serve, or a file of
            `before` is missing.
    """

    def __init__(
        self,
        files: tuple[TokenFile, ...],
        context: int,
        *,
        first: int = 0,
        begun: Mapping[str, int] = MappingProxyType({}),
        passed: Mapping[str, float] = MappingProxyType({}),
        ramp: int = 0,
        before: Mapping[str, float] = MappingProxyType({}),
        completion: bool = False,
    ) -> None:
        left = {name: weight for name, weight in before.items() if weight and ramp}
        if missing := left.keys() - {file.name for file in files}:
            raise DataError(
                "unknown-source",
                f"mixture: a ramp leaves {min(missing)!r}, which is not a data source",
                source=min(missing),
                known=[file.name for file in files],
            )
        # By name, so that the order in the study file does not matter.
        ordered = sorted(
            (file for file in files if file.weight or file.name in left),
            key=lambda file: file.name,
        )
        self.context, self.first = context, first
        self._names = [file.name for file in ordered]
        self._tables = [file.rows(context, completion=completion) for file in ordered]
        self._counts = np.array(row_counts([file.weight for file in ordered], self._names))
        self._pattern = interleave(self._counts.tolist())
        self._rank = ranks(self._pattern)
        self._begun, self._passed = dict(begun), dict(passed)
        self._files = {file.name: file for file in files}
        # Rows of a ramp are stored one by one; each source continues where the path left it.
        self._reached = np.array([begun.get(name, 0) for name in self._names], dtype=np.int64)
        self._ramped = np.empty(0, dtype=np.int64)
        if left:
            shares = row_counts([left.get(name, 0.0) for name in self._names], self._names)
            self._ramped = ramp_pattern(shares, self._counts.tolist(), ramp)
        self._ramp_index = ranks(self._ramped) + self._reached[self._ramped]
        self._ramp_end = first + len(self._ramped)
        self._offset = self._ramp_reaches(self._ramp_end) - self._rows_before(self._ramp_end)

    def rows(self, first: int, count: int, *, data_seed: int) -> Rows:
        """Rows first, ..., first + count - 1 of the stream.

        Args:
            first: Row number, counted from the start of the path; not before the stream's first.
            count: Number of rows.
            data_seed: Seed of every shuffle.

        Returns:
            Token ids, int64, shape (count, context + 1).
        """
        source_of_row, index_of_row = self._places(first, count)
        out = np.empty((count, self.context + 1), dtype=np.int64)
        for source, table in enumerate(self._tables):
            here = np.flatnonzero(source_of_row == source)
            if not here.size:
                continue
            epoch, place = np.divmod(index_of_row[here], len(table))
            for each in range(int(epoch[0]), int(epoch[-1]) + 1):
                keys = shuffle_keys(data_seed, each, self._names[source])
                now = epoch == each
                out[here[now]] = table[permute(place[now], size=len(table), keys=keys)]
        return out

    def read(self, rows: int) -> dict[str, int]:
        """Rows of each source in the path's first `rows` rows."""
        if rows < self._ramp_end:
            reached = self._ramp_reaches(rows)
        else:
            reached = self._rows_before(rows) + self._offset
        return self._begun | dict(zip(self._names, reached.tolist(), strict=True))

    def epochs(self, rows: int) -> dict[str, float]:
        """Epochs of each source in the path's first `rows` rows."""
        epochs = dict(self._passed)
        for name, read in self.read(rows).items():
            here = read - self._begun.get(name, 0) if name in epochs else read
            if here:  # a source may have no row at this context
                passed = here / self._files[name].row_count(self.context)
                epochs[name] = epochs.get(name, 0.0) + passed
        return epochs

    def _places(self, first: int, count: int) -> tuple[Places, Places]:
        """The source of each row, and its number within that source."""
        period, slot = np.divmod(np.arange(first, first + count), len(self._pattern))
        source = self._pattern[slot]
        index = period * self._counts[source] + self._rank[slot] + self._offset[source]
        if first < self._ramp_end:
            part = slice(first - self.first, min(first + count, self._ramp_end) - self.first)
            ramped = self._ramped[part]
            source[: len(ramped)], index[: len(ramped)] = ramped, self._ramp_index[part]
        return source, index

    def _ramp_reaches(self, row: int) -> Places:
        """Rows of each source before `row`, which is not after the ramp."""
        ramped = np.bincount(self._ramped[: row - self.first], minlength=len(self._names))
        return self._reached + ramped

    def _rows_before(self, row: int) -> Places:
        """Rows of each source before `row`, had the pattern begun at row 0."""
        periods, slots = divmod(row, len(self._pattern))
        begun = np.bincount(self._pattern[:slots], minlength=len(self._names))
        return periods * self._counts + begun
