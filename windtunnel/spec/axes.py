"""Axes: fields of a study that an experiment varies, named `recipe.FIELD` or the like."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from windtunnel.errors import did_you_mean
from windtunnel.spec.strict import Strict

if TYPE_CHECKING:
    from windtunnel.spec.config import ModelFamily, ScheduleConfig, StudyConfig
    from windtunnel.spec.recipe import Recipe


def check_axis(study: "StudyConfig", experiment: str, axis: str, values: Iterable[Any]) -> None:
    """Refuse an axis that names no field that can vary, and a value that the field would refuse.

    Raises:
        ValueError: With what is allowed.
    """
    sections = _sections(study)
    section, _, field = axis.partition(".")
    if section not in sections:
        raise ValueError(
            f"experiment {experiment!r}: axis {axis!r} is not size, recipe.FIELD, model.FIELD or "
            f"schedule.FIELD{did_you_mean(section, [*sections, 'size'])}"
        )
    known = set(type(sections[section]).model_fields) - {"sizes", "context"}
    if field not in known:
        raise ValueError(
            f"experiment {experiment!r}: {axis!r} is no field of {section} that can vary"
            f"{did_you_mean(field, known)} Allowed: {', '.join(sorted(known))}"
        )
    for value in values:
        sections[section].replace(**{field: value})


def is_whole(study: "StudyConfig", axis: str) -> bool:
    """Whether the field of an axis holds whole numbers."""
    section, _, field = axis.partition(".")
    fields = type(_sections(study)[section]).model_fields if section in _sections(study) else {}
    return field in fields and fields[field].annotation is int


def varied(
    study: "StudyConfig", values: Mapping[str, Any]
) -> tuple["ModelFamily", "Recipe", "ScheduleConfig"]:
    """The study's family, recipe and schedule with the values of some axes put in."""
    changes: dict[str, dict[str, Any]] = {"model": {}, "recipe": {}, "schedule": {}}
    for axis, value in values.items():
        section, _, field = axis.partition(".")
        changes[section][field] = value
    return (
        study.model.replace(**changes["model"]),
        study.recipe.replace(**changes["recipe"]),
        study.schedule.replace(**changes["schedule"]),
    )


def _sections(study: "StudyConfig") -> dict[str, Strict]:
    return {"recipe": study.recipe, "model": study.model, "schedule": study.schedule}
