"""The outcome of a search: which trial wins, and how far every other is from it in seed noise.

The best trials were chosen by losses that luck had a share in. So each is repeated on seeds that
no choice has looked at, and these alone name the winner and are quoted as its loss.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from windtunnel.spec import Duration
from windtunnel.spec.search import SearchExperiment
from windtunnel.trials.finalists import Finalist, edges_of, warnings_of, winner_among
from windtunnel.trials.plan import planned_segments
from windtunnel.trials.points import Ground, trial_horizons, trial_points
from windtunnel.trials.search import Outcome, TrialResult, trial_losses, trial_results
from windtunnel.trials.seed_noise import (
    differences,
    interval_of_mean,
    residual_noise,
    seed_spread,
)
from windtunnel.trials.store import Store
from windtunnel.trials.study import Study
from windtunnel.trials.suggested import Suggested, read_suggested

NEAR = 2.0
"""Trials up to so many noise units above the winner are near it."""


@dataclass(frozen=True, kw_only=True)
class SearchOutcome:
    """All that a search has found so far.

    `finalists` are ordered by loss on the new seeds, so the first is the winner. `noise` is the
    standard deviation of one run's loss apart from what its seed does to all finalists alike, with
    `noise_dof` degrees of freedom; `spread` that between seeds. `units` holds, by trial number, its
    distance from the winner on the seeds of the search in standard deviations of such a difference.
    `flops` is the training of each trial as planned, 0 where an earlier one had the same values.
    """

    experiment: SearchExperiment
    results: tuple[TrialResult, ...]
    finalists: tuple[Finalist, ...]
    noise: float | None
    noise_dof: int
    spread: float | None
    units: Mapping[int, float]
    edges: Mapping[str, str]
    flops: tuple[float, ...]
    flops_without_stopping: float
    warnings: tuple[str, ...]

    @property
    def winner(self) -> Finalist | None:
        """The finalist with the lowest mean on the new seeds; None before the repeats are done."""
        return winner_among(self.finalists)

    @property
    def leaders(self) -> tuple[TrialResult, ...]:
        """The best trials by the losses of the search, which luck had a share in; at most `top`."""
        done = [(each.value, each.trial.number) for each in self.results if each.value is not None]
        return tuple(self.results[n] for _, n in sorted(done)[: max(self.experiment.top, 1)])

    @property
    def flops_spent(self) -> float:
        """Training FLOPs of all trials, without the repeats."""
        return sum(self.flops)

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """How many trials came to what."""
        return Counter(result.outcome for result in self.results)

    @property
    def near(self) -> tuple[TrialResult, ...]:
        """Trials that were not repeated and lie up to `NEAR` noise units above the winner."""
        repeated = {each.result.trial.number for each in self.finalists}
        return tuple(
            result
            for result in self.results
            if result.trial.number not in repeated
            and self.units.get(result.trial.number, math.inf) <= NEAR
        )

    def winner_interval(self) -> tuple[float, float] | None:
        """Where the winner's mean over seeds lies, at `LEVEL`, from the spread of its new seeds."""
        if self.winner is None or self.winner.mean is None or self.spread is None:
            return None
        return interval_of_mean(self.winner.mean, self.spread, len(self.winner.losses))

    def winner_values(self) -> dict[str, dict[str, Any]]:
        """The winner's values as a study file has them: section -> field -> value."""
        found: dict[str, dict[str, Any]] = {}
        for axis, value in (self.winner.result.trial.values if self.winner else {}).items():
            section, _, field = axis.partition(".")
            found.setdefault(section, {})[field] = value
        return found


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

    def outcomes(horizon: Duration) -> list[Mapping[int, float | Outcome]]:
        return [
            trial_losses(
                ground,
                experiment,
                result.trial,
                store,
                seeds=experiment.new_seeds,
                horizon=horizon,
            )
            for result in chosen
        ]

    here, longer = outcomes(experiment.horizon), outcomes(experiment.longer_horizon)
    at_horizon, at_longer = [_complete(each) for each in here], [_complete(each) for each in longer]
    noise, dof = residual_noise(at_horizon)
    order = sorted(range(len(chosen)), key=lambda i: _mean_or_inf(at_horizon[i]))
    first = order[0] if order else 0
    behind, behind_longer = differences(at_horizon, first), differences(at_longer, first)
    finalists = tuple(
        Finalist(
            result=chosen[i],
            losses=at_horizon[i],
            longer_losses=at_longer[i],
            missing=_missing(here[i]),
            longer_missing=_missing(longer[i]),
            behind=behind[i],
            behind_longer=behind_longer[i],
        )
        for i in order
    )
    winner = winner_among(finalists)
    edges = edges_of(experiment, winner.result) if winner else {}
    return SearchOutcome(
        experiment=experiment,
        results=tuple(results),
        finalists=finalists,
        noise=noise,
        noise_dof=dof,
        spread=seed_spread(at_horizon),
        units=_units(experiment, results, winner, noise),
        edges=edges,
        flops=_flops(ground, experiment, results, stopped=True),
        flops_without_stopping=sum(_flops(ground, experiment, results, stopped=False)),
        warnings=tuple(warnings_of(experiment, finalists, edges, noise, dof)),
    )


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


def _flops(
    ground: Ground, experiment: SearchExperiment, results: Sequence[TrialResult], *, stopped: bool
) -> tuple[float, ...]:
    """Training FLOPs of each trial as planned, or straight to the end where it is not `stopped`."""
    horizons, seen, found = trial_horizons(experiment), set[str](), []
    for result in results:
        ends = horizons[: result.trial.admitted] if stopped else horizons[-1:]
        points = trial_points(
            ground, experiment, result.trial.values, seeds=experiment.seeds, horizons=ends
        )
        key = repr(result.trial.values)
        found.append(
            0.0
            if key in seen
            else sum(
                p.tokens * p.segment.model.flops_exact_per_token for p in planned_segments(points)
            )
        )
        seen.add(key)
    return tuple(found)


def _missing(losses: Mapping[int, float | Outcome]) -> Mapping[Outcome, int]:
    """How many seeds have no loss, by what they came to."""
    return Counter(loss for loss in losses.values() if not isinstance(loss, float))


def _complete(losses: Mapping[int, float | Outcome]) -> dict[int, float]:
    """Losses by seed where every seed has one, else none at all."""
    found = {seed: loss for seed, loss in losses.items() if isinstance(loss, float)}
    return found if len(found) == len(losses) else {}


def _mean_or_inf(losses: Mapping[int, float]) -> float:
    return fmean(losses.values()) if losses else math.inf
