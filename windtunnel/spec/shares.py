"""Weights as whole parts of a thousand: what a mixture is exact to."""

import math
from collections.abc import Sequence

PERIOD = 1000
"""Rows after which a mixture repeats; decimal weights such as 0.7 and 0.3 are exact."""
LARGEST_WEIGHT = 1e100


def whole_shares(weights: Sequence[float]) -> list[int]:
    """Parts of `PERIOD` for each weight, which sum to it: by largest remainder."""
    if max(weights) > LARGEST_WEIGHT:  # so that sums stay finite
        weights = [weight / max(weights) for weight in weights]
    total = math.fsum(weights)
    quotas = [PERIOD * weight / total for weight in weights]
    counts = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda k: (counts[k] - quotas[k], k))
    for place in by_remainder[: PERIOD - sum(counts)]:
        counts[place] += 1
    return counts
