"""The plan of a study file: what cannot be planned is told at the line of its experiment."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from windtunnel.errors import ConfigError, DataError
from windtunnel.spec.yaml_file import place_of
from windtunnel.trials.plan import Plan, make_plan
from windtunnel.trials.points import Ground
from windtunnel.trials.suggested import Suggested


def plan_of(file: Path, ground: Ground, suggested: Mapping[str, Suggested]) -> Plan:
    """The plan of the study in `file`, which stands on `ground`.

    Raises:
        ConfigError: As of `make_plan`, with the file and the line.
        DataError: A mixture gives a source too small a share.
    """
    try:
        return make_plan(ground, suggested)
    except (ConfigError, DataError) as refused:
        raise type(refused)(f"{_place(file, ground, suggested)}: {refused}") from None


def _place(file: Path, ground: Ground, suggested: Mapping[str, Suggested]) -> str:
    """Where the first experiment is written that is refused when it is planned alone."""
    for number, experiment in enumerate(ground.config.experiments):
        alone = replace(ground, config=ground.config.replace(experiments=(experiment,)))
        try:
            make_plan(alone, suggested)
        except (ConfigError, DataError):
            return place_of(file, "experiments", number)
    return str(file)
