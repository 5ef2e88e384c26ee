"""The plan of a study: its trunks, fork points and branches, and warnings about the design.

A plan is plain data, stored beside the study's results and read by workers. Loads no torch.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import Annotated

from pydantic import Field, PlainSerializer, PlainValidator

from windtunnel.config import Branch, Duration, Segment, StudyConfig, Trunk
from windtunnel.config.search import SearchExperiment
from windtunnel.config.segment import flops_per_update, tokens_at
from windtunnel.config.study import GridExperiment
from windtunnel.config.units import Strict
from windtunnel.errors import ConfigError, Diagnostic
from windtunnel.runs.points import RunPoint, StudyContext, points_of
from windtunnel.runs.search.trial_log import TrialLog
from windtunnel.runs.table import variant_name
from windtunnel.runs.variant import VariantPoint

FEW_STEPS = 300
"""A horizon with fewer updates gets a warning: it is short for a law (design decision 13)."""

FEWEST_STAGE_STEPS = 20
"""A stage with fewer updates gets a warning (assumed: a rate needs some updates to show)."""

FEWEST_SIZES = 3
"""Fewest distinct sizes, and lengths in tokens, that give L(N, D) its two terms."""


def _as_warning(value: object) -> Diagnostic:
    return value if isinstance(value, Diagnostic) else Diagnostic("plan", str(value))


PlanWarning = Annotated[
    Diagnostic,
    PlainValidator(_as_warning),
    PlainSerializer(lambda warning: warning.message, return_type=str),
]
"""A warning of a plan; files hold its message alone."""


class Label(Strict):
    """The reason why an experiment needs a segment."""

    experiment: str
    horizon: str
    seed: int
    held_out: bool
    variant: str = ""
    stage: int = 0
    """Stage of a variant: 0 for the end of its chain, else an earlier stage, counted from 1."""


class PlannedSegment(Strict):
    """One segment and what a study needs of it.

    Attributes:
        segment: The trunk or branch.
        end: Updates to train it to, counted from the start of its path.
        forks: Updates at which other branches leave it.
        labels: The experiments that need it.
    """

    segment: Segment
    end: int
    forks: tuple[int, ...] = ()
    labels: tuple[Label, ...]

    @property
    def id(self) -> str:
        """Id of the segment."""
        return self.segment.id

    @cached_property
    def held_out(self) -> bool:
        """Whether the segment waits until its forecast is recorded."""
        return all(label.held_out for label in self.labels)

    @cached_property
    def variants(self) -> dict[str, str]:
        """Variant name by branch experiment; `NAME/STAGE` for an earlier stage of a chain."""
        if isinstance(self.segment, Trunk):
            return {}
        labels = [label for label in self.labels if label.variant]
        stages = {each.experiment: f"{each.variant}/{each.stage}" for each in reversed(labels)}
        ends = {each.experiment: each.variant for each in labels if not each.stage}
        return {name: ends.get(name, stages[name]) for name in (each.experiment for each in labels)}

    @property
    def variant(self) -> str | None:
        """The variant name that all experiments share; `EXPERIMENT:NAME+...` where they differ."""
        return variant_name(self.variants)

    @property
    def steps(self) -> int:
        """Updates of the segment itself, without its path before the fork."""
        return self.end - self.segment.fork_step

    @property
    def tokens(self) -> int:
        """Tokens of the segment itself."""
        return self.steps * self.segment.recipe.batch_tokens

    @property
    def flops(self) -> int:
        """FLOPs of the segment itself, with attention, embedding and head."""
        return self.steps * flops_per_update(self.segment)

    @property
    def tokens_at_end(self) -> int:
        """Tokens of the whole path."""
        return tokens_at(self.segment, self.end)


class Plan(Strict):
    """All segments of a study, parents before children, with warnings about the design."""

    study: str
    segments: tuple[PlannedSegment, ...]
    warnings: tuple[PlanWarning, ...] = ()
    weights: dict[str, float] = Field(default_factory=dict)
    """Mixture weights of the trunks by source, where some branch reads another mixture."""
    sets: dict[str, str] = Field(default_factory=dict)
    """Fingerprints of the validation sets by name; empty before the data is prepared."""

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


def merged(one: PlannedSegment, other: PlannedSegment) -> PlannedSegment:
    """The union of two plans of the same segment."""
    return PlannedSegment(
        segment=one.segment,
        end=max(one.end, other.end),
        forks=tuple(sorted({*one.forks, *other.forks})),
        labels=tuple(dict.fromkeys((*one.labels, *other.labels))),
    )


def make_plan(study_context: StudyContext, suggested: Mapping[str, TrialLog] | None = None) -> Plan:
    """The plan of a study, with the trials suggested so far by each of its searches.

    Raises:
        ConfigError: A horizon is shorter than warmup and decay need, or under 100 updates.
    """
    study = study_context.config
    points = list(points_of(study_context, suggested or {}))
    segments = planned_segments(points)
    mixed = any(isinstance(p.segment, Branch) and p.segment.mixture for p in segments)
    return Plan(
        study=study.study,
        segments=segments,
        warnings=tuple(plan_warnings(study, points, segments)),
        weights={each.label: each.weight for each in study.data.sources} if mixed else {},
        sets=dict(study_context.sets),
    )


def planned_segments(points: Iterable[RunPoint | VariantPoint]) -> tuple[PlannedSegment, ...]:
    """Trunks and branches that reach every point, each once, parents before children.

    Raises:
        ConfigError: A horizon is shorter than warmup and decay need, or under 100 updates.
    """
    branches: dict[str, PlannedSegment] = {}
    for point in points:
        for stage, branch in enumerate(point.chain, start=1):
            planned = _planned(point, branch, stage)
            known = branches.get(branch.id)
            if known is not None:
                _refuse_twins(known, planned.labels[0])
            branches[branch.id] = planned if known is None else merged(known, planned)
    return _ordered(list(branches.values()))


def _planned(point: RunPoint | VariantPoint, branch: Branch, stage: int) -> PlannedSegment:
    """A branch of a point's chain; all but the last are parents of the next one."""
    is_last = stage == len(point.chain)
    label = Label(
        experiment=point.experiment,
        horizon=str(point.horizon if is_last else _whole_path(branch)),
        seed=point.trunk.data_seed,
        held_out=point.held_out,
        variant=point.variant,
        stage=0 if is_last else stage,
    )
    forks = () if is_last else (branch.end,)
    return PlannedSegment(segment=branch, end=branch.end, forks=forks, labels=(label,))


def _whole_path(branch: Branch) -> Duration:
    return Duration(amount=tokens_at(branch, branch.end), unit="tokens")


def _refuse_twins(known: PlannedSegment, label: Label) -> None:
    """Refuse two variants of one experiment that are the same branch.

    Raises:
        ConfigError: They would be compared with each other as if they were two.
    """
    for other in known.labels:
        are_ends = not other.stage and not label.stage
        if are_ends and other.experiment == label.experiment and other.variant != label.variant:
            raise ConfigError(
                "same-branch",
                f"experiment {label.experiment!r}: variants {other.variant!r} and "
                f"{label.variant!r} are the same branch ({known.id}): the same rate on the same "
                "data; leave one out",
                experiment=label.experiment,
                variants=[other.variant, label.variant],
                segment=known.id,
            )


def _ordered(branches: list[PlannedSegment]) -> tuple[PlannedSegment, ...]:
    """Trunks, then branches: parents first, and longest first so that no long one starts last."""
    of_trunk: dict[str, list[PlannedSegment]] = {}
    for branch in branches:
        of_trunk.setdefault(branch.segment.root.id, []).append(branch)
    trunks = [_trunk_of(children) for children in of_trunk.values()]
    return (
        *sorted(trunks, key=lambda each: -each.flops),
        *sorted(branches, key=lambda each: (_depth(each.segment), -each.flops)),
    )


def _trunk_of(branches: list[PlannedSegment]) -> PlannedSegment:
    """The trunk of some branches, which leave it directly or through others."""
    trunk = branches[0].segment.root
    forks = {
        each.segment.fork_step
        for each in branches
        if isinstance(each.segment, Branch) and each.segment.parent.id == trunk.id
    }
    return PlannedSegment(
        segment=trunk,
        end=max(forks),
        forks=tuple(sorted(forks)),
        labels=tuple({label: None for each in branches for label in each.labels}),
    )


def _depth(segment: Segment) -> int:
    """Branches between a segment and its trunk."""
    return 1 + _depth(segment.parent) if isinstance(segment, Branch) else 0


def plan_warnings(
    study: StudyConfig,
    points: Sequence[RunPoint | VariantPoint],
    segments: Iterable[PlannedSegment],
) -> Iterator[Diagnostic]:
    """Warnings about designs that cannot answer their own question."""
    yield from _short_horizons(study, points)
    yield from _grid_warnings(study)
    yield from _without_forecast(points)
    yield from _variant_warnings(points)
    yield from _shared_holdouts(segments)


def _short_horizons(
    study: StudyConfig, points: Iterable[RunPoint | VariantPoint]
) -> Iterator[Diagnostic]:
    searches = {each.name for each in study.experiments if isinstance(each, SearchExperiment)}
    short = [
        (point.branch.end, f"size {point.trunk.model.size}, horizon {point.horizon}")
        for point in points
        if point.experiment not in searches and point.branch.end < FEW_STEPS
    ]
    if short:
        steps, where = min(short)
        count = len({where for _, where in short})
        yield Diagnostic(
            "short-horizons",
            f"{count} horizons have under {FEW_STEPS} updates (the shortest {steps}: {where}); a "
            f"law wants {FEW_STEPS} or more",
            horizons=count,
            shortest=steps,
            wanted=FEW_STEPS,
        )


def _grid_warnings(study: StudyConfig) -> Iterator[Diagnostic]:
    """Warnings for grids that measure how a best value moves, and change something else as well."""
    for grid in study.experiments:
        if not isinstance(grid, GridExperiment):
            continue
        tuned = [axis for axis in grid.axes if axis.startswith("recipe.")]
        sizes = grid.sizes_named or study.model.sizes
        moves = len(sizes) > 1 or len(grid.horizons) > 1 or len(grid.axes) > 1
        if not (tuned and moves):
            continue
        relative = [str(horizon) for horizon in grid.horizons if horizon.unit == "N"]
        if relative and len(sizes) > 1:
            yield Diagnostic(
                "length-follows-size",
                f"experiment {grid.name!r} varies {', '.join(tuned)} over {len(sizes)} sizes at "
                f"{', '.join(relative)}, so larger models also train longer, and a drift of the "
                "best value over size holds that over length: give the horizons in tokens, such "
                "as '4e5 tokens'",
                experiment=grid.name,
                axes=tuned,
                sizes=[str(size) for size in sizes],
                horizons=relative,
            )
        if len(grid.seeds) == 1:
            yield Diagnostic(
                "one-seed",
                f"experiment {grid.name!r} has one seed, which cannot tell a drift of the best "
                f"{', '.join(tuned)} from noise between seeds: set seeds: 2",
                experiment=grid.name,
                axes=tuned,
                seeds=1,
            )


def _without_forecast(points: Iterable[RunPoint | VariantPoint]) -> Iterator[Diagnostic]:
    """A warning for each experiment with too few runs to forecast those that it holds out."""
    by_experiment: dict[str, list[RunPoint | VariantPoint]] = {}
    for point in points:
        by_experiment.setdefault(point.experiment, []).append(point)
    for experiment, found in by_experiment.items():
        fitted = [point for point in found if not point.held_out]
        if len(fitted) == len(found):
            continue
        sizes = len({point.trunk.model.params for point in fitted})
        lengths = len({tokens_at(point.branch, point.branch.end) for point in fitted})
        if sizes < FEWEST_SIZES:
            yield Diagnostic(
                "no-forecast",
                f"experiment {experiment!r} holds out its largest size, and the {sizes} others "
                f"are too few for a forecast, which needs {FEWEST_SIZES}: add sizes, or set "
                "hold_out: none",
                experiment=experiment,
                sizes=sizes,
                needed=FEWEST_SIZES,
            )
        elif lengths < FEWEST_SIZES:
            yield Diagnostic(
                "no-forecast",
                f"experiment {experiment!r}: the runs to forecast from have {lengths} lengths in "
                f"tokens, and a forecast needs {FEWEST_SIZES}: add horizons",
                experiment=experiment,
                lengths=lengths,
                needed=FEWEST_SIZES,
            )


def _variant_warnings(points: Iterable[RunPoint | VariantPoint]) -> Iterator[Diagnostic]:
    """Warnings for each experiment whose variants end undecayed, or have a very short stage."""
    undecayed: dict[str, dict[str, None]] = {}
    shortest: dict[str, tuple[int, str]] = {}
    for point in points:
        if not isinstance(point, VariantPoint):
            continue
        if not point.branch.decayed:
            undecayed.setdefault(point.experiment, {})[point.variant] = None
        stage = min((branch.steps, point.variant) for branch in point.chain)
        shortest[point.experiment] = min(stage, shortest.get(point.experiment, stage))
    for experiment, names in undecayed.items():
        yield Diagnostic(
            "undecayed-variants",
            f"experiment {experiment!r}: {', '.join(map(repr, names))} end{'s' * (len(names) < 2)} "
            "without a decay, and a loss before the decay compares with none after it: add a stage "
            "{decay: ...}",
            experiment=experiment,
            variants=list(names),
        )
    for experiment, (steps, variant) in shortest.items():
        if steps < FEWEST_STAGE_STEPS:
            yield Diagnostic(
                "short-stage",
                f"experiment {experiment!r}: a stage of {variant!r} has {steps} updates, and under "
                f"{FEWEST_STAGE_STEPS} it changes little but the noise: lengthen it",
                experiment=experiment,
                variant=variant,
                updates=steps,
                wanted=FEWEST_STAGE_STEPS,
            )


def _shared_holdouts(segments: Iterable[PlannedSegment]) -> Iterator[Diagnostic]:
    """A warning for each pair of experiments of which one trains runs that the other holds out."""
    shared: dict[tuple[str, str], int] = {}
    for planned in segments:
        if not isinstance(planned.segment, Branch) or planned.held_out:
            continue
        holding = {label.experiment for label in planned.labels if label.held_out}
        training = {label.experiment for label in planned.labels if not label.held_out}
        for pair in product(sorted(holding), sorted(training)):
            shared[pair] = shared.get(pair, 0) + 1
    for (one, other), runs in shared.items():
        yield Diagnostic(
            "shared-holdout",
            f"experiment {one!r} holds out {runs} of the runs that {other!r} trains at once: the "
            "forecast is fitted to them and does not foretell them; leave that size out of "
            f"{other!r}, or put it in a study of its own",
            experiment=one,
            other=other,
            runs=runs,
        )
