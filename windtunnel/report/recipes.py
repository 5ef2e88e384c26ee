"""The recipe that stands, field by field: its value, the file's start value, how it was found."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from windtunnel.config.family import idle_fields
from windtunnel.config.own_values import by_axis, source_of, taken_values, took
from windtunnel.config.search import Range, SearchExperiment
from windtunnel.config.study import LadderExperiment, StudyConfig
from windtunnel.findings import Finding
from windtunnel.findings.lr_batch import JointFinding
from windtunnel.findings.lr_curves import BATCH, RATE
from windtunnel.findings.lr_transfer import TransferFinding
from windtunnel.report.inputs import RecipeField, StandingRecipe
from windtunnel.report.verdicts import verdict
from windtunnel.runs.search.summary import value_text
from windtunnel.runs.search.winner import SearchOutcome
from windtunnel.runs.study import Study
from windtunnel.transfer import Place

SECTIONS = ("recipe", "schedule")


def standing_recipes(
    study: Study, findings: Sequence[Finding], outcomes: Sequence[SearchOutcome]
) -> tuple[StandingRecipe, ...]:
    """One of each ladder; without one, of the last search with a winner, else the study's."""
    ladders = [each for each in study.config.experiments if isinstance(each, LadderExperiment)]
    searched = {each.experiment.name: each for each in outcomes}
    found = []
    for ladder in ladders:
        context = study.study_context.of(ladder)
        source = searched.get(source_of(ladder) or "") if took(ladder) else None
        standing = _standing(
            study,
            ladder.name,
            config=context.config,
            findings=findings,
            source=source,
            own=by_axis(ladder),
            place=context.tuned,
        )
        found.append(standing)
    won = [each for each in outcomes if each.winner is not None]
    if found or not won:
        return tuple(found) or (_standing(study, "", config=study.config, findings=findings),)
    last = won[-1]
    values = by_axis(last.experiment) | last.winner.result.trial.values  # type: ignore[union-attr]
    recipe, schedule = taken_values(
        study.config, {a: v for a, v in values.items() if a.partition(".")[0] in SECTIONS}
    )
    config = study.config.model_copy(update={"recipe": recipe, "schedule": schedule})
    name = last.experiment.name
    return (_standing(study, name, config=config, findings=findings, source=last, own=values),)


def _standing(
    study: Study,
    name: str,
    *,
    config: StudyConfig,
    findings: Sequence[Finding],
    source: SearchOutcome | None = None,
    own: Mapping[str, Any] | None = None,
    place: Place | None = None,
) -> StandingRecipe:
    fields = []
    idle = idle_fields(config.model)
    for section in SECTIONS:
        stands, start = getattr(config, section), getattr(study.written, section)
        for field in [each for each in type(stands).model_fields if each not in idle]:
            axis = f"{section}.{field}"
            tests = (*_grids(findings, axis), *_rules(study, axis))
            origin = _origin(study, axis, source, own or {}, name)
            searched = source is not None and axis in source.experiment.space
            fields.append(
                RecipeField(
                    axis=axis,
                    value=getattr(stands, field),
                    start=getattr(start, field),
                    found=(origin, *tests),
                    tuned=searched or bool(tests),
                )
            )
    return StandingRecipe(
        experiment=name,
        recipe=config.recipe,
        schedule=config.schedule,
        fields=tuple(fields),
        place=place,
        rules=study.config.transfer.rules(),
        depths={p.segment.model.params: p.segment.model.depth for p in study.plan.segments},
    )


def _origin(
    study: Study, axis: str, source: SearchOutcome | None, own: Mapping[str, Any], name: str
) -> str:
    """Where the value itself is from."""
    if source is not None and axis in source.experiment.space and source.winner is not None:
        return (
            f"search {source.experiment.name}: trial {source.winner.result.trial.number} of "
            f"{len(source.results)}, tried {_tried(source.experiment, axis)}"
        )
    if axis in own:
        return f"set by {name}"
    section, _, field = axis.partition(".")
    written = getattr(study.written, section).model_fields_set
    return "study file, not searched" if field in written else "default"


def _tried(search: SearchExperiment, axis: str) -> str:
    space = search.space[axis]
    if isinstance(space, Range):
        return f"{value_text(space.low)} to {value_text(space.high)}"
    return ", ".join(value_text(value) for value in space)


def _grids(findings: Sequence[Finding], axis: str) -> Iterator[str]:
    """The grids that vary a field, with what they have shown."""
    for finding in findings:
        varied: tuple[str, ...] = ()
        if isinstance(finding, TransferFinding):
            varied = (finding.setting,)
        elif isinstance(finding, JointFinding):
            varied = (RATE, BATCH)
        if axis in varied:
            shown = verdict(finding).rstrip(".")
            yield f"grid {finding.experiment}" + (
                f": {shown[:1].lower()}{shown[1:]}" if shown else ""
            )


def _rules(study: Study, axis: str) -> Iterator[str]:
    """The transfer rules that move a field away from where it was tuned."""
    measured = {(each.setting, each.along): each for each in study.taken.powers}
    for (setting, along), rule in study.config.transfer.chosen.items():
        if axis != f"recipe.{setting}":
            continue
        power = measured.get((setting, along))
        if power is None:
            own = f"the power {rule.power:g}" if rule.power is not None else rule.name
            source = study.config.measuring(setting, along)
            yield f"follows {along} by {own if source is None else f'what {source} measures'}"
            continue
        ends = (
            ""
            if power.low is None or power.high is None
            else (f" ({power.low:.2f} to {power.high:.2f})")
        )
        yield f"follows {along} to the power {power.power:.2f}{ends}, measured by {power.source}"
