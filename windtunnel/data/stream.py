"""The training stream: an infinite table of rows, each a pure function of its number and a seed."""

from dataclasses import dataclass
from pathlib import Path

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
    """

    def __init__(self, files: tuple[TokenFile, ...], context: int) -> None:
        # By name, so that the order in the study file decides nothing.
        ordered = sorted(files, key=lambda file: file.name)
        self.context = context
        self._names = [file.name for file in ordered]
        self._tables = [file.rows(context) for file in ordered]
        self._counts = row_counts([file.weight for file in ordered], self._names)
        self._pattern = interleave(self._counts)
        # How many rows of the slot's source come before it in the period.
        self._rank = np.empty_like(self._pattern)
        for source, count in enumerate(self._counts):
            self._rank[self._pattern == source] = np.arange(count)

    def rows(self, first: int, count: int, *, data_seed: int) -> Rows:
        """Rows first, ..., first + count - 1 of the stream.

        Args:
            first: Row number, from 0.
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
            epoch, place = np.divmod(index, len(table))
            for each in range(int(epoch[0]), int(epoch[-1]) + 1):
                keys = shuffle_keys(data_seed, each, self._names[source])
                now = epoch == each
                out[here[now]] = table[permute(place[now], size=len(table), keys=keys)]
        return out

    def epochs(self, rows: int) -> dict[str, float]:
        """Per source, how often it has been passed after the first `rows` rows."""
        periods, slots = divmod(rows, len(self._pattern))
        begun = np.bincount(self._pattern[:slots], minlength=len(self._names))
        return {
            name: (periods * count + int(extra)) / len(table)
            for name, count, extra, table in zip(
                self._names, self._counts, begun, self._tables, strict=True
            )
        }
