"""The mixture with the lowest loss among those that the design covers: its convex hull."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import cast

import numpy as np

from windtunnel.laws.mixture.surfaces import Smooth, Surface, Trees
from windtunnel.laws.table import Floats

CANDIDATES = 2000
MOST_EDGES = 300
ROUNDS = 300
START_EVERYWHERE = 0.02
"""Part of every start that is spread over the whole design: a share of 0 would stay 0."""
FASTER, SLOWER = 1.5, 0.4
# Shares are told to a hundredth; closer to the edge than this is on it.
AT_EDGE = 0.01


def candidates(design: Floats, rng: np.random.Generator) -> Floats:
    """Parts (P, M) of the design's mixtures (M, K): themselves, then all over their hull.

    A point of the hull lies between K of the design's (Caratheodory): draw those, and their parts.
    """
    count, sources = design.shape
    several = min(sources, count)
    chosen = np.argsort(rng.random((CANDIDATES, count)), axis=1)[:, :several]
    inside = np.zeros((CANDIDATES, count))
    np.put_along_axis(inside, chosen, rng.dirichlet(np.ones(several), CANDIDATES), axis=1)
    ends = np.array(list(combinations(range(count), 2)))
    ends = ends[rng.permutation(len(ends))[:MOST_EDGES]]
    between = np.zeros((len(ends), count))
    part = rng.random((len(ends), 1))
    np.put_along_axis(between, ends, np.concatenate([part, 1 - part], axis=1), axis=1)
    return np.concatenate([np.eye(count), inside, between])


def lowest(surfaces: Sequence[Surface], target: Floats, design: Floats, among: Floats) -> Floats:
    """The mixture (B, K) of lowest target for each of the B tables of the surfaces.

    The target is the sum of losses over the sets, each times its weight in `target` (S,); `among`
    are the candidates (P, M) of the design (M, K). Trees are flat between their splits; of smooth
    surfaces the best candidate is refined.
    """
    mixtures = among @ design
    values = _sum([np.exp(surface(mixtures)) for surface in surfaces], target)
    best = np.array([_lowest_of(column, mixtures) for column in values.T])
    smooth = [cast("Smooth", each) for each in surfaces if not isinstance(each, Trees)]
    if len(smooth) < len(surfaces):
        return np.asarray(mixtures[best])
    return _descend(smooth, target, design, among[best])


def _descend(surfaces: Sequence[Smooth], target: Floats, design: Floats, start: Floats) -> Floats:
    """Exponentiated gradient (Kivinen and Warmuth 1997) from parts (B, M) of the design.

    Parts stay positive and sum to 1, so a mixture stays in the hull. Each table has a step of its
    own, which grows while the target falls.
    """
    parts = (1 - START_EVERYWHERE) * start + START_EVERYWHERE / len(design)

    def value(mixtures: Floats) -> Floats:
        return _sum([np.exp(surface.own(mixtures)) for surface in surfaces], target)

    mixtures = parts @ design
    lowest_yet, step = value(mixtures), np.ones(len(parts))
    for _ in range(ROUNDS):
        slopes = _sum(
            [np.exp(each.own(mixtures))[:, None] * each.slopes(mixtures) for each in surfaces],
            target,
        )
        downhill = -slopes @ design.T
        downhill -= downhill.max(axis=1, keepdims=True)
        tried = parts * np.exp(step[:, None] * downhill)
        tried /= tried.sum(axis=1, keepdims=True)
        found = value(tried @ design)
        better = found < lowest_yet
        parts = np.where(better[:, None], tried, parts)
        mixtures, lowest_yet = parts @ design, np.where(better, found, lowest_yet)
        step = step * np.where(better, FASTER, SLOWER)
    before = start @ design
    return np.asarray(np.where((value(before) < lowest_yet)[:, None], before, mixtures))


def covers(design: Floats, mixture: Floats) -> bool:
    """Whether a mixture (K,) lies in the hull of the design (M, K), up to rounding."""
    from scipy.optimize import linprog

    # Smallest distance, in the sum over sources, between the mixture and one of the hull.
    count, sources = design.shape
    system = np.concatenate([design.T, np.eye(sources), -np.eye(sources)], axis=1)
    convex = np.concatenate([np.ones(count), np.zeros(2 * sources)])
    found = linprog(
        np.concatenate([np.zeros(count), np.ones(2 * sources)]),
        A_eq=np.concatenate([system, convex[None]]),
        b_eq=np.append(mixture, 1.0),
    )
    return found.fun is not None and bool(found.fun <= AT_EDGE)


def edges(design: Floats, best: Floats, sources: Sequence[str]) -> Mapping[str, str]:
    """Sources of which the best mixture (K,) reads as much or as little as any: how, by name."""
    out = {}
    for k, name in enumerate(sources):
        low, high = float(design[:, k].min()), float(design[:, k].max())
        if high - low <= AT_EDGE:
            continue
        if best[k] >= high - AT_EDGE:
            out[name] = f"{name} at its largest share tried, {high:.2f}"
        elif best[k] <= low + AT_EDGE:
            what = f"at its smallest share tried, {low:.2f}" if low > AT_EDGE else "left out"
            out[name] = f"{name} {what}"
    return out


def _sum(losses: Sequence[Floats], target: Floats) -> Floats:
    return np.asarray(sum(weight * loss for weight, loss in zip(target, losses, strict=True)))


def _lowest_of(values: Floats, mixtures: Floats) -> int:
    """Number of the lowest; of a plateau, of the one nearest its middle."""
    low = np.flatnonzero(values <= values.min() * (1 + 1e-12))
    off = mixtures[low] - mixtures[low].mean(axis=0)
    return int(low[np.argmin((off**2).sum(axis=1))])
