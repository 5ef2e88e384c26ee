"""Projected trials: what a search is expected to suggest in the end, for cost estimates."""

import math
from typing import Any

from windtunnel.config import StudyConfig
from windtunnel.config.axes import is_whole
from windtunnel.config.search import Range, SearchExperiment
from windtunnel.runs.points import trial_horizons
from windtunnel.runs.search.trial_log import SuggestedTrial, TrialLog


def projected_trials(
    study: StudyConfig, experiment: SearchExperiment, suggested: TrialLog
) -> TrialLog:
    """`suggested`, filled up with trials spread over the space and with trials to repeat.

    For early stopping it expects the share that the rule lets pass when all losses differ at
    random.
    """
    count = max(trial_count(experiment), len(suggested.trials))
    rungs = len(trial_horizons(experiment))
    trials = [
        *suggested.trials,
        *(
            SuggestedTrial(
                number=number,
                batch=number // experiment.batch,
                values=_spread(study, experiment, (number + 0.5) / count),
                admitted=_admitted(experiment, number, rungs),
            )
            for number in range(len(suggested.trials), count)
        ),
    ]
    to_the_end = [trial.number for trial in trials if trial.admitted == rungs]
    finalists = suggested.finalists or tuple(to_the_end[: experiment.top])
    return TrialLog(trials=tuple(trials), finalists=finalists)


def trial_count(experiment: SearchExperiment) -> int:
    """Number of trials that a search plans; a grid has at most its combinations."""
    if experiment.sampler_taken != "grid":
        return experiment.trials
    cells = math.prod(
        (each.points or 1) if isinstance(each, Range) else len(each)
        for each in experiment.space.values()
    )
    return min(experiment.trials, cells)


def _spread(study: StudyConfig, experiment: SearchExperiment, share: float) -> dict[str, Any]:
    """A value for each axis, at the relative position `share` along it."""
    values: dict[str, Any] = {}
    for axis, searched in experiment.space.items():
        if not isinstance(searched, Range):
            values[axis] = searched[int(share * len(searched))]
            continue
        if experiment.sampler_taken == "grid":
            grid = searched.grid()
            values[axis] = grid[int(share * len(grid))]
            continue
        value = searched.value(share)
        values[axis] = round(value) if is_whole(study, axis) else value
    return values


def _admitted(experiment: SearchExperiment, number: int, rungs: int) -> int:
    """Number of rungs that the rule would let trial `number` pass at its reduction factor."""
    stopping = experiment.early_stopping
    if stopping is None:
        return rungs
    one_in = 2.0 if stopping.rule == "median" else stopping.reduction
    admitted = 1
    while admitted < rungs and int(number % one_in**admitted) == 0:
        admitted += 1
    return admitted
