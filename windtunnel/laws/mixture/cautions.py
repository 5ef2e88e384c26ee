"""What a reader must know before taking a best mixture for granted."""

import math
from collections.abc import Iterator

import numpy as np

from windtunnel.laws.caution import Caution
from windtunnel.laws.mixture.result import MixtureFit
from windtunnel.laws.mixture.search import edges
from windtunnel.laws.mixture.surfaces import MOST_BOOSTED
from windtunnel.laws.table import Floats

# Assumed: fewer mixtures than this for each source leave the regression to chance.
PER_SOURCE = 3
# As of other laws: fewer degrees of freedom leave the noise of trunks to chance.
TRUNK_FREEDOM = 3
FEW_RESAMPLES = 50
# Measured (docs/fit.md): of 45 designs, within half a hundredth.
HELD_AT_ZERO = 0.73


def of(fitted: MixtureFit, default: Floats | None) -> tuple[Caution, ...]:
    """Warnings of a fit; `default` is the mixture (K,) that its best was compared with."""
    return (*_of_design(fitted), *_of_laws(fitted), *_of_best(fitted, default))


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
    if any(choice.chosen == "boosting" for choice in fitted.choices.values()):
        yield Caution(
            "flat-best",
            "boosted trees are flat between the mixtures tried: the best mixture is the middle of "
            "a region as good, and the interval of a share may miss its ends (simulated: a best "
            f"share of 0 was held in {HELD_AT_ZERO:.0%}, at a nominal 90%)",
        )
    for gain in best.gains:
        if not gain.none and not math.isnan(gain.nats.low) and gain.nats.low <= 0:
            yield Caution(
                "gain-within-noise",
                f"the best mixture is not better than {gain.over}, beyond noise: "
                f"{gain.nats.value:.4f} nats ({gain.nats.low:.4f} to {gain.nats.high:.4f})",
            )
    if default is not None:
        yield from fitted.extrapolation(default)
