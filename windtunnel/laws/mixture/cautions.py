"""What a reader must know before taking a best mixture for granted."""

import math
from collections.abc import Iterator

import numpy as np

from windtunnel.laws.caution import Caution
from windtunnel.laws.mixture.reach import SAME_SHARES, distances, edges
from windtunnel.laws.mixture.result import MixtureFit
from windtunnel.laws.mixture.runs import named
from windtunnel.laws.mixture.surfaces import MOST_BOOSTED
from windtunnel.laws.table import Floats

# Assumed: fewer mixtures than this for each source leave the regression to chance.
PER_SOURCE = 3
# As of other laws: fewer degrees of freedom leave the noise of trunks to chance.
TRUNK_FREEDOM = 3
FEW_RESAMPLES = 50


def of(fitted: MixtureFit, default: Floats | None) -> tuple[Caution, ...]:
    """Warnings of a fit; `default` is the mixture (K,) that its best was compared with."""
    found = (*_of_design(fitted), *_of_laws(fitted), *_of_best(fitted, default))
    return tuple(dict.fromkeys(found))  # of a default that is the best


def _of_design(fitted: MixtureFit) -> Iterator[Caution]:
    runs, points = fitted.runs, fitted.points
    mixtures, sources = points.weights.shape
    if mixtures < PER_SOURCE * sources:
        yield Caution(
            "few-mixtures",
            f"{mixtures} mixtures of {sources} sources: fewer than {PER_SOURCE} for each leave the "
            "law to chance; decay more of them",
        )
    if runs.trunks == 1:
        yield Caution(
            "one-trunk",
            "all runs leave one trunk: how far another seed's losses are from these is not known",
        )
    elif not points.trunk_effects.size:
        yield Caution(
            "trunks-apart",
            f"the {runs.trunks} trunks do not share their mixtures, so noise of trunks cannot be "
            "told from mixtures and counts as noise: let each trunk decay on every mixture",
        )
    elif runs.trunks <= TRUNK_FREEDOM:
        yield Caution(
            "few-trunks",
            f"noise between trunks rests on {runs.trunks} of them: an interval for another trunk "
            "is wide",
        )
    if 0 < len(fitted.laws.noise) < FEW_RESAMPLES:
        yield Caution(
            "few-resamples",
            f"{len(fitted.laws.noise)} resamples leave the ends of intervals to chance: "
            f"{MOST_BOOSTED} or more",
        )


def _of_laws(fitted: MixtureFit) -> Iterator[Caution]:
    for name, choice in fitted.choices.items():
        taken = choice.taken
        # As a comparison that nan fails, which a constant prediction gives.
        if not taken.rank.low > 0:
            yield Caution(
                "no-signal",
                f"loss on {name}: mixtures left out are not foretold beyond noise (rank "
                f"correlation {taken.rank.value:.2f}, error {taken.relative:.2f} times that of "
                "their mean): a difference between mixtures is not shown",
            )

    rank = fitted.score.rank
    if not rank.low > 0:
        yield Caution(
            "no-signal",
            "target: the mean loss of mixtures left out is not foretold beyond noise (rank "
            f"correlation {rank.value:.2f}): which mixture is best is not shown",
        )


def _of_best(fitted: MixtureFit, default: Floats | None) -> Iterator[Caution]:
    best, sources = fitted.best, fitted.runs.sources
    shares = [best.mixture[name] for name in sources]
    if max(shares) > 1 - 0.005:
        yield Caution(
            "edge-mixture",
            f"the best mixture is {sources[shares.index(max(shares))]} alone: no mixture at all",
        )
    elif found := edges(fitted.points.weights, np.array(shares), sources):
        yield Caution(
            "edge-mixture",
            f"the best mixture lies at the edge of those tried ({'; '.join(found.values())}): the "
            "lowest loss may lie beyond",
        )
    if any(fitted.choices[name].chosen == "boosting" for name in fitted.target):
        yield Caution(
            "flat-best",
            "boosted trees are flat between the mixtures tried: the best mixture is the middle of "
            "a region as good, and the interval of a share may miss its ends",
        )
    for gain in best.gains:
        if not gain.none and not math.isnan(gain.nats.low) and gain.nats.low <= 0:
            yield Caution(
                "gain-within-noise",
                f"the best mixture is not better than {gain.over}, beyond noise: "
                f"{gain.nats.value:.4f} nats ({gain.nats.low:.4f} to {gain.nats.high:.4f})",
            )
    yield from _measured_worse(fitted, np.array(shares))
    yield from fitted.extrapolation(np.array(shares))
    if default is not None:
        yield from fitted.extrapolation(default)


def _measured_worse(fitted: MixtureFit, shares: Floats) -> Iterator[Caution]:
    """Where the mixture tried that is the best (K,), or is next to it, was measured and lost."""
    points, weights = fitted.points, fitted.target_weights
    apart = distances(points.weights, shares)
    near = int(apart.argmin())
    gaps = [np.sort(distances(points.weights, each))[1] for each in points.weights]
    if apart[near] > np.median(gaps):
        return
    losses = np.exp(points.log_loss)
    target = losses @ weights
    lowest = int(target.argmin())
    above = float(target[near] - target[lowest])
    if above > _reach(fitted, losses[near] * weights, near, lowest):
        where = "was" if apart[near] < SAME_SHARES else "lies next to one that was"
        yield Caution(
            "measured-worse",
            f"the best mixture {where} measured, and lost: the target is {target[near]:.4f} at "
            f"{points.names[near]} ({named(fitted.runs.sources, points.weights[near])}) and "
            f"{target[lowest]:.4f} at {points.names[lowest]} "
            f"({named(fitted.runs.sources, points.weights[lowest])}), the best measured, which is "
            "more than noise: the law is off here; take that one",
        )


def _reach(fitted: MixtureFit, slopes: Floats, one: int, other: int) -> float:
    """How far noise of runs alone takes a mixture above the lowest of all, at the fit's level.

    One of many is the lowest by luck too, so each of them is held to a stricter level (Sidak 1967).
    `slopes` (S,) are derivatives of the target by each ln loss. Without two runs of a mixture off
    known trunks, misfits of the law stand for noise.
    """
    from scipy.stats import t

    points, runs = fitted.points, fitted.runs
    counts = points.runs[[one, other]]
    if points.branch_residuals.size:
        free = runs.rows - len(points.weights) - max(len(points.trunk_effects) - 1, 0)
        variance = float(np.mean((points.branch_residuals @ slopes) ** 2))
    else:
        free = len(points.weights) - 1
        variance = float((slopes * fitted.laws.sigma).sum() ** 2)
    level = fitted.level ** (1 / (len(points.weights) - 1))
    return float(t.ppf((1 + level) / 2, free) * np.sqrt(variance * (1 / counts).sum()))
