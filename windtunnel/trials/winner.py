"""The outcome of a search: which trial wins, and how far every other is from it in seed noise.

The best trials were chosen by losses that luck had a share in. So each is repeated on seeds that
no choice has looked at, and these alone name the winner and are quoted as its loss. Finalists share
their seeds (init and order of data), and are compared seed by seed: the noise of a difference is
the residual of losses after the means of trial and seed, which is less than the spread of seeds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from scipy.stats import t as student_t

from windtunnel.spec import Duration
from windtunnel.spec.search import Range, SearchExperiment
from windtunnel.trials.plan import planned_segments
from windtunnel.trials.points import Ground, trial_horizons, trial_points
from windtunnel.trials.search import TrialResult, trial_losses, trial_results
from windtunnel.trials.store import Store
from windtunnel.trials.study import Study
from windtunnel.trials.suggested import Suggested, read_suggested

LEVEL = 0.9

EDGE = 0.05
"""Nearer to an end of a range than this share of it (on the searched scale) is on its edge."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much more loss than the winner, nats per token, with an interval at `LEVEL`.

    `low` and `high` are None where the design cannot measure its noise.
    """

    value: float
    low: float | None
    high: float | None

    @property
    def within_noise(self) -> bool | None:
        """Whether it may be no difference at all; None where noise is not known."""
        return None if self.low is None or self.high is None else self.low <= 0.0 <= self.high


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A repeated trial: its losses on the new seeds, and its distance from the winner."""

    result: TrialResult
    losses: Mapping[int, float]
    longer_losses: Mapping[int, float]
    behind: Difference | None
    behind_longer: Difference | None

    @property
    def mean(self) -> float | None:
        """Over the new seeds, at the search's horizon; None while one is missing."""
        return fmean(self.losses.values()) if self.losses else None

    @property
    def longer_mean(self) -> float | None:
        """Over the new seeds, at the longer horizon."""
        return fmean(self.longer_losses.values()) if self.longer_losses else None


@dataclass(frozen=True, kw_only=True)
class SearchOutcome:
    """All that a search has found so far.

    `finalists` are ordered by loss on the new seeds, so the first is the winner. `noise` is the
    standard deviation of one run's loss apart from what its seed does to all finalists alike, with
    `noise_dof` degrees of freedom; `spread` that between seeds. `units` holds, by trial number, its
    distance from the winner on the seeds of the search in standard deviations of such a difference.
    """

    experiment: SearchExperiment
    results: tuple[TrialResult, ...]
    finalists: tuple[Finalist, ...]
    noise: float | None
    noise_dof: int
    spread: float | None
    units: Mapping[int, float]
    edges: Mapping[str, str]
    flops_spent: float
    flops_without_stopping: float
    warnings: tuple[str, ...]

    @property
    def winner(self) -> Finalist | None:
        """The finalist with the lowest mean on the new seeds; None before the repeats are done."""
        first = self.finalists[0] if self.finalists else None
        return first if first is not None and first.mean is not None else None

    def winner_interval(self) -> tuple[float, float] | None:
        """Where the winner's mean over seeds lies, at `LEVEL`, from the spread of its new seeds."""
        if self.winner is None or self.winner.mean is None or self.spread is None:
            return None
        seeds = len(self.winner.losses)
        half = _t(seeds - 1) * self.spread / math.sqrt(seeds)
        return self.winner.mean - half, self.winner.mean + half


def search_outcomes(study: Study) -> tuple[SearchOutcome, ...]:
    """The outcome of every search of a study, as the store has it."""
    return tuple(
        _outcome(study.ground, each, read_suggested(study.folder, each), study.store)
        for each in study.config.experiments
        if isinstance(each, SearchExperiment)
    )


def _outcome(
    ground: Ground, experiment: SearchExperiment, suggested: Suggested, store: Store
) -> SearchOutcome:
    results = trial_results(ground, experiment, suggested, store)
    chosen = [results[number] for number in suggested.finalists or ()]

    def losses(horizon: Duration) -> list[dict[int, float]]:
        return [
            _complete(
                trial_losses(
                    ground,
                    experiment,
                    result.trial,
                    store,
                    seeds=experiment.new_seeds,
                    horizon=horizon,
                )
            )
            for result in chosen
        ]

    at_horizon, at_longer = losses(experiment.horizon), losses(experiment.longer_horizon)
    noise, dof = residual_noise(at_horizon)
    longer_noise, longer_dof = residual_noise(at_longer)
    order = sorted(range(len(chosen)), key=lambda i: _mean_or_inf(at_horizon[i]))
    first = order[0] if order else 0
    finalists = tuple(
        Finalist(
            result=chosen[i],
            losses=at_horizon[i],
            longer_losses=at_longer[i],
            behind=_difference(at_horizon[i], at_horizon[first], noise, dof),
            behind_longer=_difference(at_longer[i], at_longer[first], longer_noise, longer_dof),
        )
        for i in order
    )
    winner = finalists[0] if finalists and finalists[0].losses else None
    edges = _edges(experiment, winner.result) if winner else {}
    spent, without = _flops(ground, experiment, results)
    return SearchOutcome(
        experiment=experiment,
        results=tuple(results),
        finalists=finalists,
        noise=noise,
        noise_dof=dof,
        spread=_spread(at_horizon),
        units=_units(experiment, results, winner, noise),
        edges=edges,
        flops_spent=spent,
        flops_without_stopping=without,
        warnings=tuple(_warnings(experiment, finalists, edges, noise)),
    )


def residual_noise(rows: Sequence[Mapping[int, float]]) -> tuple[float | None, int]:
    """Standard deviation of losses (finalists x seeds) after the means of both, and its dof.

    Rows without losses are left out. With one finalist it is the spread of its seeds; with one seed
    there is none.
    """
    losses = np.array([list(row.values()) for row in rows if row])
    if losses.size == 0 or losses.shape[1] < 2:
        return None, 0
    count, seeds = losses.shape
    residuals = losses - losses.mean(axis=1, keepdims=True)
    if count > 1:
        residuals = residuals - residuals.mean(axis=0, keepdims=True)
    dof = max(count - 1, 1) * (seeds - 1)
    return float(np.sqrt((residuals**2).sum() / dof)), dof


def _spread(rows: Sequence[Mapping[int, float]]) -> float | None:
    """Standard deviation between the seeds of one trial, pooled over the finalists."""
    losses = np.array([list(row.values()) for row in rows if row])
    if losses.size == 0 or losses.shape[1] < 2:
        return None
    return float(np.sqrt(losses.var(axis=1, ddof=1).mean()))


def _difference(
    losses: Mapping[int, float], winner: Mapping[int, float], noise: float | None, dof: int
) -> Difference | None:
    if not losses or not winner:
        return None
    value = fmean(losses.values()) - fmean(winner.values())
    if noise is None or losses is winner:
        return Difference(value=value, low=None, high=None)
    half = _t(dof) * noise * math.sqrt(2 / len(losses))
    return Difference(value=value, low=value - half, high=value + half)


def _units(
    experiment: SearchExperiment,
    results: Sequence[TrialResult],
    winner: Finalist | None,
    noise: float | None,
) -> dict[int, float]:
    if winner is None or winner.result.value is None or not noise:
        return {}
    one = noise * math.sqrt(2 / len(experiment.seeds))
    return {
        result.trial.number: (result.value - winner.result.value) / one
        for result in results
        if result.value is not None
    }


def _edges(experiment: SearchExperiment, result: TrialResult) -> dict[str, str]:
    """Axes on whose edge a trial lies: axis -> low or high."""
    found = {}
    for axis, searched in experiment.space.items():
        value = result.trial.values[axis]
        if isinstance(searched, Range):
            position = searched.position(value)
        elif len(searched) > 2 and all(isinstance(each, int | float) for each in searched):
            position = sorted(searched).index(value) / (len(searched) - 1)
        else:
            continue
        if position < EDGE or position > 1 - EDGE:
            found[axis] = "low" if position < EDGE else "high"
    return found


def _flops(
    ground: Ground, experiment: SearchExperiment, results: Sequence[TrialResult]
) -> tuple[float, float]:
    """Training FLOPs of the trials as they were planned, and without early stopping."""
    horizons = trial_horizons(experiment)

    def flops(to: Sequence[tuple[Duration, ...]]) -> float:
        points = (
            point
            for result, ends in zip(results, to, strict=True)
            for point in trial_points(
                ground, experiment, result.trial.values, seeds=experiment.seeds, horizons=ends
            )
        )
        return sum(
            p.tokens * p.segment.model.flops_exact_per_token for p in planned_segments(points)
        )

    return (
        flops([horizons[: result.trial.admitted] for result in results]),
        flops([horizons[-1:]] * len(results)),
    )


def _warnings(
    experiment: SearchExperiment,
    finalists: Sequence[Finalist],
    edges: Mapping[str, str],
    noise: float | None,
) -> list[str]:
    if not finalists or not finalists[0].losses:
        return []
    found = [
        f"the winner's {axis} lies on the {side} edge of the space: the optimum may lie beyond; "
        f"widen it and give the search a new name"
        for axis, side in edges.items()
    ]
    if noise is None:
        found.append(
            "repeats: 1 measures no noise: no difference between finalists has an interval"
        )
    close = [each for each in finalists[1:] if each.behind and each.behind.within_noise]
    if close:
        found.append(
            f"{len(close)} of the other {len(finalists) - 1} finalists are within noise of the "
            "winner: take their values as just as good"
        )
    better = [
        each.result.trial.number
        for each in finalists[1:]
        if each.behind_longer
        and each.behind_longer.high is not None
        and each.behind_longer.high < 0
    ]
    if better:
        found.append(
            f"at {experiment.longer:g} times the horizon trial {better[0]} is better than the "
            "winner, beyond noise: the optimum moves with the length of training"
        )
    return found


def _t(dof: int) -> float:
    """Half-width of the two-sided interval at `LEVEL`, in standard errors."""
    return float(student_t.ppf((1 + LEVEL) / 2, dof))


def _complete(losses: Mapping[int, object]) -> dict[int, float]:
    """Losses by seed where every seed has one, else none at all."""
    found = {seed: loss for seed, loss in losses.items() if isinstance(loss, float)}
    return found if len(found) == len(losses) else {}


def _mean_or_inf(losses: Mapping[int, float]) -> float:
    return fmean(losses.values()) if losses else math.inf
