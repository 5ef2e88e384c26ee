"""Where numbers and names stand beside an axis."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from windtunnel.laws.table import Floats
from windtunnel.report.figures.canvas import short, tick_label

if TYPE_CHECKING:
    from matplotlib.axis import Axis

COUNTED = ("params", "tokens", "batch_tokens", "unique_tokens")
"""Columns that read as 100k, 1M, 10M."""
PLAINLY = (0.0009, 99_999.0)
"""Log axes between these are labelled with plain numbers, others with powers of ten."""


def log_ticks(
    axis: "Axis", *, counted: bool, most: int, within: tuple[float, float] | None = None
) -> None:
    """At most `most` labels on a log axis, or `within` a part of it: 100k and 1M where `counted`.

    Others are powers of ten, or plain numbers where those are short.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = within or sorted(axis.get_view_interval())
    axis.set_major_locator(FixedLocator(list(nice_logs(low, high, most=most))))
    axis.set_minor_locator(NullLocator())
    plain = PLAINLY[0] <= low and high <= PLAINLY[1]
    write = short if counted else "{:g}".format if plain else tick_label
    axis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))


def nice_logs(low: float, high: float, *, most: int) -> tuple[float, ...]:
    """Round values from `low` to `high` that are evenly spaced in logs, or nearly; at most `most`.

    Powers of ten, or every other one of them; in less than two decades 1, 2, 5, or finer.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    fine = (1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8, 9)
    ladders = [fine, (1, 1.5, 2, 3, 4, 5, 7), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)]
    found: tuple[float, ...] = ()
    for mantissas in ladders:
        values = (m * 10.0**e for e in range(first, last + 1) for m in mantissas)
        found = tuple(v for v in values if low * (1 - 1e-9) <= v <= high * (1 + 1e-9))
        if len(found) <= most:
            return found
    return found[:: math.ceil(len(found) / most)]


def is_log(values: Floats) -> bool:
    """Whether values span enough to be shown in logs: a factor of 4, all above 0."""
    low, high = float(np.min(values)), float(np.max(values))
    return low > 0 and high / low >= 4


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """The heights moved apart until neighbours are `gap` from each other; their order stays."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    groups: list[list[int]] = []
    centres: list[float] = []
    for i in order:  # merge whatever overlaps, and centre it on the mean of what it stands for
        groups.append([i])
        centres.append(heights[i])
        while len(groups) > 1 and (
            centres[-1] - centres[-2] < gap * (len(groups[-1]) + len(groups[-2])) / 2
        ):
            groups[-2:] = [groups[-2] + groups[-1]]
            centres[-2:] = [sum(heights[j] for j in groups[-1]) / len(groups[-1])]
    placed = [0.0] * len(heights)
    for group, centre in zip(groups, centres, strict=True):
        for place, i in enumerate(group):
            placed[i] = centre + gap * (place - (len(group) - 1) / 2)
    return placed
