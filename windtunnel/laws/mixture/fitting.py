"""The mixture fit: one regression per validation set, the best mixture, and its warnings."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from windtunnel.errors import Diagnostic, FitError, did_you_mean
from windtunnel.laws.interval import Interval, quantiles
from windtunnel.laws.mixture.best import Best, Gain, Score
from windtunnel.laws.mixture.models import (
    MOST_BOOSTED,
    Exponential,
    MixtureModel,
    Polynomial,
    Trees,
    pairs,
)
from windtunnel.laws.mixture.result import (
    MixtureFit,
    forecast_of_target,
    forecasts,
    shares_of,
)
from windtunnel.laws.mixture.runs import (
    MixtureRuns,
    Points,
    Rows,
    emphasis,
    named,
    points_of,
    runs_of_rows,
    runs_of_table,
)
from windtunnel.laws.mixture.search import SAME_SHARES, distances, edges, lowest, same
from windtunnel.laws.mixture.selection import (
    Ensemble,
    ModelSelection,
    choose,
    ensemble,
    rank_correlation,
)
from windtunnel.laws.table import Floats, Table

# Assumed: fewer mixtures than this for each source leave the regression to chance.
PER_SOURCE = 3
# As of other laws: fewer degrees of freedom leave the noise of trunks to chance.
TRUNK_FREEDOM = 3
FEW_RESAMPLES = 50


def of(fitted: MixtureFit, default: Floats | None) -> tuple[Diagnostic, ...]:
    """Warnings of a fit; `default` is the mixture (K,) compared with the best one."""
    found = (*_of_design(fitted), *_of_laws(fitted), *_of_best(fitted, default))
    return tuple(dict.fromkeys(found))  # of a default that is the best


def _of_design(fitted: MixtureFit) -> Iterator[Diagnostic]:
    runs, points = fitted.runs, fitted.points
    mixtures, sources = points.weights.shape
    if mixtures < PER_SOURCE * sources:
        yield Diagnostic(
            "few-mixtures",
            f"{mixtures} mixtures of {sources} sources: fewer than {PER_SOURCE} for each leave the "
            "law to chance; decay more of them",
            mixtures=mixtures,
            sources=sources,
            needed=PER_SOURCE * sources,
        )
    if runs.trunks == 1:
        yield Diagnostic(
            "one-trunk",
            "all runs leave one trunk: how far another seed's losses are from these is not known",
            trunks=runs.trunks,
        )
    elif not points.trunk_effects.size:
        yield Diagnostic(
            "trunks-apart",
            f"the {runs.trunks} trunks do not share their mixtures, so noise of trunks cannot be "
            "told from mixtures and counts as noise: let each trunk decay on every mixture",
            trunks=runs.trunks,
        )
    elif runs.trunks <= TRUNK_FREEDOM:
        yield Diagnostic(
            "few-trunks",
            f"noise between trunks rests on {runs.trunks} of them: an interval for another trunk "
            "is wide",
            trunks=runs.trunks,
        )
    if 0 < len(fitted.laws.noise) < FEW_RESAMPLES:
        yield Diagnostic(
            "few-resamples",
            f"{len(fitted.laws.noise)} resamples leave the ends of intervals to chance: "
            f"{MOST_BOOSTED} or more",
            resamples=len(fitted.laws.noise),
            needed=MOST_BOOSTED,
        )


def _of_laws(fitted: MixtureFit) -> Iterator[Diagnostic]:
    for name, choice in fitted.choices.items():
        taken = choice.taken
        # As a comparison that nan fails, which a constant prediction gives.
        if not taken.rank.low > 0:
            yield Diagnostic(
                "no-signal",
                f"loss on {name}: mixtures left out are not foretold beyond noise (rank "
                f"correlation {taken.rank.value:.2f}, error {taken.relative:.2f} times that of "
                "their mean): a difference between mixtures is not shown",
                set=name,
                rank=taken.rank.value,
                relative=taken.relative,
            )

    rank = fitted.score.rank
    if not rank.low > 0:
        yield Diagnostic(
            "no-signal",
            "target: the mean loss of mixtures left out is not foretold beyond noise (rank "
            f"correlation {rank.value:.2f}): which mixture is best is not shown",
            rank=rank.value,
        )


def _of_best(fitted: MixtureFit, default: Floats | None) -> Iterator[Diagnostic]:
    best, sources = fitted.best, fitted.runs.sources
    shares = [best.mixture[name] for name in sources]
    if max(shares) > 1 - 0.005:
        yield Diagnostic(
            "edge-mixture",
            f"the best mixture is {sources[shares.index(max(shares))]} alone: no mixture at all",
            source=sources[shares.index(max(shares))],
            share=max(shares),
        )
    elif found := edges(fitted.points.weights, np.array(shares), sources):
        yield Diagnostic(
            "edge-mixture",
            f"the best mixture lies at the edge of those tried ({'; '.join(found.values())}): the "
            "lowest loss may lie beyond",
            sources=list(found),
        )
    if any(fitted.choices[name].chosen == "boosting" for name in fitted.target):
        yield Diagnostic(
            "flat-best",
            "boosted trees are flat between the mixtures tried: the best mixture is the middle of "
            "a region as good, and the interval of a share may miss its ends",
        )
    for gain in best.gains:
        if not gain.none and not math.isnan(gain.nats.low) and gain.nats.low <= 0:
            yield Diagnostic(
                "gain-within-noise",
                f"the best mixture is not better than {gain.over}, beyond noise: "
                f"{gain.nats.value:.4f} nats ({gain.nats.low:.4f} to {gain.nats.high:.4f})",
                over=gain.over,
                nats=gain.nats.value,
                low=gain.nats.low,
                high=gain.nats.high,
            )
    yield from _measured_worse(fitted, np.array(shares))
    yield from fitted.extrapolation(np.array(shares))
    if default is not None:
        yield from fitted.extrapolation(default)


def _measured_worse(fitted: MixtureFit, shares: Floats) -> Iterator[Diagnostic]:
    """Warnings where the best mixture (K,), or its nearest neighbour, was measured and lost."""
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
    if above > _noise_between(fitted, losses[near] * weights, near, lowest):
        where = "was" if apart[near] < SAME_SHARES else "lies next to one that was"
        yield Diagnostic(
            "measured-worse",
            f"the best mixture {where} measured, and lost: the target is {target[near]:.4f} at "
            f"{points.names[near]} ({named(fitted.runs.sources, points.weights[near])}) and "
            f"{target[lowest]:.4f} at {points.names[lowest]} "
            f"({named(fitted.runs.sources, points.weights[lowest])}), the best measured, which is "
            "more than noise: the law is off here; take that one",
            mixture=points.names[near],
            target=float(target[near]),
            lowest_mixture=points.names[lowest],
            lowest=float(target[lowest]),
        )


def _noise_between(fitted: MixtureFit, slopes: Floats, one: int, other: int) -> float:
    """The difference from the lowest mixture that noise alone explains, at the fit's level.

    One of many is the lowest by luck too, so each of them is held to a stricter level (Sidak 1967).
    `slopes` (S,) are derivatives of the target by each ln loss. Without two runs of a mixture off
    known trunks, misfits of the law stand for noise.
    """
    from scipy.special import stdtrit

    points, runs = fitted.points, fitted.runs
    counts = points.runs[[one, other]]
    if points.branch_residuals.size:
        free = runs.rows - len(points.weights) - max(len(points.trunk_effects) - 1, 0)
        variance = float(np.mean((points.branch_residuals @ slopes) ** 2))
    else:
        free = len(points.weights) - 1
        variance = float((slopes * fitted.laws.sigma).sum() ** 2)
    level = fitted.level ** (1 / (len(points.weights) - 1))
    return float(stdtrit(free, (1 + level) / 2) * np.sqrt(variance * (1 / counts).sum()))


CONDITIONAL = "_conditional"
"""After the name of a set of pairs: the set of its completions alone."""


def fit_mixture(
    runs: MixtureRuns | Table | Rows,
    *,
    target: Mapping[str, float] | Sequence[str] = (),
    default: Mapping[str, float] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    level: float = 0.9,
) -> MixtureFit:
    """The mixture law: one regression per set, chosen by cross-validation over mixtures.

    Args:
        runs: one row a decayed branch, with `weight_SOURCE` and `loss_SET`: dicts, such as the rows
            of a study, a dict of arrays or a DataFrame; `trunk` tells which branches share their
            noise.
        target: sets whose mean loss the best mixture minimises, or weights by set; none: all of
            full text.
        default: a mixture to compare the best one with.
        bootstrap: resamples, at most `MOST_BOOSTED` where trees are; 0: no intervals.
        seed: of resamples, and so of intervals and what a gain is corrected by; of nothing else.
        level: coverage of the intervals.

    Raises:
        FitError: the runs carry no law, or the target or the default is not of this table.
    """
    if isinstance(runs, Table):
        runs = runs_of_table(runs)
    elif not isinstance(runs, MixtureRuns):
        runs = runs_of_rows(runs)
    if not 0 < level < 1:
        raise FitError(
            "out-of-range", f"level = {level}: between 0 and 1, for example 0.9", level=level
        )
    weights = target_weights(target, runs.sets)
    compared = None if default is None else shares_of(default, runs.sources)
    points = points_of(runs)
    choices = [
        choose(points.weights, log_loss, counts, seed=seed, level=level)
        for log_loss, counts in zip(points.log_loss.T, points.emphasis.T, strict=True)
    ]
    laws = ensemble(
        points,
        [choice.chosen for choice in choices],
        np.stack([choice.taken.predicted for choice in choices], axis=1),
        bootstrap=bootstrap,
        seed=seed,
    )
    best = _best(runs, points, laws, weights, compared, level=level)
    by_set = dict(zip(runs.sets, choices, strict=True))
    fitted = MixtureFit(
        runs=runs,
        choices=by_set,
        laws=laws,
        coefficients={
            name: _coefficients(laws, s, runs.sources, level) for s, name in enumerate(runs.sets)
        },
        target={name: float(weights[s]) for s, name in enumerate(runs.sets) if weights[s]},
        score=_score(points, choices, weights, seed=seed, level=level),
        best=best,
        warnings=(),
        bootstrap=bootstrap,
        seed=seed,
        level=level,
    )
    return fitted.warned(*of(fitted, compared))


def target_weights(target: Mapping[str, float] | Sequence[str], sets: tuple[str, ...]) -> Floats:
    """Weights (S,) of the sets, sum 1.

    Raises:
        FitError: no such set, or a weight that is negative, or all 0.
    """
    given = target if isinstance(target, Mapping) else dict.fromkeys(target, 1.0)
    for name, weight in given.items():
        if name not in sets:
            raise FitError(
                "unknown-set",
                f"target {name!r}: no such validation set; there are {', '.join(sets)}"
                f"{did_you_mean(name, sets)}. Without a target it is their mean",
                set=name,
                known=list(sets),
            )
        if not 0 <= weight < np.inf:
            raise FitError(
                "out-of-range",
                f"target {name} = {weight:g}: a weight is 0 or more",
                set=name,
                weight=weight,
            )
    if not given:  # completions are part of their source's full text
        twice = {f"{name}{CONDITIONAL}" for name in sets}
        given = {name: 1.0 for name in sets if name not in twice}
    weights = np.array([given.get(name, 0.0) for name in sets])
    if not weights.sum():
        raise FitError("zero-weights", "target: all weights are 0; give one set a weight above 0")
    return np.asarray(weights / weights.sum())


def _best(
    runs: MixtureRuns,
    points: Points,
    laws: Ensemble,
    target: Floats,
    default: Floats | None,
    *,
    level: float,
) -> Best:
    shares = lowest(laws.fitted, target, points.weights)[0]
    draws = lowest(laws.resampled, target, points.weights) if laws.resampled else np.empty((0, 0))
    at = draws if draws.size else shares[None]
    measured = int(np.argmin(np.exp(points.log_loss) @ target))
    compared = [(f"{points.names[measured]}, the best measured", points.weights[measured])]
    if default is not None:
        compared.append(("the default", default))
    return Best(
        shares={
            name: Interval(
                float(shares[k]), *quantiles(draws[:, k] if draws.size else draws, level)
            )
            for k, name in enumerate(runs.sources)
        },
        target=forecast_of_target(laws, shares, at, target, level),
        losses=dict(zip(runs.sets, forecasts(laws, shares, at, level), strict=True)),
        gains=tuple(
            Gain(
                over,
                dict(zip(runs.sources, other.tolist(), strict=True)),
                _gain(laws, shares, draws, other, target, level),
                same(shares, other),
            )
            for over, other in compared
        ),
        draws=draws,
    )


def _gain(
    laws: Ensemble, shares: Floats, draws: Floats, other: Floats, target: Floats, level: float
) -> Interval:
    """Target at another mixture minus that at the best one.

    What resamples promise of their own best mixtures, against what the law that they were drawn
    from says of those, tells by how much such a promise is off; that is taken from ours.
    """

    def at(mixtures: Floats) -> Floats:
        return np.asarray(np.exp(laws.log_loss(mixtures)) @ target)

    value = float((at(other[None]) - at(shares[None]))[0])
    if not draws.size:
        return Interval(value, np.nan, np.nan)

    def by_resample(mixtures: Floats) -> Floats:
        return np.asarray(np.exp(laws.log_loss(mixtures) + laws.errors(mixtures)) @ target)

    promised = by_resample(other[None]) - by_resample(draws)
    off = promised - (at(other[None]) - at(draws))
    low, high = quantiles(off, level)
    return Interval(value - float(np.median(off)), value - high, value - low)


def _score(
    points: Points, choices: Sequence[ModelSelection], target: Floats, *, seed: int, level: float
) -> Score:
    predicted, measured = (
        np.exp(np.stack(columns, axis=1)) @ target
        for columns in ([choice.taken.predicted for choice in choices], list(points.log_loss.T))
    )
    counts = emphasis(np.log(measured)[:, None])[:, 0]
    return Score(
        float(np.sqrt(np.average((predicted - measured) ** 2, weights=counts))),
        rank_correlation(predicted, measured, seed=seed, level=level),
    )


def _coefficients(
    laws: Ensemble, which: int, sources: Sequence[str], level: float
) -> dict[str, Interval]:
    """Coefficients by name; empty for trees."""
    model, drawn = laws.fitted[which], laws.resampled[which] if laws.resampled else None
    if isinstance(model, Trees):
        return {}
    first, second = pairs(len(sources))
    products = (f"{sources[i]} * {sources[j]}" for i, j in zip(first, second, strict=True))
    values = _numbers(model)
    names = ["c", *sources] if isinstance(model, Exponential) else [*sources, *products]
    draws = np.empty((len(values), 0)) if drawn is None else _numbers(drawn)
    return {
        name: Interval(float(values[k, 0]), *quantiles(draws[k], level))
        for k, name in enumerate(names[: len(values)])
    }


def _numbers(model: MixtureModel) -> Floats:
    """Coefficients of a formula, shape (F, B)."""
    if isinstance(model, Exponential):
        return np.concatenate([model.offset[None], model.beta])
    assert isinstance(model, Polynomial)
    return model.beta
