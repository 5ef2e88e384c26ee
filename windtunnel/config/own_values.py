"""Values of one experiment's own: fields of recipe and schedule, or an earlier search's winner.

`recipe: {from: tune, batch_tokens: 16384}` takes the winner of search `tune`, then the fields
beside it. A grid may vary a field by multiples of that recipe's value, as in
`recipe.lr: {times: [0.5, 1, 2]}`. While the winner is not known, the experiment waits. A *settled*
study holds it: `from` is then `{experiment: tune, took: {recipe.lr: 0.012}}`, and every `times` a
list of values.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationError

from windtunnel.config.axes import StudyParts, is_whole
from windtunnel.config.errors import first_refusal, fitting
from windtunnel.config.model import Recipe, ScheduleConfig
from windtunnel.config.units import MOST_LISTED, Misfit, Strict, at, differing, read_counts
from windtunnel.errors import Refused, did_you_mean

FROM, TOOK, EXPERIMENT = "from", "took", "experiment"


def with_counts(values: dict[str, Any], name: str) -> dict[str, Any]:
    """The values with the texts of one, such as `16k`, as numbers; in a list, each of it."""
    if name not in values:
        return values
    with at(name):
        return values | {name: read_counts(values[name])}


BATCH = "batch_tokens"
BatchAxis = AfterValidator(lambda axes: with_counts(axes, f"recipe.{BATCH}"))
"""Reads the batches of an experiment's axes."""


def _checked_recipe(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields, with `from: NAME` as `{experiment: NAME}`, and the batch as a number."""
    fields = with_counts(fields, BATCH)
    if FROM not in fields:
        return fields
    match fields[FROM]:
        case str(name):
            source: dict[str, Any] = {EXPERIMENT: name}
        case {"experiment": str(), "took": dict()} | {"experiment": str()} as source if set(
            source
        ) <= {EXPERIMENT, TOOK}:
            pass
        case other:
            raise Misfit(
                "wrong-type",
                f"{other!r}: expected the name of a search of this study",
                FROM,
                value=other,
            )
    return {FROM: source} | {name: value for name, value in fields.items() if name != FROM}


OwnRecipe = Annotated[
    dict[str, Any],
    AfterValidator(_checked_recipe),
    Field(
        default_factory=dict,
        description="Fields of `recipe` for this experiment; `from: SEARCH` takes that search's "
        "winner, and the experiment waits for it",
        examples=[{"from": "tune"}],
    ),
]
OwnSchedule = Annotated[
    dict[str, Any],
    Field(
        default_factory=dict,
        description="Fields of `schedule` for this experiment",
        examples=[{"decay_fraction": 0.2}],
    ),
]


class Times(Strict):
    """Multiples of the value that the experiment's recipe has."""

    times: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1e6)], ...],
        Field(min_length=1, max_length=MOST_LISTED, description="Multiples of the recipe's value"),
        AfterValidator(differing),
    ]


Listed = Annotated[tuple[Any, ...], Field(min_length=1, max_length=MOST_LISTED)]
AxisValues = Annotated[
    Annotated[Times, Tag("times")] | Annotated[Listed, Tag("list")],
    Discriminator(lambda written: "times" if isinstance(written, dict | Times) else "list"),
]
"""The values of an axis: a list, or multiples of the experiment's own value."""


class Experiment(Protocol):
    """An experiment with values of its own."""

    @property
    def name(self) -> str:
        """Its name, unique in the study."""

    @property
    def recipe(self) -> dict[str, Any]:
        """Fields of its recipe, and `from`."""

    @property
    def schedule(self) -> dict[str, Any]:
        """Fields of its schedule."""


def source_of(experiment: Experiment) -> str | None:
    """The search whose winner an experiment takes."""
    source = experiment.recipe.get(FROM)
    return None if source is None else str(source[EXPERIMENT])


def took(experiment: Experiment) -> dict[str, Any] | None:
    """The winner's values by axis; None before they are known, and without `from`."""
    taken: dict[str, Any] | None = experiment.recipe.get(FROM, {}).get(TOOK)
    return taken


def with_taken(experiment: Experiment, values: Mapping[str, Any]) -> dict[str, Any]:
    """The `recipe` of an experiment, with the values of the winner that it takes."""
    source = experiment.recipe[FROM] | {TOOK: dict(values)}
    return experiment.recipe | {FROM: source}


def by_axis(experiment: Experiment) -> dict[str, Any]:
    """The values of an experiment's own by axis, with those that it has taken."""
    recipe = {f"recipe.{name}": each for name, each in experiment.recipe.items() if name != FROM}
    schedule = {f"schedule.{name}": each for name, each in experiment.schedule.items()}
    return (took(experiment) or {}) | recipe | schedule


def taken_values(study: StudyParts, values: Mapping[str, Any]) -> tuple[Recipe, ScheduleConfig]:
    """The study's recipe and schedule with the values of a winner, by axis.

    Raises:
        Refused: An axis that no winner can have, or a value that its field does not take.
    """
    fields: dict[str, dict[str, Any]] = {"recipe": {}, "schedule": {}}
    for axis, value in values.items():
        section, _, field = axis.partition(".")
        if section not in fields:
            raise Refused(
                "unknown-axis",
                f"{axis!r} is neither recipe.FIELD nor schedule.FIELD",
                axis=axis,
                known=list(fields),
            )
        fields[section][field] = value
    return (
        _with_fields(study.recipe, fields["recipe"], "recipe"),
        _with_fields(study.schedule, fields["schedule"], "schedule"),
    )


def own_values(study: StudyParts, experiment: Experiment) -> tuple[Recipe, ScheduleConfig]:
    """The recipe and the schedule of one experiment; the study's where it has none of its own.

    Raises:
        Misfit: A field that does not exist, or a value that it does not take.
    """
    recipe, schedule = study.recipe, study.schedule
    if taken := took(experiment):
        with at("recipe", FROM, TOOK):
            recipe, schedule = taken_values(study, taken)
    fields = {name: value for name, value in experiment.recipe.items() if name != FROM}
    recipe = _with_fields(recipe, fields, "recipe")
    schedule = _with_fields(schedule, experiment.schedule, "schedule")
    return recipe, schedule


def check_own_values(study: StudyParts, experiment: Experiment) -> None:
    """Check the fields of an experiment's own, and that its batch holds whole rows.

    Raises:
        Misfit: With the field.
    """
    recipe, _ = own_values(study, experiment)
    if recipe.batch_tokens % study.model.context:
        raise Misfit(
            "not-a-multiple",
            f"batch_tokens = {recipe.batch_tokens} is not a multiple of "
            f"model.context = {study.model.context}; "
            f"{fitting(recipe.batch_tokens, study.model.context)}",
            "recipe",
            "batch_tokens",
            batch_tokens=recipe.batch_tokens,
            context=study.model.context,
        )


def multiples(
    study: StudyParts, axis: str, times: Times, recipe: Recipe, schedule: ScheduleConfig
) -> tuple[Any, ...]:
    """The values of an axis that is given by multiples of an experiment's own value.

    Raises:
        Refused: The field is no number, or has none.
    """
    section, _, field = axis.partition(".")
    sections = {"recipe": recipe, "schedule": schedule, "model": study.model}
    base = getattr(sections.get(section), field, None)
    if isinstance(base, bool) or not isinstance(base, int | float) or not base:
        raise Refused(
            "not-a-number",
            f"{axis}: `times` multiplies a number, and it is {base!r}; give a list of values",
            axis=axis,
            value=base,
        )
    # Once the value is the value itself: those runs are then also those of other experiments.
    values: Sequence[float] = [
        base if each == 1 else float(f"{base * each:.12g}") for each in times.times
    ]
    return tuple(map(round, values)) if is_whole(study, axis) else tuple(values)


def _with_fields(section: Any, fields: Mapping[str, Any], name: str) -> Any:
    """A section with some fields replaced, each refused at its own place."""
    known = sorted(type(section).model_fields)
    for field in fields:
        if field not in known:
            raise Misfit(
                "unknown-key",
                f"unknown key{did_you_mean(field, known) or '.'} Allowed: {', '.join(known)}",
                name,
                field,
                known=known,
            )
    for field, value in fields.items():
        try:
            section.replace(**{field: value})
        except ValidationError as invalid:
            refusal = first_refusal(invalid)
            raise Misfit(refusal.code, str(refusal), name, field, **refusal.values) from None
    return section.replace(**fields) if fields else section
