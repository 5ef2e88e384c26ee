"""Results of a search's trials, read from the store: one per trial, in trial order."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from windtunnel.config import Duration
from windtunnel.config.search import SearchExperiment
from windtunnel.runs.completion import outcome_of
from windtunnel.runs.measured import run_of
from windtunnel.runs.plan import PlannedSegment, planned_segments
from windtunnel.runs.points import StudyContext, trial_horizons, trial_points
from windtunnel.runs.run import Run
from windtunnel.runs.search.trial_log import SuggestedTrial, TrialLog
from windtunnel.runs.store import Store

Outcome = Literal["finished", "stopped", "diverged", "failed", "unfinished"]


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """One trial of a search.

    `at` holds its loss at each horizon that it may train to, mean over its seeds, in nats per
    token. `value` is the last of them if that is the search's horizon. Both are None where a seed
    has no loss.
    """

    trial: SuggestedTrial
    outcome: Outcome
    at: tuple[float | None, ...]
    value: float | None


def trial_results(
    study_context: StudyContext, experiment: SearchExperiment, suggested: TrialLog, store: Store
) -> list[TrialResult]:
    """Results of all suggested trials, as far as the store has them."""
    horizons = trial_horizons(experiment)
    results = []
    for trial in suggested.trials:
        at: list[float | None] = []
        outcomes: set[Outcome] = set()
        for horizon in horizons[: trial.admitted]:
            losses = trial_losses(
                study_context, experiment, trial, store, seeds=experiment.seeds, horizon=horizon
            )
            outcomes |= {each if isinstance(each, str) else "finished" for each in losses.values()}
            finite = [loss for loss in losses.values() if isinstance(loss, float)]
            at.append(fmean(finite) if len(finite) == len(losses) else None)
        results.append(
            TrialResult(
                trial=trial,
                outcome=_outcome(outcomes, stopped=trial.admitted < len(horizons)),
                at=tuple(at),
                value=at[-1] if trial.admitted == len(horizons) else None,
            )
        )
    return results


def trial_losses(
    study_context: StudyContext,
    experiment: SearchExperiment,
    trial: SuggestedTrial,
    store: Store,
    *,
    seeds: tuple[int, ...],
    horizon: Duration,
) -> Mapping[int, float | Outcome]:
    """The objective at one horizon by seed, in nats per token, or an outcome without a loss."""
    points = trial_points(study_context, experiment, trial.values, seeds=seeds, horizons=(horizon,))
    planned = planned_segments(points)
    trunks = {each.id: each for each in planned}
    losses: dict[int, float | Outcome] = {}
    for branch in planned:
        if branch.segment.kind != "branch":
            continue
        loss = _objective(run_of(store, branch, study_context.sets), experiment)
        trunk = trunks[branch.segment.root.id]
        losses[branch.labels[0].seed] = (
            float(loss) if loss is not None else _without_loss(store, trunk, branch)
        )
    return losses


def _objective(run: Run | None, experiment: SearchExperiment) -> float | None:
    """The loss that a search minimises; None where the run has none."""
    if run is None:
        return None
    return run.loss if experiment.objective == "mean" else run.losses.get(experiment.objective)


def _without_loss(store: Store, trunk: PlannedSegment, branch: PlannedSegment) -> Outcome:
    """The outcome of a branch without a loss: its own, or that of its trunk."""
    outcomes = {outcome_of(store.segment(each.id).record, each) for each in (trunk, branch)}
    if "diverged" in outcomes:
        return "diverged"
    return "failed" if "failed" in outcomes else "unfinished"


def _outcome(outcomes: set[Outcome], *, stopped: bool) -> Outcome:
    """The worst outcome of a trial's segments."""
    if "diverged" in outcomes:
        return "diverged"
    if "failed" in outcomes:
        return "failed"
    if "unfinished" in outcomes:
        return "unfinished"
    return "stopped" if stopped else "finished"
