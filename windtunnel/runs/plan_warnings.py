"""What there is to say of a plan before it runs: designs that cannot answer what they ask."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING

from windtunnel.config import Branch, StudyConfig
from windtunnel.config.search import SearchExperiment
from windtunnel.runs.points import Point
from windtunnel.runs.variant import VariantPoint

if TYPE_CHECKING:
    from windtunnel.runs.plan import PlannedSegment

FEW_STEPS = 300
"""Under this a horizon is short for a law: a warning (design decision 13)."""

FEWEST_STAGE_STEPS = 20
"""Under this a stage of a variant gets a warning (assumed: a rate takes some updates to tell)."""

FEWEST_SIZES = 3
"""Distinct sizes without which L(N, D) has no size term."""


def doubts(
    study: StudyConfig,
    points: Sequence[Point | VariantPoint],
    segments: Iterable["PlannedSegment"],
) -> Iterator[str]:
    """A sentence for each of them, with what to do about it."""
    yield from _short_horizons(study, points)
    yield from _without_forecast(points)
    yield from _doubtful_variants(points)
    yield from _not_held_back(segments)


def _short_horizons(study: StudyConfig, points: Iterable[Point | VariantPoint]) -> Iterator[str]:
    searches = {each.name for each in study.experiments if isinstance(each, SearchExperiment)}
    short = [
        (point.branch.end, f"size {point.trunk.model.size}, horizon {point.horizon}")
        for point in points
        if point.experiment not in searches and point.branch.end < FEW_STEPS
    ]
    if short:
        steps, where = min(short)
        yield (
            f"{len({where for _, where in short})} horizons have under {FEW_STEPS} updates (the "
            f"shortest {steps}: {where}); a law wants {FEW_STEPS} or more"
        )


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


def _doubtful_variants(points: Iterable[Point | VariantPoint]) -> Iterator[str]:
    """A warning for each experiment with variants that do not decay, or hardly train."""
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
        yield (
            f"experiment {experiment!r}: {', '.join(map(repr, names))} end{'s' * (len(names) < 2)} "
            "without a decay, and a loss before the decay compares with none after it: add a stage "
            "{decay: ...}"
        )
    for experiment, (steps, variant) in shortest.items():
        if steps < FEWEST_STAGE_STEPS:
            yield (
                f"experiment {experiment!r}: a stage of {variant!r} has {steps} updates, and under "
                f"{FEWEST_STAGE_STEPS} it changes little but the noise: lengthen it"
            )


def _not_held_back(segments: Iterable["PlannedSegment"]) -> Iterator[str]:
    """A warning where a run that one experiment holds out is another's too, and so not held out."""
    shared: dict[tuple[str, str], int] = {}
    for planned in segments:
        if not isinstance(planned.segment, Branch) or planned.held_out:
            continue
        holding = {label.experiment for label in planned.labels if label.held_out}
        asking = {label.experiment for label in planned.labels if not label.held_out}
        for pair in product(sorted(holding), sorted(asking)):
            shared[pair] = shared.get(pair, 0) + 1
    for (one, other), runs in shared.items():
        yield (
            f"experiment {one!r} holds out {runs} of the runs that {other!r} trains at once: the "
            "forecast is fitted to them and does not foretell them; leave that size out of "
            f"{other!r}, or put it in a study of its own"
        )
