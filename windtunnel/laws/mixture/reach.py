"""Where a mixture lies among those tried: within them, on their edge, or in a part none shows."""

from collections.abc import Mapping, Sequence

import numpy as np

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
