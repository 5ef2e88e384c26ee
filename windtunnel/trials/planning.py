"""The plan of a study file: what cannot be planned is told at its own line."""

from collections.abc import Mapping
from pathlib import Path

from windtunnel.errors import ConfigError, DataError
from windtunnel.spec.experiments import GridExperiment
from windtunnel.spec.search import SearchExperiment
from windtunnel.spec.strict import Misfit
from windtunnel.spec.wording import reason
from windtunnel.spec.yaml_file import place_of
from windtunnel.trials.execution_fit import check_execution
from windtunnel.trials.expected import trials_asked
from windtunnel.trials.idle import check_effects
from windtunnel.trials.misfit import REFUSED, misfit_of, space_misfit
from windtunnel.trials.plan import Plan, make_plan
from windtunnel.trials.points import Ground
from windtunnel.trials.space import space_of
from windtunnel.trials.suggested import Suggested


def plan_of(file: Path, ground: Ground, suggested: Mapping[str, Suggested]) -> Plan:
    """The plan of the study in `file`, which stands on `ground`.

    Of a search that has suggestions to come, values that it may suggest are looked at too.

    Raises:
        ConfigError: Values do not fit together, an axis changes no run, or a horizon is too short,
            with the file, the line and the values.
        DataError: A mixture gives a source too small a share.
    """
    try:
        plan = make_plan(ground, suggested)
        for number, experiment in enumerate(ground.config.experiments):
            if isinstance(experiment, GridExperiment):
                check_effects(space_of(ground, experiment), number)
            elif isinstance(experiment, SearchExperiment):
                known = suggested.get(experiment.name, Suggested())
                if len(known.trials) < trials_asked(experiment):
                    _check_search(ground, experiment, number)
        check_execution(ground.config, plan.segments)
    except REFUSED as refused:
        raise _placed(file, ground, refused) from None
    return plan


def _check_search(ground: Ground, experiment: SearchExperiment, number: int) -> None:
    space = space_of(ground, experiment)
    if misfit := space_misfit(space, number):
        raise misfit
    check_effects(space, number)


def _placed(file: Path, ground: Ground, refused: Exception) -> ConfigError | DataError:
    """The same with the file and the line of what is at fault."""
    misfit = refused if isinstance(refused, Misfit) else None
    for number in range(len(ground.config.experiments)):
        misfit = misfit or misfit_of(ground, number)
    misfit = misfit or Misfit(reason(refused), "experiments")
    kind = DataError if isinstance(refused, DataError) else ConfigError
    return kind(f"{place_of(file, *misfit.place)}: {misfit}")
