"""How many segments an experiment asks for, at most, before any of them is made."""

import math
from typing import TYPE_CHECKING

from windtunnel.spec.branching import BranchExperiment
from windtunnel.spec.experiments import Experiment, GridExperiment, ScalingExperiment
from windtunnel.spec.strict import at

if TYPE_CHECKING:
    from windtunnel.spec.config import StudyConfig

MOST_SEGMENTS = 100_000
"""Of a study (assumed): its plan takes some 10 s."""


def check_counts(study: "StudyConfig") -> None:
    """Refuse a study whose plan would hold more branches than `MOST_SEGMENTS`.

    Raises:
        ValueError: With the place of the experiment that goes beyond.
    """
    total = 0
    for number, experiment in enumerate(study.experiments):
        count = branches_asked(experiment, study)
        total += count
        if total > MOST_SEGMENTS:
            with at("experiments", number):
                raise ValueError(
                    f"experiment {experiment.name!r} asks for {count:,} branches, and a study "
                    f"holds at most {MOST_SEGMENTS:,}; ask for fewer values, seeds or horizons"
                )


def branches_asked(experiment: Experiment, study: "StudyConfig") -> int:
    """Branches of an experiment, those that another also asks for included."""
    sizes, seeds = len(study.model.sizes), len(experiment.seeds)
    match experiment:
        case ScalingExperiment():
            sizes = len(experiment.sizes or study.model.sizes)
            further = sum(map(len, experiment.extra_horizons.values()))
            return (sizes * len(experiment.horizons) + further) * seeds
        case GridExperiment():
            cells = math.prod(map(len, experiment.axes.values()))
            each = 1 if "size" in experiment.axes else sizes
            return cells * each * len(experiment.horizons) * seeds
        case BranchExperiment():
            sizes = len(experiment.sizes or study.model.sizes)
            return sizes * len(experiment.forks) * sum(map(len, experiment.ways.values())) * seeds
        case _:
            rungs = len(experiment.early_stopping.rungs) if experiment.early_stopping else 0
            again = min(experiment.top, experiment.trials) * (seeds + experiment.repeats) * 2
            return experiment.trials * (rungs + 1) * seeds + again
