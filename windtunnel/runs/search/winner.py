"""The outcome of a search: its winner, each rival's distance in seed noise, and warnings.

The best trials were partly lucky. So each finalist is repeated on new seeds, which no selection has
seen. These alone decide the winner, and their mean is reported as its loss.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from windtunnel.config import Duration
from windtunnel.config.search import Range, SearchExperiment
from windtunnel.errors import Diagnostic
from windtunnel.runs.plan import planned_segments
from windtunnel.runs.points import StudyContext, trial_horizons, trial_points
from windtunnel.runs.search.noise import (
    Difference,
    differences,
    interval_of_mean,
    residual_noise,
    seed_spread,
)
from windtunnel.runs.search.trial_log import TrialLog, read_suggested
from windtunnel.runs.search.trials import Outcome, TrialResult, trial_losses, trial_results
from windtunnel.runs.store import Store
from windtunnel.runs.study import Study

EDGE = 0.05
"""A value within this share of a range (on the searched scale) from an end lies on the edge."""

FEW_DOF = 4
"""With fewer degrees of freedom of the noise there is a warning."""


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A repeated trial: its losses on the new seeds, and its distance from the winner.

    Losses are by seed, and empty where a seed has none. `missing` counts the outcomes of those
    seeds; `longer_missing` does so at the longer horizon.
    """

    result: TrialResult
    losses: Mapping[int, float]
    longer_losses: Mapping[int, float]
    missing: Mapping[Outcome, int]
    longer_missing: Mapping[Outcome, int]
    behind: Difference | None
    behind_longer: Difference | None

    @property
    def mean(self) -> float | None:
        """Mean over the new seeds at the search's horizon; None while one is missing."""
        return fmean(self.losses.values()) if self.losses else None

    @property
    def longer_mean(self) -> float | None:
        """Mean over the new seeds at the longer horizon."""
        return fmean(self.longer_losses.values()) if self.longer_losses else None


def winner_among(finalists: Sequence[Finalist]) -> Finalist | None:
    """The first finalist, once no repeat is unfinished; None before."""
    if not finalists or any("unfinished" in each.missing for each in finalists):
        return None
    return finalists[0] if finalists[0].losses else None


def edges_of(experiment: SearchExperiment, result: TrialResult) -> dict[str, str]:
    """The axes on whose edge a trial lies: axis -> `low` or `high`."""
    edges = {}
    for axis, searched in experiment.space.items():
        value = result.trial.values[axis]
        if isinstance(searched, Range):
            position = searched.position(value)
        elif len(searched) > 2 and all(isinstance(each, int | float) for each in searched):
            position = sorted(searched).index(value) / (len(searched) - 1)
        else:
            continue
        if position < EDGE or position > 1 - EDGE:
            edges[axis] = "low" if position < EDGE else "high"
    return edges


def winner_warnings(
    experiment: SearchExperiment,
    finalists: Sequence[Finalist],
    edges: Mapping[str, str],
    noise: float | None,
    dof: int,
) -> Iterator[Diagnostic]:
    """Warnings about a winner; none before there is one.

    Args:
        experiment: The search.
        finalists: Its repeated trials, the winner first.
        edges: Axes on whose edge the winner lies.
        noise: Standard deviation of a run's loss, nats per token; None if not measured.
        dof: Degrees of freedom of `noise`.
    """
    if winner_among(finalists) is None:
        return
    for axis, side in edges.items():
        yield Diagnostic(
            "edge-winner",
            f"the winner's {axis} lies on the {side} edge of the space: the optimum may lie "
            "beyond; widen it and give the search a new name",
            axis=axis,
            edge=side,
        )
    if noise is None:
        yield Diagnostic(
            "unknown-noise",
            "repeats: 1 measures no noise: no difference between finalists has an interval",
            repeats=1,
        )
    elif dof < FEW_DOF:
        yield Diagnostic(
            "few-dof",
            f"the noise has {dof} {'degree' if dof == 1 else 'degrees'} of freedom, too few "
            "to know it well: intervals are wide, and within noise means little; raise `repeats` "
            "or `top`",
            dof=dof,
        )
    for each in finalists:
        for outcome, count in each.missing.items():
            if outcome != "unfinished":
                yield Diagnostic(
                    "lost-finalist",
                    f"trial {each.result.trial.number} {outcome} on {count} of "
                    f"{experiment.repeats} new seeds and cannot win",
                    trial=each.result.trial.number,
                    outcome=outcome,
                    seeds=count,
                    repeats=experiment.repeats,
                )
    close = [each for each in finalists[1:] if each.behind and each.behind.within_noise]
    if close:
        message = (
            "the other finalist is within noise of the winner: take its values as just as good"
        )
        if len(finalists) > 2:
            message = (
                f"{_of_others(len(close), len(finalists) - 1)} finalists "
                f"{'is' if len(close) == 1 else 'are'} within noise of the winner: take their "
                "values as just as good"
            )
        yield Diagnostic(
            "within-noise",
            message,
            trials=[each.result.trial.number for each in close],
            others=len(finalists) - 1,
        )
    better = [
        each.result.trial.number
        for each in finalists[1:]
        if each.behind_longer
        and each.behind_longer.high is not None
        and each.behind_longer.high < 0
    ]
    if better:
        yield Diagnostic(
            "longer-horizon-differs",
            f"at {experiment.longer:g} times the horizon trial {better[0]} is better than the "
            "winner, beyond noise: the optimum moves with the length of training",
            trials=better,
            longer=experiment.longer,
        )


def _of_others(count: int, others: int) -> str:
    return f"all {others} other" if count == others else f"{count} of the other {others}"


NEAR = 2.0
"""A trial at most this many noise units above the winner counts as near it."""


@dataclass(frozen=True, kw_only=True)
class SearchOutcome:
    """The state of a search.

    Attributes:
        experiment: The search.
        results: One result per trial, in trial order.
        finalists: Ordered by loss on the new seeds; the first is the winner.
        noise: Standard deviation of a run's loss, nats per token, after the effect of its seed that
            all finalists share; None if not measured.
        noise_dof: Degrees of freedom of `noise`.
        spread: Standard deviation between the seeds of one trial, nats per token.
        units: By trial number, its distance from the winner on the seeds of the search, in standard
            deviations of such a difference.
        edges: Axes on whose edge the winner lies.
        flops: Planned training FLOPs of each trial; 0 for one with the values of an earlier trial.
        flops_without_stopping: The same in total, had no trial been stopped early.
        warnings: Warnings about the winner.
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
    warnings: tuple[Diagnostic, ...]

    @property
    def winner(self) -> Finalist | None:
        """The finalist with the lowest mean on the new seeds; None before the repeats are done."""
        return winner_among(self.finalists)

    @property
    def leaders(self) -> tuple[TrialResult, ...]:
        """The best trials by the losses of the search, partly lucky; at most `top`."""
        done = [(each.value, each.trial.number) for each in self.results if each.value is not None]
        return tuple(self.results[n] for _, n in sorted(done)[: max(self.experiment.top, 1)])

    @property
    def flops_spent(self) -> float:
        """Training FLOPs of all trials, without the repeats."""
        return sum(self.flops)

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """Number of trials by outcome."""
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
        """Interval of the winner's mean over seeds at `LEVEL`, from the spread of its new seeds."""
        if self.winner is None or self.winner.mean is None or self.spread is None:
            return None
        return interval_of_mean(self.winner.mean, self.spread, len(self.winner.losses))

    def winner_values(self) -> dict[str, dict[str, Any]]:
        """The winner's values as in a study file: section -> field -> value."""
        sections: dict[str, dict[str, Any]] = {}
        for axis, value in (self.winner.result.trial.values if self.winner else {}).items():
            section, _, field = axis.partition(".")
            sections.setdefault(section, {})[field] = value
        return sections


def search_outcomes(study: Study) -> tuple[SearchOutcome, ...]:
    """The outcome of every search of a study, from the store."""
    return tuple(
        _outcome(study.study_context, each, read_suggested(study.folder, each), study.store)
        for each in study.config.experiments
        if isinstance(each, SearchExperiment)
    )


def _outcome(
    study_context: StudyContext, experiment: SearchExperiment, suggested: TrialLog, store: Store
) -> SearchOutcome:
    results = trial_results(study_context, experiment, suggested, store)
    chosen = [results[number] for number in suggested.finalists or ()]

    def outcomes(horizon: Duration) -> list[Mapping[int, float | Outcome]]:
        return [
            trial_losses(
                study_context,
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
        flops=_flops(study_context, experiment, results, stopped=True),
        flops_without_stopping=sum(_flops(study_context, experiment, results, stopped=False)),
        warnings=tuple(winner_warnings(experiment, finalists, edges, noise, dof)),
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
    study_context: StudyContext,
    experiment: SearchExperiment,
    results: Sequence[TrialResult],
    *,
    stopped: bool,
) -> tuple[float, ...]:
    """Planned training FLOPs of each trial, to its last rung or (not `stopped`) to the end."""
    horizons, seen, found = trial_horizons(experiment), set[str](), []
    for result in results:
        ends = horizons[: result.trial.admitted] if stopped else horizons[-1:]
        points = trial_points(
            study_context, experiment, result.trial.values, seeds=experiment.seeds, horizons=ends
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
    """Number of seeds without a loss, by outcome."""
    return Counter(loss for loss in losses.values() if not isinstance(loss, float))


def _complete(losses: Mapping[int, float | Outcome]) -> dict[int, float]:
    """Losses by seed if every seed has one, else an empty mapping."""
    known = {seed: loss for seed, loss in losses.items() if isinstance(loss, float)}
    return known if len(known) == len(losses) else {}


def _mean_or_inf(losses: Mapping[int, float]) -> float:
    return fmean(losses.values()) if losses else math.inf
