"""Which source a row comes from: a fixed pattern, repeated for ever."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from windtunnel.errors import DataError

# Shares are exact to 1 in PERIOD; decimal weights such as 0.7 / 0.3 are exact.
PERIOD = 1000


def row_counts(weights: Sequence[float], names: Sequence[str]) -> tuple[int, ...]:
    """Rows of each source in one period, by largest remainder, in lowest terms.

    Raises:
        DataError: If a source would get no row in a period.
    """
    total = math.fsum(weights)
    quotas = [PERIOD * weight / total for weight in weights]
    counts = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda s: (counts[s] - quotas[s], s))
    for source in by_remainder[: PERIOD - sum(counts)]:
        counts[source] += 1
    if 0 in counts:
        source = counts.index(0)
        raise DataError(
            f"data source {names[source]!r}: its weight {weights[source]} is "
            f"{weights[source] / total:.2g} of all weights; a share below 1/{2 * PERIOD} gets no "
            "rows: raise the weight or remove the source"
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
