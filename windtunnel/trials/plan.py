"""From a study to segments: which trunks, which fork points, which branches, in which phase.

Loads no torch. A plan is plain data: it is written beside the study's results and read by workers.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from windtunnel.errors import ConfigError
from windtunnel.spec import Branch, Segment, Trunk
from windtunnel.spec.search import SearchExperiment
from windtunnel.spec.strict import Strict
from windtunnel.trials.points import Ground, Point, VariantPoint, points_of
from windtunnel.trials.suggested import Suggested

FEW_STEPS = 300
"""Under this a horizon is short for a law: a warning (design decision 13)."""


FEWEST_SIZES = 3
"""Distinct sizes without which L(N, D) has no size term."""


class Label(Strict):
    """Why a segment is in the plan."""

    experiment: str
    horizon: str
    seed: int
    held_out: bool
    variant: str = ""


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

    @cached_property
    def held_out(self) -> bool:
        """Whether it waits until the forecast of it has been written."""
        return all(label.held_out for label in self.labels)

    @property
    def variant(self) -> str | None:
        """Of a branch experiment, by its name there."""
        if isinstance(self.segment, Trunk):
            return None
        return next((label.variant for label in self.labels if label.variant), None)

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


def merged(one: PlannedSegment, other: PlannedSegment) -> PlannedSegment:
    """What two plans need of the same segment."""
    return PlannedSegment(
        segment=one.segment,
        end=max(one.end, other.end),
        forks=tuple(sorted({*one.forks, *other.forks})),
        labels=tuple(dict.fromkeys((*one.labels, *other.labels))),
    )


def make_plan(ground: Ground, suggested: Mapping[str, Suggested] | None = None) -> Plan:
    """Expand a study; of its searches, the trials `suggested` so far, by experiment.

    Raises:
        ConfigError: A horizon is shorter than warmup and decay need, or under 100 updates.
    """
    study = ground.config
    points = list(points_of(ground, suggested or {}))
    searches = {each.name for each in study.experiments if isinstance(each, SearchExperiment)}
    short = [
        (point.branch.end, f"size {point.trunk.model.size}, horizon {point.horizon}")
        for point in points
        if point.experiment not in searches and point.branch.end < FEW_STEPS
    ]
    warnings: tuple[str, ...] = ()
    if short:
        steps, where = min(short)
        cells = len({where for _, where in short})
        warnings = (
            f"{cells} horizons have under {FEW_STEPS} updates (the shortest {steps}: {where}); "
            f"a law wants {FEW_STEPS} or more",
        )
    warnings += tuple(_without_forecast(points))
    return Plan(study=study.study, segments=planned_segments(points), warnings=warnings)


def _without_forecast(points: Iterable[Point | VariantPoint]) -> Iterator[str]:
    """A warning for each experiment that holds a size out and has too few others to forecast it."""
    sizes: dict[str, set[tuple[bool, int]]] = {}
    for point in points:
        sizes.setdefault(point.experiment, set()).add((point.held_out, point.trunk.model.params))
    for experiment, found in sizes.items():
        fitted = sum(not held_out for held_out, _ in found)
        if any(held_out for held_out, _ in found) and fitted < FEWEST_SIZES:
            yield (
                f"experiment {experiment!r} holds out its largest size, and the {fitted} others "
                f"are too few for a forecast, which needs {FEWEST_SIZES}: add sizes, or set "
                "hold_out: none"
            )


def planned_segments(points: Iterable[Point | VariantPoint]) -> tuple[PlannedSegment, ...]:
    """Trunks and branches that reach every point, each once, parents before children.

    Raises:
        ConfigError: A horizon is shorter than warmup and decay need, or under 100 updates.
    """
    branches: dict[str, PlannedSegment] = {}
    for point in points:
        branch = point.branch
        label = Label(
            experiment=point.experiment,
            horizon=str(point.horizon),
            seed=point.trunk.data_seed,
            held_out=point.held_out,
            variant=point.variant,
        )
        planned = PlannedSegment(segment=branch, end=branch.end, labels=(label,))
        known = branches.get(branch.id)
        if known is not None:
            _refuse_twins(known, label)
        branches[branch.id] = planned if known is None else merged(known, planned)
    return _ordered(list(branches.values()))


def _refuse_twins(known: PlannedSegment, label: Label) -> None:
    """Two variants that are one branch would be compared with each other as if they were two."""
    for other in known.labels:
        if other.experiment == label.experiment and other.variant != label.variant:
            raise ConfigError(
                f"experiment {label.experiment!r}: variants {other.variant!r} and "
                f"{label.variant!r} are the same branch ({known.id}): the same decay on the same "
                "mixture; leave one out"
            )


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
