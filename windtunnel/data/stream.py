"""The training stream: an infinite table of rows, each a pure function of its number and a seed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from windtunnel.data.mixture import interleave, row_counts
from windtunnel.data.permutation import permute, shuffle_keys
from windtunnel.errors import DataError

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TokenFile:
    """A little-endian token file and what a stream needs to know of it."""

    name: str
    path: Path
    dtype: str
    weight: float

    def row_count(self, context: int) -> int:
        """How many rows of this context it holds."""
        tokens = self.path.stat().st_size // np.dtype(self.dtype).itemsize
        return max(0, tokens - 1) // context

    def rows(self, context: int) -> npt.NDArray[np.unsignedinteger]:
        """View of shape (rows, context + 1): row i is tokens[i*context : i*context + context + 1].

        Raises:
            DataError: If the file is too short for one row.
        """
        tokens = self.path.stat().st_size // np.dtype(self.dtype).itemsize
        if tokens < context + 1:
            raise DataError(
                f"data source {self.name!r}: {tokens} tokens are too few for one row of context "
                f"{context} + 1; give more text or a shorter context"
            )
        flat = np.asarray(np.memmap(self.path, dtype=self.dtype, mode="r"))
        return np.lib.stride_tricks.sliding_window_view(flat, context + 1)[::context]


class TrainStream:
    """Rows of `context` tokens and one target, drawn from weighted sources.

    Row r belongs to a source by a fixed pattern of r; the rows of a source are counted on their
    own, and each epoch of a source is shuffled by (data_seed, epoch, source name). There is no
    state: any range of rows may be asked for in any order.

    A stream may begin at row `first` of a path that has read `begun` rows of each source by then:
    every source goes on where the path left it, so that nothing is read twice before its time. Of
    a stream that goes on with its own weights the rows are the same.
    """

    def __init__(
        self,
        files: tuple[TokenFile, ...],
        context: int,
        *,
        first: int = 0,
        begun: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        # By name, so that the order in the study file decides nothing.
        ordered = sorted((file for file in files if file.weight), key=lambda file: file.name)
        self.context, self.first = context, first
        self._names = [file.name for file in ordered]
        self._tables = [file.rows(context) for file in ordered]
        self._counts = row_counts([file.weight for file in ordered], self._names)
        self._pattern = interleave(self._counts)
        # How many rows of the slot's source come before it in the period.
        self._rank = np.empty_like(self._pattern)
        for source, count in enumerate(self._counts):
            self._rank[self._pattern == source] = np.arange(count)
        self._begun = dict(begun)
        before = self._rows_before(first)
        self._offset = [begun.get(name, 0) - before[s] for s, name in enumerate(self._names)]
        self._lengths = {file.name: file.row_count(context) for file in files}

    def rows(self, first: int, count: int, *, data_seed: int) -> Rows:
        """Rows first, ..., first + count - 1 of the stream.

        Args:
            first: Row number, counted from the start of the path; not before the stream's first.
            count: How many rows.
            data_seed: Seed of every shuffle.

        Returns:
            Token ids, int64, shape (count, context + 1).
        """
        period, slot = np.divmod(np.arange(first, first + count), len(self._pattern))
        source_of_row = self._pattern[slot]
        out = np.empty((count, self.context + 1), dtype=np.int64)
        for source, table in enumerate(self._tables):
            here = np.flatnonzero(source_of_row == source)
            if not here.size:
                continue
            index = period[here] * self._counts[source] + self._rank[slot[here]]
            epoch, place = np.divmod(index + self._offset[source], len(table))
            for each in range(int(epoch[0]), int(epoch[-1]) + 1):
                keys = shuffle_keys(data_seed, each, self._names[source])
                now = epoch == each
                out[here[now]] = table[permute(place[now], size=len(table), keys=keys)]
        return out

    def read(self, rows: int) -> dict[str, int]:
        """Per source, how many of its rows a path has read after its first `rows` rows."""
        here = {
            name: before + offset
            for name, before, offset in zip(
                self._names, self._rows_before(rows), self._offset, strict=True
            )
        }
        return self._begun | here

    def epochs(self, rows: int) -> dict[str, float]:
        """Per source that was read, how often it has been passed after the path's first `rows`."""
        return {name: read / self._lengths[name] for name, read in self.read(rows).items()}

    def _rows_before(self, row: int) -> list[int]:
        """Per source of this pattern, its rows before `row` had the pattern begun at row 0."""
        periods, slots = divmod(row, len(self._pattern))
        begun = np.bincount(self._pattern[:slots], minlength=len(self._names))
        return [periods * n + int(extra) for n, extra in zip(self._counts, begun, strict=True)]
