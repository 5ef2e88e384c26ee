"""What of an experiment cannot be planned: its place in the study file, the values, and the fix."""

from dataclasses import replace

from windtunnel.errors import ConfigError, DataError
from windtunnel.spec import Duration
from windtunnel.spec.branching import BranchExperiment
from windtunnel.spec.experiments import GridExperiment, ScalingExperiment
from windtunnel.spec.search import Range, SearchExperiment
from windtunnel.spec.strict import Misfit
from windtunnel.spec.wording import reason
from windtunnel.trials.points import Ground, Point, points_of
from windtunnel.trials.space import Space, Values, space_of
from windtunnel.trials.variant import ForkError, RateError, VariantPoint

REFUSED = (ValueError, ArithmeticError, ConfigError, DataError)
"""What points raise where their values do not fit together; pydantic's error is a ValueError."""

Place = tuple[str | int, ...]
RATE: Place = ("schedule", "final_factor")


def misfit_of(ground: Ground, number: int) -> Misfit | None:
    """What of experiment `number` cannot be planned, if anything: the first that is found."""
    experiment = ground.config.experiments[number]
    if isinstance(experiment, GridExperiment | SearchExperiment):
        return space_misfit(space_of(ground, experiment), number)
    alone = replace(ground, config=ground.config.replace(experiments=(experiment,)))
    place: Place = ("experiments", number)
    try:
        for point in points_of(alone, {}):
            if (refusal := _refusal(point)) is not None:
                if isinstance(refusal, RateError):
                    return Misfit(str(refusal), *RATE)
                within = _place(experiment, point, refusal)
                return Misfit(_named(experiment.name, refusal), *place, *within)
    except REFUSED as refused:
        return Misfit(_named(experiment.name, refused), *place)
    return None


def space_misfit(space: Space, number: int) -> Misfit | None:
    """The first combination of a grid's or a search's values that does not fit."""
    for values in space.combinations():
        for size, horizon in space.places:
            try:
                space.branch(values, size, horizon)
            except REFUSED as refused:
                return _of_values(space, values, refused, number, horizon)
    return None


def _of_values(
    space: Space, values: Values, refused: Exception, number: int, horizon: Duration
) -> Misfit:
    """The axes that a combination fails by, and their values; else the horizon, or the study."""
    name, section = space.experiment.name, space.section
    axes = _axes_to_blame(space, values)
    if not axes:
        if isinstance(refused, RateError):
            return Misfit(str(refused), *RATE)
        return Misfit(_named(name, refused), "experiments", number, *_horizon(space, horizon))
    shown = ", ".join(f"{axis} = {_shown(space, axis, values[axis])}" for axis in axes)
    ranges = [axis for axis in axes if space.range_of(axis)]
    if ranges:
        fix = f"give {' and '.join(ranges)} as a list of values that fit, or narrow the range"
    elif len(axes) > 1:
        fix = "they do not fit together: change one, or give them to an experiment of their own"
    else:
        fix = "leave the value out"
    said = reason(refused).removeprefix(f"experiment {name!r}, ")
    return Misfit(
        f"experiment {name!r}: {shown}: {said}; {fix}",
        "experiments",
        number,
        section,
        axes[-1],
    )


def _axes_to_blame(space: Space, values: Values) -> list[str]:
    """Axes of which another value would fit beside the others; else, the study's own value."""
    found = [
        axis
        for axis, options in space.options.items()
        if any(_fits(space, values | {axis: other}) for other in options if other != values[axis])
    ]
    return found or [
        axis
        for axis in values
        if _fits(space, {other: value for other, value in values.items() if other != axis})
    ]


def _fits(space: Space, values: Values) -> bool:
    try:
        for size, horizon in space.places:
            space.branch(values, size, horizon)
    except REFUSED:
        return False
    return True


def _shown(space: Space, axis: str, value: object) -> str:
    """A value; of a range, one that would read as its end is said to lie beside it."""
    searched = space.range_of(axis)
    if not isinstance(value, float) or not isinstance(searched, Range):
        return repr(value)
    for end, side in ((searched.low, "just above"), (searched.high, "just below")):
        if value != end and f"{value:.6g}" == f"{end:.6g}":
            return f"{side} {end:g}"
    return f"{value:.6g}"


def _horizon(space: Space, horizon: Duration) -> Place:
    """Where a grid or a search asks for a horizon."""
    experiment = space.experiment
    if isinstance(experiment, GridExperiment):
        return ("horizons", experiment.horizons.index(horizon))
    if horizon == experiment.longer_horizon:
        return ("longer",)
    return ("early_stopping", "rungs", 0) if experiment.early_stopping else ("horizon",)


def _named(name: str, refused: Exception) -> str:
    said = reason(refused)
    return said if said.startswith("experiment ") else f"experiment {name!r}: {said}"


def _refusal(point: Point | VariantPoint) -> Exception | None:
    try:
        list(point.chain)
    except REFUSED as refused:
        return refused
    return None


def _place(
    experiment: ScalingExperiment | BranchExperiment,
    point: Point | VariantPoint,
    refused: Exception,
) -> Place:
    """The part of a scaling or branch experiment that a point comes from."""
    if isinstance(experiment, ScalingExperiment):
        if point.horizon in experiment.horizons:
            return ("horizons", experiment.horizons.index(point.horizon))
        return ("extra_horizons",)
    assert isinstance(point, VariantPoint)
    if isinstance(refused, ForkError):
        return ("forks", experiment.forks.index(point.fork))
    return ("variants", point.variant) if point.variant in experiment.variants else ("design",)
