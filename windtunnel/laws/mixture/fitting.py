"""Fit the mixture law: one regression for each validation set, then the best mixture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from windtunnel.errors import FitError, did_you_mean
from windtunnel.laws.interval import Interval, quantiles
from windtunnel.laws.mixture import cautions
from windtunnel.laws.mixture.choice import Choice, choose, rank_correlation
from windtunnel.laws.mixture.ensemble import Ensemble, ensemble
from windtunnel.laws.mixture.reach import same
from windtunnel.laws.mixture.result import (
    Best,
    Gain,
    MixtureFit,
    Score,
    forecast_of_target,
    forecasts,
    shares_of,
)
from windtunnel.laws.mixture.runs import (
    MixtureRuns,
    Points,
    emphasis,
    points_of,
    runs_of_rows,
    runs_of_table,
)
from windtunnel.laws.mixture.search import lowest
from windtunnel.laws.mixture.surfaces import Exponential, Polynomial, Surface, Trees, pairs
from windtunnel.laws.table import Floats, Table

CONDITIONAL = "_conditional"
"""After the name of a set of pairs: the set of its completions alone."""


def fit_mixture(
    runs: MixtureRuns | Table | Sequence[Mapping[str, Any]],
    *,
    target: Mapping[str, float] | Sequence[str] = (),
    default: Mapping[str, float] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    level: float = 0.9,
) -> MixtureFit:
    """From mixtures to losses: a regression for each set, chosen on mixtures left out.

    Args:
        runs: one row a decayed branch, with `weight_SOURCE` and `loss_SET`, such as the rows of a
            study; `trunk` tells which branches share their noise.
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
        raise FitError(f"level = {level}: between 0 and 1, for example 0.9")
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
    return fitted.warned(*cautions.of(fitted, compared))


def target_weights(target: Mapping[str, float] | Sequence[str], sets: tuple[str, ...]) -> Floats:
    """Weights (S,) of the sets, sum 1.

    Raises:
        FitError: no such set, or a weight that is negative, or all 0.
    """
    given = target if isinstance(target, Mapping) else dict.fromkeys(target, 1.0)
    for name, weight in given.items():
        if name not in sets:
            raise FitError(
                f"target {name!r}: no such validation set; there are {', '.join(sets)}"
                f"{did_you_mean(name, sets)}. Without a target it is their mean"
            )
        if not 0 <= weight < np.inf:
            raise FitError(f"target {name} = {weight:g}: a weight is 0 or more")
    if not given:  # completions are part of their source's full text
        twice = {f"{name}{CONDITIONAL}" for name in sets}
        given = {name: 1.0 for name in sets if name not in twice}
    weights = np.array([given.get(name, 0.0) for name in sets])
    if not weights.sum():
        raise FitError("target: all weights are 0; give one set a weight above 0")
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
    points: Points, choices: Sequence[Choice], target: Floats, *, seed: int, level: float
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
    """By name; none of trees."""
    surface, drawn = laws.fitted[which], laws.resampled[which] if laws.resampled else None
    if isinstance(surface, Trees):
        return {}
    first, second = pairs(len(sources))
    products = (f"{sources[i]} * {sources[j]}" for i, j in zip(first, second, strict=True))
    values = _numbers(surface)
    names = ["c", *sources] if isinstance(surface, Exponential) else [*sources, *products]
    draws = np.empty((len(values), 0)) if drawn is None else _numbers(drawn)
    return {
        name: Interval(float(values[k, 0]), *quantiles(draws[k], level))
        for k, name in enumerate(names[: len(values)])
    }


def _numbers(surface: Surface) -> Floats:
    """Coefficients of a formula, shape (F, B)."""
    if isinstance(surface, Exponential):
        return np.concatenate([surface.offset[None], surface.beta])
    assert isinstance(surface, Polynomial)
    return surface.beta
