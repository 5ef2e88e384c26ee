"""Optuna samplers that suggest the next batch of trials, and the importance of each searched axis.

A batch depends only on (seed, batch number, results in trial order), so the set of trials does not
depend on which of them finished first. A sampler is built anew for every batch. Those that learn
from values (gp, tpe) and `random` get the earlier trials as they are. Those with internal state
(cmaes, sobol, grid) replay the earlier batches, which is cheap and repeats the same suggestions.

Importance is functional ANOVA (Hutter et al. 2014): a forest is fitted to the losses, and each axis
gets the share of the forest's variance that it explains alone. Optuna's default, PED-ANOVA, did
worse on a planted loss (40 trials of a Gaussian process, measured): it gave an idle axis 0.21 on
average (up to 0.32) against 0.49 for the axis that mattered; fANOVA gave 0.02 against 0.80.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from windtunnel.config import StudyConfig
from windtunnel.config.axes import is_whole
from windtunnel.config.search import Range, SearchExperiment
from windtunnel.errors import WindtunnelError
from windtunnel.runs.search.trials import TrialResult

REPLAYED = {"cmaes", "sobol", "grid"}
"""Samplers with internal state, which replay the earlier batches."""

FEWEST_TRIALS = 12
"""With fewer trials importances are noise (measured: an idle axis gets 0.25 at 8, 0.13 at 12)."""


def suggest(
    study: StudyConfig, experiment: SearchExperiment, results: Sequence[TrialResult]
) -> list[dict[str, Any]]:
    """Values by axis for each trial of the next batch; fewer where a grid is exhausted.

    `results` are those of all earlier batches in trial order, all of them final.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = distributions(study, experiment)
    kind = experiment.sampler_taken
    batch = results[-1].trial.batch + 1 if results else 0
    size = min(experiment.batch, experiment.trials - len(results))
    if kind == "grid":
        size = min(size, _cells(experiment) - len(results))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of experimental samplers, and of their fallbacks
        if kind in REPLAYED:
            sampler = _sampler(experiment, experiment.seed)
            optuna_study = optuna.create_study(sampler=sampler)
            _replay(optuna_study, space, results, learns=kind == "cmaes")
        else:
            optuna_study = optuna.create_study(
                sampler=_sampler(experiment, _seed(experiment, batch))
            )
            optuna_study.add_trials(frozen_trials(space, results))
        suggested = [optuna_study.ask(space) for _ in range(size)]
    return [dict(trial.params) for trial in suggested]


def frozen_trials(
    space: Mapping[str, BaseDistribution], results: Sequence[TrialResult]
) -> list[FrozenTrial]:
    """Results as Optuna's trials.

    A diverged trial has no value, and Optuna ignores failed trials. So it counts as complete, at
    the worst finite value plus the range of all values. A trial stopped early is pruned, with the
    values of its rungs.
    """
    finite = [result.value for result in results if result.value is not None]
    worst = max(finite) + (max(finite) - min(finite)) if finite else None
    return [_frozen_trial(space, result, worst) for result in results]


def distributions(study: StudyConfig, experiment: SearchExperiment) -> dict[str, BaseDistribution]:
    """Optuna's distribution of each axis."""
    space: dict[str, BaseDistribution] = {}
    for axis, values in experiment.space.items():
        if not isinstance(values, Range):
            space[axis] = CategoricalDistribution(values)
        elif is_whole(study, axis):
            space[axis] = IntDistribution(int(values.low), int(values.high), log=values.log)
        else:
            space[axis] = FloatDistribution(values.low, values.high, log=values.log)
    return space


def _frozen_trial(
    space: Mapping[str, BaseDistribution], result: TrialResult, worst: float | None
) -> FrozenTrial:
    state, value = TrialState.FAIL, None
    if result.outcome == "finished":
        state, value = TrialState.COMPLETE, result.value
    elif result.outcome == "diverged" and worst is not None:
        state, value = TrialState.COMPLETE, worst
    elif result.outcome == "stopped":
        state, value = TrialState.PRUNED, result.at[-1]
    return create_trial(
        state=state,
        value=value,
        params=result.trial.values,
        distributions=dict(space),
        intermediate_values={rung: loss for rung, loss in enumerate(result.at) if loss is not None},
        user_attrs={"outcome": result.outcome, "batch": result.trial.batch},
    )


def _replay(
    study: optuna.Study,
    space: Mapping[str, BaseDistribution],
    results: Sequence[TrialResult],
    *,
    learns: bool,
) -> None:
    """Repeat the suggestions of earlier batches, with their results where the sampler learns."""
    for batch in dict.fromkeys(result.trial.batch for result in results):
        of_batch = [result for result in results if result.trial.batch == batch]
        before = [result for result in results if result.trial.batch <= batch]
        frozen = frozen_trials(space, before)[-len(of_batch) :]
        suggested = [study.ask(dict(space)) for _ in of_batch]
        for trial, result, known in zip(suggested, of_batch, frozen, strict=True):
            if trial.params != result.trial.values:
                raise WindtunnelError(
                    "other-version",
                    f"trial {result.trial.number} of the search was suggested by another version "
                    f"of optuna than {optuna.__version__}, which would not suggest it; continue "
                    "with that version, or give the search a new `name:`: finished runs are kept",
                    trial=result.trial.number,
                    package="optuna",
                    version=optuna.__version__,
                )
            if learns:
                study.tell(trial, known.value, state=known.state)


def _sampler(experiment: SearchExperiment, seed: int) -> BaseSampler:
    builders: dict[str, Callable[[], BaseSampler]] = {
        "gp": lambda: GPSampler(seed=seed, n_startup_trials=experiment.batch),
        "tpe": lambda: TPESampler(seed=seed, n_startup_trials=experiment.batch),
        "cmaes": lambda: CmaEsSampler(seed=seed, popsize=experiment.batch),
        "sobol": lambda: QMCSampler(seed=seed, scramble=True),
        "grid": lambda: GridSampler(_grid(experiment), seed=seed),
        "random": lambda: RandomSampler(seed=seed),
    }
    return builders[experiment.sampler_taken]()


def _seed(experiment: SearchExperiment, batch: int) -> int:
    return int(np.random.SeedSequence((experiment.seed, batch)).generate_state(1)[0])


def _grid(experiment: SearchExperiment) -> dict[str, list[Any]]:
    return {
        axis: values.grid() if isinstance(values, Range) else list(values)
        for axis, values in experiment.space.items()
    }


def _cells(experiment: SearchExperiment) -> int:
    return int(np.prod([len(values) for values in _grid(experiment).values()]))


def importances(
    study: StudyConfig, experiment: SearchExperiment, results: Sequence[TrialResult]
) -> dict[str, float]:
    """Share of the explained variance by axis, largest first; empty below `FEWEST_TRIALS`.

    The loss is taken at the first horizon where trials are compared: the shortest rung, which every
    trial has reached, or the end. Diverged trials have no loss and are left out.
    """
    space = distributions(study, experiment)
    losses = [
        (result, result.at[0]) for result in results if result.at and result.at[0] is not None
    ]
    if len(losses) < FEWEST_TRIALS or len({loss for _, loss in losses}) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    optuna_study = optuna.create_study()
    optuna_study.add_trials(
        create_trial(value=loss, params=result.trial.values, distributions=space)
        for result, loss in losses
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = get_param_importances(optuna_study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {axis: float(share) for axis, share in shares.items()}
