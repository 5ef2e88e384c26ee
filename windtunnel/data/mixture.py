"""Which source a row comes from: a fixed pattern, repeated for ever, and ramps between two."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from windtunnel.errors import DataError
from windtunnel.spec.shares import PERIOD, whole_shares


def row_counts(weights: Sequence[float], names: Sequence[str]) -> tuple[int, ...]:
    """Rows of each source in one period, by largest remainder, in lowest terms.

    A source of weight 0 has none.

    Raises:
        DataError: If a source of another weight would get no row in a period.
    """
    counts = whole_shares(weights)
    if starved := [s for s, count in enumerate(counts) if weights[s] and not count]:
        source = starved[0]
        raise DataError(
            f"data source {names[source]!r}: its weight {weights[source]} is "
            f"{weights[source] / math.fsum(weights):.2g} of all weights; a share below "
            f"1/{2 * PERIOD} gets no rows: raise the weight or remove the source"
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
    """Of each slot of a pattern, how many slots of the same source come before it."""
    rank = np.empty_like(pattern)
    for source in np.unique(pattern):
        here = pattern == source
        rank[here] = np.arange(np.count_nonzero(here))
    return rank
