"""Searches of a study, with how much each searched value matters."""

from windtunnel.report.inputs import Search
from windtunnel.trials.points import search_size
from windtunnel.trials.study import Study
from windtunnel.trials.winner import search_outcomes


def read_searches(study: Study) -> tuple[Search, ...]:
    """Every search of a study; loads optuna only where there is one."""
    outcomes = search_outcomes(study)
    if not outcomes:
        return ()
    from windtunnel.engine.search.importance import importances

    return tuple(
        Search(
            outcome=outcome,
            size=str(search_size(study.ground, outcome.experiment)),
            importances=importances(study.config, outcome.experiment, outcome.results),
        )
        for outcome in outcomes
    )
