"""From a study to segments: which trunks, which fork points, which branches, in which phase.

Loads no torch. A plan is plain data: it is written beside the study's results and read by workers.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property

from pydantic import Field

from windtunnel.config import Branch, Duration, Segment, Trunk
from windtunnel.config.segment import flops_per_update, tokens_at
from windtunnel.config.units import Strict
from windtunnel.errors import ConfigError
from windtunnel.runs.plan_warnings import doubts
from windtunnel.runs.points import Ground, Point, points_of
from windtunnel.runs.search.trial_log import Suggested
from windtunnel.runs.variant import VariantPoint


class Label(Strict):
    """Why a segment is in the plan."""

    experiment: str
    horizon: str
    seed: int
    held_out: bool
    variant: str = ""
    stage: int = 0
    """Of a variant, what a further stage goes on from is counted from 1; its end is 0."""


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

    @cached_property
    def variants(self) -> dict[str, str]:
        """What each branch experiment calls it; `NAME/STAGE` where it only leads on to an end."""
        if isinstance(self.segment, Trunk):
            return {}
        labels = [label for label in self.labels if label.variant]
        stages = {each.experiment: f"{each.variant}/{each.stage}" for each in reversed(labels)}
        ends = {each.experiment: each.variant for each in labels if not each.stage}
        return {name: ends.get(name, stages[name]) for name in (each.experiment for each in labels)}

    @property
    def variant(self) -> str | None:
        """The one name that all call it by; `EXPERIMENT:NAME+...` where they differ."""
        names = self.variants
        if len(set(names.values())) < 2:
            return next(iter(names.values()), None)
        return "+".join(f"{experiment}:{name}" for experiment, name in names.items())

    @property
    def steps(self) -> int:
        """Updates that are the segment's own."""
        return self.end - self.segment.fork_step

    @property
    def tokens(self) -> int:
        """Tokens that are the segment's own."""
        return self.steps * self.segment.recipe.batch_tokens

    @property
    def flops(self) -> int:
        """FLOPs that are its own, with attention, embedding and head."""
        return self.steps * flops_per_update(self.segment)

    @property
    def tokens_at_end(self) -> int:
        """Tokens of its whole path."""
        return tokens_at(self.segment, self.end)


class Plan(Strict):
    """All segments of a study, parents before children, and what there is to say about them."""

    study: str
    segments: tuple[PlannedSegment, ...]
    warnings: tuple[str, ...] = ()
    weights: dict[str, float] = Field(default_factory=dict)
    """Of the sources that trunks read, where some branch reads another mixture."""
    sets: dict[str, str] = Field(default_factory=dict)
    """Fingerprints of the validation sets by name, once there are any."""

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
    segments = planned_segments(points)
    mixed = any(isinstance(p.segment, Branch) and p.segment.mixture for p in segments)
    return Plan(
        study=study.study,
        segments=segments,
        warnings=tuple(doubts(study, points, segments)),
        weights={each.label: each.weight for each in study.data.sources} if mixed else {},
        sets=dict(ground.sets),
    )


def planned_segments(points: Iterable[Point | VariantPoint]) -> tuple[PlannedSegment, ...]:
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


def _planned(point: Point | VariantPoint, branch: Branch, stage: int) -> PlannedSegment:
    """A branch of a point's chain; all but the last are what the next one starts from."""
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
    """Two variants that are one branch would be compared with each other as if they were two."""
    for other in known.labels:
        are_ends = not other.stage and not label.stage
        if are_ends and other.experiment == label.experiment and other.variant != label.variant:
            raise ConfigError(
                f"experiment {label.experiment!r}: variants {other.variant!r} and "
                f"{label.variant!r} are the same branch ({known.id}): the same rate on the same "
                "data; leave one out"
            )


def _ordered(branches: list[PlannedSegment]) -> tuple[PlannedSegment, ...]:
    """Trunks, then branches, parents first: what is long must not be started last."""
    of_trunk: dict[str, list[PlannedSegment]] = {}
    for branch in branches:
        of_trunk.setdefault(branch.segment.root.id, []).append(branch)
    trunks = [_trunk_of(children) for children in of_trunk.values()]
    return (
        *sorted(trunks, key=lambda each: -each.flops),
        *sorted(branches, key=lambda each: (_depth(each.segment), -each.flops)),
    )


def _trunk_of(branches: list[PlannedSegment]) -> PlannedSegment:
    """The trunk that branches leave, some of them by way of others."""
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
