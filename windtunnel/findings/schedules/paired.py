"""Losses of two ways to train, compared seed by seed and length by length.

Seeds share init and order of data, and so most of their noise: it cancels in a difference. Lengths
of one seed are branches of one trunk, so a seed counts once, however many lengths it has.
"""

from collections.abc import Mapping
from statistics import fmean, stdev

from windtunnel.trials.seed_noise import Difference, differences, interval_of_mean

Losses = Mapping[tuple[int, int], float]
"""Of one way to train: (seed, tokens) -> nats per token."""


def paired(some: Losses, others: Losses) -> Difference | None:
    """Mean of `some` minus `others`, with Student's t interval over seeds; None without a pair.

    One seed alone has no interval.
    """
    by_seed: dict[int, list[float]] = {}
    for seed, tokens in some.keys() & others.keys():
        gap = some[seed, tokens] - others[seed, tokens]
        by_seed.setdefault(seed, []).append(gap)
    means = [fmean(gaps) for gaps in by_seed.values()]
    if not means:
        return None
    value, low, high = fmean(means), None, None
    if len(means) > 1:
        low, high = interval_of_mean(value, stdev(means), len(means))
    return Difference(value=value, low=low, high=high)


def above_best(ways: Mapping[float, Losses]) -> dict[float, Difference]:
    """How far every way lies above the lowest, over the (seed, tokens) that all of them have.

    The lowest was picked from the same losses, so the intervals are Tukey's.
    """
    shared = set.intersection(*(set(losses) for losses in ways.values())) if ways else set()
    if not shared:
        return {}
    rows = []
    for losses in ways.values():
        by_seed: dict[int, list[float]] = {}
        for seed, tokens in sorted(shared):
            by_seed.setdefault(seed, []).append(losses[seed, tokens])
        rows.append({seed: fmean(found) for seed, found in by_seed.items()})
    means = [fmean(row.values()) for row in rows]
    found = differences(rows, means.index(min(means)))
    return {way: gap for way, gap in zip(ways, found, strict=True) if gap is not None}
