"""Axes: fields of a study that an experiment varies, named `recipe.FIELD` or the like."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from windtunnel.config.errors import reason
from windtunnel.config.units import Strict
from windtunnel.errors import did_you_mean

if TYPE_CHECKING:
    from windtunnel.config.model import Recipe
    from windtunnel.config.study import ModelFamily, ScheduleConfig, StudyConfig


def check_axis(study: "StudyConfig", experiment: str, axis: str, values: Iterable[Any]) -> None:
    """Refuse an axis that names no field that can vary, and a value that the field would refuse.

    Raises:
        ValueError: With what is allowed.
    """
    sections = _sections(study)
    section, _, field = axis.partition(".")
    where = f"experiment {experiment!r}"
    if section not in sections:
        named = [f"{name}.{axis}" for name, each in sections.items() if axis in _fields(each)]
        hint = (
            f"; did you mean {named[0]!r}?" if named else did_you_mean(section, [*sections, "size"])
        )
        raise ValueError(
            f"{where}: axis {axis!r} is not size, recipe.FIELD, model.FIELD or schedule.FIELD{hint}"
        )
    known = _fields(sections[section])
    if field not in known:
        raise ValueError(
            f"{where}: {axis!r} is no field of {section} that can vary"
            f"{did_you_mean(field, known) or '.'} Allowed: {', '.join(sorted(known))}"
        )
    before = list[Any]()
    for value in values:
        try:
            kept = getattr(sections[section].replace(**{field: value}), field)
        except ValidationError as refused:
            raise ValueError(f"{where}: {axis} = {value!r}: {reason(refused)}") from None
        if isinstance(kept, bool) is not isinstance(value, bool):
            raise ValueError(
                f"{where}: {axis} = {value!r}: "
                + (
                    "expected a number"
                    if isinstance(value, bool)
                    else "write a list of true and false"
                )
            )
        if isinstance(value, str) and not isinstance(kept, str):
            raise ValueError(f"{where}: {axis} = {value!r}: write {kept!r}, without quotes")
        if kept in before:
            raise ValueError(f"{where}: {axis} = {value!r} is there twice; write it once")
        before.append(kept)
        if axis == "recipe.batch_tokens" and value % study.model.context:
            raise ValueError(
                f"{where}: {axis} = {value}: not a multiple of model.context = "
                f"{study.model.context}"
            )


def _fields(section: Strict) -> set[str]:
    """The fields that an experiment may vary."""
    return set(type(section).model_fields) - {"sizes", "context"}


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
