"""The mixture with the lowest loss among those that the design covers: its convex hull."""

from collections.abc import Sequence
from itertools import combinations
from typing import cast

import numpy as np

from windtunnel.laws.mixture.surfaces import Smooth, Surface, Trees
from windtunnel.laws.table import Floats

CANDIDATES = 2000
MOST_EDGES = 300
ROUNDS = 300
FASTER, SLOWER = 1.5, 0.4


def candidates(ends: Floats) -> Floats:
    """Parts (P, M) of mixtures (M, K): themselves, then all over their hull; always the same.

    A point of the hull lies between K of them (Caratheodory): draw those, and their parts.
    """
    rng = np.random.default_rng(0)
    count, sources = ends.shape
    several = min(sources, count)
    chosen = np.argsort(rng.random((CANDIDATES, count)), axis=1)[:, :several]
    inside = np.zeros((CANDIDATES, count))
    np.put_along_axis(inside, chosen, rng.dirichlet(np.ones(several), CANDIDATES), axis=1)
    both = np.array(list(combinations(range(count), 2)))
    both = both[rng.permutation(len(both))[:MOST_EDGES]]
    between = np.zeros((len(both), count))
    part = rng.random((len(both), 1))
    np.put_along_axis(between, both, np.concatenate([part, 1 - part], axis=1), axis=1)
    return np.concatenate([np.eye(count), inside, between])


def lowest(surfaces: Sequence[Surface], target: Floats, design: Floats) -> Floats:
    """The mixture (B, K) of lowest target for each of the B tables of the surfaces.

    The target is the sum of losses over the sets, each times its weight in `target` (S,); mixtures
    are those in the hull of the design (M, K). Trees are flat between their splits; of smooth
    surfaces the best candidate is refined.
    """
    surfaces = [each for each, weight in zip(surfaces, target, strict=True) if weight]
    target = target[target > 0]
    smooth = [cast("Smooth", each) for each in surfaces if not isinstance(each, Trees)]
    sources = np.eye(design.shape[1])
    # Each source alone, where all were tried: the hull has no other corners. Trees know best what
    # was tried itself.
    corners = np.all([np.any(np.all(design == one, axis=1)) for one in sources])
    ends = sources if corners and len(smooth) == len(surfaces) else design
    among = candidates(ends)
    mixtures = among @ ends
    values = _sum([np.exp(surface(mixtures)) for surface in surfaces], target)
    best = np.array([_lowest_of(column, mixtures) for column in values.T])
    if len(smooth) < len(surfaces):
        return np.asarray(mixtures[best])
    return _descend(smooth, target, ends, among[best])


def _descend(surfaces: Sequence[Smooth], target: Floats, ends: Floats, parts: Floats) -> Floats:
    """Projected gradient from parts (B, M) of the ends of the hull.

    Parts are 0 or more and sum to 1, so a mixture stays in the hull, and lies on its edge exactly
    where the target falls towards it. Each table has a step of its own, which grows while the
    target falls.
    """

    def value(mixtures: Floats) -> Floats:
        return _sum([np.exp(surface.own(mixtures)) for surface in surfaces], target)

    mixtures = parts @ ends
    lowest_yet, step = value(mixtures), np.ones(len(parts))
    for _ in range(ROUNDS):
        slopes = _sum(
            [np.exp(each.own(mixtures))[:, None] * each.slopes(mixtures) for each in surfaces],
            target,
        )
        tried = _projected(parts - step[:, None] * (slopes @ ends.T))
        found = value(tried @ ends)
        better = found < lowest_yet
        parts = np.where(better[:, None], tried, parts)
        mixtures, lowest_yet = parts @ ends, np.where(better, found, lowest_yet)
        step = step * np.where(better, FASTER, SLOWER)
    return np.asarray(mixtures)


def _projected(parts: Floats) -> Floats:
    """The nearest parts (B, M) that are 0 or more and sum to 1 (Duchi et al. 2008)."""
    falling = -np.sort(-parts, axis=1)
    over = (falling.cumsum(axis=1) - 1) / np.arange(1, parts.shape[1] + 1)
    last = (falling > over).sum(axis=1, keepdims=True) - 1
    return np.maximum(parts - np.take_along_axis(over, last, axis=1), 0)


def _sum(losses: Sequence[Floats], target: Floats) -> Floats:
    return np.asarray(sum(weight * loss for weight, loss in zip(target, losses, strict=True)))


def _lowest_of(values: Floats, mixtures: Floats) -> int:
    """Number of the lowest; of a plateau, of the one nearest its middle."""
    low = np.flatnonzero(values <= values.min() * (1 + 1e-12))
    off = mixtures[low] - mixtures[low].mean(axis=0)
    return int(low[np.argmin((off**2).sum(axis=1))])
