"""Axes of an experiment: fields of a study, named `recipe.FIELD`, `model.FIELD` and the like."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar

from pydantic import ValidationError

from windtunnel.config.data import DataConfig
from windtunnel.config.errors import first_refusal
from windtunnel.config.model import ModelFamily, Recipe, ScheduleConfig
from windtunnel.config.units import Strict
from windtunnel.errors import Refused, did_you_mean

ASection = TypeVar("ASection", bound=Strict)
OWN = "shape."
"""What begins the name of a family's own shape field."""


class StudyParts(Protocol):
    """The sections of a study that an experiment varies or is checked against."""

    @property
    def data(self) -> DataConfig:
        """The data sources, whose names experiments use in mixtures."""

    @property
    def model(self) -> ModelFamily:
        """The model family."""

    @property
    def recipe(self) -> Recipe:
        """The recipe."""

    @property
    def schedule(self) -> ScheduleConfig:
        """The decay of every branch that sets none of its own."""


def check_axis(study: StudyParts, experiment: str, axis: str, values: Iterable[Any]) -> None:
    """Check that an axis is a field of the study, and that the field accepts each value.

    Raises:
        Refused: Unknown axis, a value that the field refuses, or a duplicate value.
    """
    section, field = _section_and_field(study, experiment, axis)
    where = f"experiment {experiment!r}: {axis}"
    before = list[Any]()
    for value in values:
        about = {"experiment": experiment, "axis": axis, "value": value}
        try:
            kept = _value(_replaced(section, {field: value}), field)
        except ValidationError as invalid:
            refusal = first_refusal(invalid)
            raise Refused(
                refusal.code, f"{where} = {value!r}: {refusal}", **refusal.values | about
            ) from None
        if isinstance(value, bool) and not isinstance(kept, bool):
            raise Refused("not-a-number", f"{where} = {value!r}: expected a number", **about)
        if isinstance(kept, bool) and not isinstance(value, bool):
            raise Refused(
                "wrong-type", f"{where} = {value!r}: write a list of true and false", **about
            )
        if isinstance(value, str) and not isinstance(kept, str):
            raise Refused(
                "wrong-type", f"{where} = {value!r}: write {kept!r}, without quotes", **about
            )
        if kept in before:
            raise Refused(
                "duplicate-value", f"{where} = {value!r} occurs twice; write it once", **about
            )
        before.append(kept)
        if axis == "recipe.batch_tokens" and value % study.model.context:
            raise Refused(
                "not-a-multiple",
                f"{where} = {value}: not a multiple of model.context = {study.model.context}",
                context=study.model.context,
                **about,
            )


def is_whole(study: StudyParts, axis: str) -> bool:
    """Whether the field of an axis takes whole numbers."""
    section, _, field = axis.partition(".")
    fields = type(_sections(study)[section]).model_fields if section in _sections(study) else {}
    return field in fields and fields[field].annotation is int


def varied(
    study: StudyParts, values: Mapping[str, Any]
) -> tuple[ModelFamily, Recipe, ScheduleConfig]:
    """The study's family, recipe and schedule with the fields of some axes replaced."""
    changes: dict[str, dict[str, Any]] = {"model": {}, "recipe": {}, "schedule": {}}
    for axis, value in values.items():
        section, _, field = axis.partition(".")
        changes[section][field] = value
    return (
        _replaced(study.model, changes["model"]),
        study.recipe.replace(**changes["recipe"]),
        study.schedule.replace(**changes["schedule"]),
    )


def _replaced(section: ASection, changes: Mapping[str, Any]) -> ASection:
    """A section with some fields replaced; `shape.NAME` is one entry of a family's `shape`."""
    plain = {name: value for name, value in changes.items() if not name.startswith(OWN)}
    own = {name.removeprefix(OWN): changes[name] for name in changes if name not in plain}
    if own and isinstance(section, ModelFamily):
        plain["shape"] = section.shape | own
    return section.replace(**plain)


def _value(section: Strict, field: str) -> Any:
    if field.startswith(OWN) and isinstance(section, ModelFamily):
        return section.shape[field.removeprefix(OWN)]
    return getattr(section, field)


def _section_and_field(study: StudyParts, experiment: str, axis: str) -> tuple[Strict, str]:
    """The section of an axis and the name of its field, if there is such a field."""
    sections = _sections(study)
    section, _, field = axis.partition(".")
    where = f"experiment {experiment!r}"
    if section not in sections:
        named = [f"{name}.{axis}" for name, each in sections.items() if axis in _fields(each)]
        hint = (
            f"; did you mean {named[0]!r}?" if named else did_you_mean(section, [*sections, "size"])
        )
        raise Refused(
            "unknown-axis",
            f"{where}: axis {axis!r} is not size, recipe.FIELD, model.FIELD or "
            f"schedule.FIELD{hint}",
            experiment=experiment,
            axis=axis,
            known=["size", *sections],
        )
    known = sorted(_fields(sections[section]))
    if field.startswith(OWN) and isinstance(sections[section], ModelFamily):
        return sections[section], field
    if field not in known:
        raise Refused(
            "unknown-axis",
            f"{where}: {axis!r} is not a field of {section} that can vary"
            f"{did_you_mean(field, known) or '.'} Allowed: {', '.join(known)}",
            experiment=experiment,
            axis=axis,
            known=known,
        )
    return sections[section], field


def _fields(section: Strict) -> set[str]:
    """Names of the fields that an experiment may vary."""
    fixed = {"family", "shape"} if isinstance(section, ModelFamily) else set[str]()
    return set(type(section).model_fields) - {"sizes", "context", "hold"} - fixed


def _sections(study: StudyParts) -> dict[str, Strict]:
    return {"recipe": study.recipe, "model": study.model, "schedule": study.schedule}
