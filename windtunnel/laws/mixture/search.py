"""The mixture of lowest loss in the convex hull of those tried, and where a mixture lies in it."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import cast

import numpy as np

from windtunnel.laws.mixture.models import MixtureModel, SmoothModel, Trees
from windtunnel.laws.table import Floats

# Shares are told to a hundredth; closer to the edge than this is on it.
AT_EDGE = 0.01
FAR_LESS = 0.5
"""Assumed: of the least share in any mixture tried."""
SAME_SHARES = 0.005
"""Two mixtures whose shares differ by no more are one."""


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


def distances(design: Floats, mixture: Floats) -> Floats:
    """The share of its text in which each of the design (M, K) is another mixture (K,)."""
    return np.asarray(np.abs(design - mixture).sum(axis=1) / 2)


def same(one: Floats, other: Floats) -> bool:
    """Whether shares (K,) are those of one mixture."""
    return bool(np.abs(one - other).max() < SAME_SHARES)


def never_left_out(design: Floats, mixture: Floats, sources: Sequence[str]) -> Mapping[str, float]:
    """Sources of which a mixture (K,) reads far less than all that mix: their least share there.

    Each source alone reads none of the others, but says nothing of a mix of those: a loss rises
    steeply where a share nears 0. Between two sources their ends are all there is.
    """
    if len(sources) < 3 or any(same(each, mixture) for each in design):
        return {}
    mixed = design[design.max(axis=1) < 1 - SAME_SHARES]
    if not len(mixed):
        return {}
    return {
        name: float(least)
        for name, share, least in zip(sources, mixture, mixed.min(axis=0), strict=True)
        if least > AT_EDGE and share < FAR_LESS * least
    }


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


def lowest(models: Sequence[MixtureModel], target: Floats, design: Floats) -> Floats:
    """The mixture (B, K) of lowest target for each of the B tables of the models.

    The target is the sum of losses over the sets, each times its weight in `target` (S,); mixtures
    are those in the hull of the design (M, K). Trees are flat between their splits; of smooth
    models the best candidate is refined.
    """
    models = [each for each, weight in zip(models, target, strict=True) if weight]
    target = target[target > 0]
    smooth = [cast("SmoothModel", each) for each in models if not isinstance(each, Trees)]
    sources = np.eye(design.shape[1])
    # Each source alone, where all were tried: the hull has no other corners. Trees know best what
    # was tried itself.
    corners = np.all([np.any(np.all(design == one, axis=1)) for one in sources])
    ends = sources if corners and len(smooth) == len(models) else design
    among = candidates(ends)
    mixtures = among @ ends
    values = _sum([np.exp(model(mixtures)) for model in models], target)
    best = np.array([_lowest_of(column, mixtures) for column in values.T])
    if len(smooth) < len(models):
        return np.asarray(mixtures[best])
    return _descend(smooth, target, ends, among[best])


def _descend(models: Sequence[SmoothModel], target: Floats, ends: Floats, parts: Floats) -> Floats:
    """Projected gradient from parts (B, M) of the ends of the hull.

    Parts are 0 or more and sum to 1, so a mixture stays in the hull, and lies on its edge exactly
    where the target falls towards it. Each table has a step of its own, which grows while the
    target falls.
    """

    def value(mixtures: Floats) -> Floats:
        return _sum([np.exp(model.own(mixtures)) for model in models], target)

    mixtures = parts @ ends
    lowest_yet, step = value(mixtures), np.ones(len(parts))
    for _ in range(ROUNDS):
        slopes = _sum(
            [np.exp(each.own(mixtures))[:, None] * each.slopes(mixtures) for each in models],
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
