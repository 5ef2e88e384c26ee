"""From a study to segments: which trunks, which fork points, which branches, in which phase.

Loads no torch. A plan is plain data: it is written beside the study's results and read by workers.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

from windtunnel.errors import ConfigError
from windtunnel.spec import (
    Branch,
    Duration,
    ModelSpec,
    Recipe,
    ScheduleChange,
    Segment,
    StudyConfig,
    Trunk,
)
from windtunnel.spec.config import ScheduleConfig
from windtunnel.spec.experiments import GridExperiment, ScalingExperiment
from windtunnel.spec.strict import Strict

FEWEST_STEPS = 100
"""Under this a horizon is mostly warmup and noise: refused (design decision 13)."""

FEW_STEPS = 300
"""Under this a horizon is short for a law: a warning (design decision 13)."""


class Label(Strict):
    """Why a segment is in the plan."""

    experiment: str
    horizon: str
    seed: int
    held_out: bool


class PlannedSegment(Strict):
    """One segment and what this study needs of it."""

    segment: Segment
    end: int
    forks: tuple[int, ...] = ()
    labels: tuple[Label, ...]

    @property
    def id(self) -> str:
        """Id of the segment."""
        return self.segment.id

    @property
    def held_out(self) -> bool:
        """Whether it waits until the forecast of it has been written."""
        return all(label.held_out for label in self.labels)

    @property
    def steps(self) -> int:
        """Updates that are the segment's own."""
        return self.end - self.segment.fork_step

    @property
    def tokens(self) -> int:
        """Tokens that are the segment's own."""
        return self.steps * self.segment.recipe.batch_tokens


class Plan(Strict):
    """All segments of a study, parents before children, and what there is to say about them."""

    study: str
    segments: tuple[PlannedSegment, ...]
    warnings: tuple[str, ...] = ()

    def by_id(self) -> dict[str, PlannedSegment]:
        """Planned segments by id."""
        return {planned.id: planned for planned in self.segments}

    @property
    def branches(self) -> tuple[PlannedSegment, ...]:
        """The planned branches."""
        return tuple(p for p in self.segments if isinstance(p.segment, Branch))

    @property
    def trunks(self) -> tuple[PlannedSegment, ...]:
        """The planned trunks."""
        return tuple(p for p in self.segments if isinstance(p.segment, Trunk))


class _Point(Strict):
    """One horizon of one model under one recipe and one seed."""

    model: ModelSpec
    recipe: Recipe
    schedule: ScheduleConfig
    seed: int
    horizon: Duration
    experiment: str
    held_out: bool


def make_plan(study: StudyConfig, *, vocab_size: int, stream: str) -> Plan:
    """Expand a study over a token stream with `vocab_size` tokens and fingerprint `stream`.

    Raises:
        ConfigError: A horizon is shorter than warmup and decay need, or under 100 updates.
    """
    points: list[_Point] = []
    for experiment in study.experiments:
        match experiment:
            case ScalingExperiment():
                points.extend(_scaling_points(study, experiment, vocab_size))
            case GridExperiment():
                points.extend(_grid_points(study, experiment, vocab_size))
    branches: dict[str, PlannedSegment] = {}
    short: list[tuple[int, str]] = []
    for point in points:
        branch = _branch(point, stream)
        label = Label(
            experiment=point.experiment,
            horizon=str(point.horizon),
            seed=point.seed,
            held_out=point.held_out,
        )
        if branch.end < FEW_STEPS:
            short.append((branch.end, f"size {point.model.size}, horizon {point.horizon}"))
        known = branches.get(branch.id)
        labels = (*known.labels, label) if known else (label,)
        branches[branch.id] = PlannedSegment(segment=branch, end=branch.end, labels=labels)
    segments = _ordered(list(branches.values()))
    warnings: tuple[str, ...] = ()
    if short:
        steps, where = min(short)
        cells = len({where for _, where in short})
        warnings = (
            f"{cells} horizons have under {FEW_STEPS} updates (the shortest {steps}: {where}); "
            f"a law wants {FEW_STEPS} or more",
        )
    return Plan(study=study.study, segments=segments, warnings=warnings)


def _scaling_points(
    study: StudyConfig, experiment: ScalingExperiment, vocab_size: int
) -> Iterator[_Point]:
    sizes = experiment.sizes or study.model.sizes
    models = [study.model.spec(size, vocab_size=vocab_size) for size in sizes]
    largest = max(model.params for model in models)
    for size, model in zip(sizes, models, strict=True):
        horizons = (*experiment.horizons, *experiment.extra_horizons.get(str(size), ()))
        for seed, horizon in product(experiment.seeds, horizons):
            yield _Point(
                model=model,
                recipe=study.recipe,
                schedule=study.schedule,
                seed=seed,
                horizon=horizon,
                experiment=experiment.name,
                held_out=experiment.hold_out == "largest" and model.params == largest,
            )


def _grid_points(
    study: StudyConfig, experiment: GridExperiment, vocab_size: int
) -> Iterator[_Point]:
    axes = dict(experiment.axes)
    sizes = experiment.sizes_named or study.model.sizes
    axes.pop("size", None)
    for values in product(*axes.values()):
        changes: dict[str, dict[str, Any]] = {"recipe": {}, "model": {}, "schedule": {}}
        for axis, value in zip(axes, values, strict=True):
            section, _, field = axis.partition(".")
            changes[section][field] = value
        recipe = study.recipe.replace(**changes["recipe"])
        family = study.model.replace(**changes["model"])
        schedule = study.schedule.replace(**changes["schedule"])
        for size, seed, horizon in product(sizes, experiment.seeds, experiment.horizons):
            yield _Point(
                model=family.spec(size, vocab_size=vocab_size),
                recipe=recipe,
                schedule=schedule,
                seed=seed,
                horizon=horizon,
                experiment=experiment.name,
                held_out=False,
            )


def _branch(point: _Point, stream: str) -> Branch:
    """The branch that decays to the point's horizon."""
    trunk = Trunk(
        model=point.model,
        recipe=point.recipe,
        stream=stream,
        init_seed=point.seed,
        data_seed=point.seed,
    )
    batch, warmup = point.recipe.batch_tokens, point.recipe.warmup_steps
    steps = point.horizon.steps(params=point.model.params, batch_tokens=batch)
    decay = max(1, round(point.schedule.decay_fraction * steps))
    fork = steps - decay
    where = f"experiment {point.experiment!r}, size {point.model.size}, horizon {point.horizon}"
    if point.schedule.shape == "cosine":  # cosine(T) leaves at the end of warmup
        fork, decay = warmup, steps - warmup
    if fork < warmup or decay < 1:
        raise ConfigError(
            f"{where}: {steps} updates, of which {warmup} warm up and {max(decay, 0)} decay; "
            f"lengthen the horizon to more than {_shortest(point)} updates or lower "
            "recipe.warmup_steps"
        )
    if steps < FEWEST_STEPS:
        raise ConfigError(
            f"{where}: {steps} updates of {batch} tokens, and under {FEWEST_STEPS} a loss says "
            "little about the model; lengthen the horizon or lower recipe.batch_tokens"
        )
    return Branch(
        parent=trunk,
        fork_step=fork,
        steps=decay,
        changes=(
            ScheduleChange(shape=point.schedule.shape, final_factor=point.schedule.final_factor),
        ),
    )


def _shortest(point: _Point) -> int:
    if point.schedule.shape == "cosine":
        return point.recipe.warmup_steps
    return int(point.recipe.warmup_steps / (1 - point.schedule.decay_fraction))


def _ordered(branches: list[PlannedSegment]) -> tuple[PlannedSegment, ...]:
    """Trunks, longest work first, then branches: what is long must not be started last."""
    of_trunk: dict[str, list[PlannedSegment]] = {}
    for branch in branches:
        of_trunk.setdefault(branch.segment.root.id, []).append(branch)
    trunks = [
        PlannedSegment(
            segment=children[0].segment.root,
            end=max(child.segment.fork_step for child in children),
            forks=tuple(sorted({child.segment.fork_step for child in children})),
            labels=tuple({label: None for child in children for label in child.labels}),
        )
        for children in of_trunk.values()
    ]
    return (*sorted(trunks, key=_work, reverse=True), *sorted(branches, key=_work, reverse=True))


def _work(planned: PlannedSegment) -> float:
    return planned.tokens * planned.segment.model.flops_exact_per_token
