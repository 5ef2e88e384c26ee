"""A settled study: every value that an experiment takes from an earlier one, where it is known.

A study names where values come from: `recipe: {from: tune}`, `transfer: {lr: {length: measured}}`.
Settling fills in winners and measured powers, and lists what each other experiment waits for.
"""

from collections.abc import Mapping
from typing import Any

from windtunnel.config.own_values import Times, multiples, own_values, source_of, took, with_taken
from windtunnel.config.study import (
    Experiment,
    GridExperiment,
    LadderExperiment,
    StudyConfig,
)
from windtunnel.transfer import Along, Cell


def settled(
    study: StudyConfig,
    winners: Mapping[str, Mapping[str, Any]],
    powers: Mapping[Cell, float],
) -> StudyConfig:
    """The study with the winners' values by experiment, and the measured powers by rule.

    `times` become values of the experiment's recipe; of one that waits, of the study's.
    """
    transfer = study.transfer
    for (setting, along), power in powers.items():
        measuring = study.measuring(setting, along)
        if measuring is not None:
            transfer = transfer.with_power((setting, along), measuring, power)
    experiments = []
    for each in study.experiments:
        experiment = each
        if each.name in winners:
            recipe = with_taken(each, winners[each.name])
            experiment = each.model_copy(update={"recipe": recipe})
        experiments.append(_with_values(study, experiment))
    return study.model_copy(update={"transfer": transfer, "experiments": tuple(experiments)})


def waits_for(study: StudyConfig) -> dict[str, tuple[str, ...]]:
    """Experiments that wait, each with the experiments whose results it lacks."""
    unmeasured = {
        along: measuring
        for (setting, along), rule in study.transfer.chosen.items()
        if rule.power is None and (measuring := study.measuring(setting, along)) is not None
    }
    found: dict[str, tuple[str, ...]] = {}
    for each in study.experiments:
        source, lacking = source_of(each), set[str]()
        if source is not None and took(each) is None:
            lacking.add(source)
        if uses_transfer(each):
            lacking |= {by for along, by in unmeasured.items() if _moves(study, each, along)}
        if lacking:
            found[each.name] = tuple(sorted(lacking))
    return found


def _moves(study: StudyConfig, experiment: Experiment, along: Along) -> bool:
    """Whether the runs of an experiment may lie elsewhere than where its recipe was tuned."""
    match along:
        case "batch":
            return "batch_tokens" in experiment.recipe
        case "length":
            return True
    sizes = experiment.sizes_named or study.model.sizes
    return len({size.depth for size in sizes}) > 1


def uses_transfer(experiment: Experiment) -> bool:
    """Whether the study's transfer rules carry the recipe of an experiment."""
    return isinstance(experiment, LadderExperiment) and experiment.transfer


def _with_values(study: StudyConfig, experiment: Experiment) -> Experiment:
    """A grid with a list of values on every axis; any other experiment as it is."""
    if not isinstance(experiment, GridExperiment):
        return experiment
    given = {axis: each for axis, each in experiment.axes.items() if isinstance(each, Times)}
    if not given:
        return experiment
    recipe, schedule = own_values(study, experiment)
    listed = {a: multiples(study, a, each, recipe, schedule) for a, each in given.items()}
    return experiment.model_copy(update={"axes": experiment.axes | listed})
