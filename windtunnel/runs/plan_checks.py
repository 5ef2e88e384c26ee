"""Checks of every experiment before anything runs, each error at its place in the study file.

All combinations of a grid are checked. For a search every corner is checked, every value of each
axis that can be listed, and fixed samples inside its ranges, also right beside their ends.

An axis that changes no run is refused: a search would name a winner among equals, a grid would run
them twice. Two runs are equal if model, rates, multipliers and schedule are. A field may differ
without changing any of them, as a weight decay rule does where every width is the base width.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import Any

from windtunnel.config import Branch, Duration
from windtunnel.config.axes import is_whole, varied
from windtunnel.config.branch import BranchExperiment
from windtunnel.config.errors import first_refusal, reason
from windtunnel.config.search import Range, SearchExperiment
from windtunnel.config.study import ForecastExperiment, GridExperiment, ScalingExperiment
from windtunnel.config.units import Misfit, Size
from windtunnel.errors import ConfigError, DataError
from windtunnel.family import MINICPM
from windtunnel.mup import Role
from windtunnel.runs.points import RunPoint, StudyContext, points_of, search_size, trial_horizons
from windtunnel.runs.variant import ForkError, RateError, VariantPoint

MOST_CORNERS = 512
SAMPLES = 64
MOST_WHOLE = 64
"""Whole numbers of a range that are all checked; of a longer range, this many are."""
INSIDE = (0.001, 0.1234, 0.2857, 0.4142, 0.5772, 0.7183, 0.8765, 0.999)
"""Relative positions checked inside a range; none is round where the range is round."""

Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Space:
    """The axes of one experiment; `options` has the checked values of each."""

    study_context: StudyContext
    experiment: GridExperiment | SearchExperiment
    options: dict[str, Sequence[Any]]
    sizes: tuple[Size, ...]
    horizons: tuple[Duration, ...]

    @property
    def places(self) -> list[tuple[Size, Duration]]:
        """Sizes and horizons of each combination; one size where `size` is an axis."""
        sizes = self.sizes[:1] if "size" in self.options else self.sizes
        return list(product(sizes, self.horizons))

    @property
    def section(self) -> str:
        """The key of the axes in the study file."""
        return "axes" if isinstance(self.experiment, GridExperiment) else "space"

    def range_of(self, axis: str) -> Range | None:
        """The range of an axis; None where it is a list."""
        if isinstance(self.experiment, GridExperiment):
            return None
        searched = self.experiment.space[axis]
        return searched if isinstance(searched, Range) else None

    def point(self, values: Values, size: Size, horizon: Duration) -> RunPoint:
        """The run of one combination at one horizon, and at one size unless `size` is an axis.

        Raises:
            ValueError: The values do not fit together.
        """
        study_context = self.study_context.of(self.experiment)
        fields = {axis: value for axis, value in values.items() if axis != "size"}
        family, recipe, schedule = varied(study_context.config, fields)
        size = Size.parse(values.get("size", size))
        model = family.spec(size, vocab_size=study_context.vocab_size)
        trunk = study_context.trunk(model, recipe, self.experiment.seeds[0])
        name = self.experiment.name
        return RunPoint(trunk=trunk, schedule=schedule, horizon=horizon, experiment=name)

    def branch(self, values: Values, size: Size, horizon: Duration) -> Branch:
        """The branch that reaches that point.

        Raises:
            ValueError: As of `point`.
            ConfigError: As of the point's `branch`.
        """
        return self.point(values, size, horizon).branch

    def combinations(self) -> Iterator[Values]:
        """The checked combinations."""
        axes, draw = list(self.options), random.Random(0)
        if isinstance(self.experiment, GridExperiment):
            yield from (dict(zip(axes, each, strict=True)) for each in product(*self._listed()))
            return

        def drawn() -> Values:
            return {axis: draw.choice(values) for axis, values in self.options.items()}

        corners = [
            (values[0], values[-1]) if self.range_of(axis) else values
            for axis, values in self.options.items()
        ]
        for each in islice(product(*corners), MOST_CORNERS):
            yield dict(zip(axes, each, strict=True))
        for each in islice(product(*self._listed()), MOST_CORNERS):
            yield dict(zip(axes, each, strict=True))
        for axis, values in self.options.items():
            for value in values:
                yield drawn() | {axis: value}
        for _ in range(SAMPLES):
            yield drawn()

    def _listed(self) -> list[Sequence[Any]]:
        return list(self.options.values())


def space_of(study_context: StudyContext, experiment: GridExperiment | SearchExperiment) -> Space:
    """The space of an experiment, with the horizons at which it can fail first."""
    if isinstance(experiment, GridExperiment):
        return Space(
            study_context=study_context,
            experiment=experiment,
            options={axis: experiment.listed(axis) for axis in experiment.axes},
            sizes=experiment.sizes_named or study_context.config.model.sizes,
            horizons=experiment.horizons,
        )
    horizons = (trial_horizons(experiment)[0], experiment.longer_horizon)
    return Space(
        study_context=study_context,
        experiment=experiment,
        options={
            axis: _looked_at(study_context, experiment, axis, searched)
            for axis, searched in experiment.space.items()
        },
        sizes=(search_size(study_context, experiment),),
        horizons=horizons if experiment.top else horizons[:1],
    )


def _looked_at(
    study_context: StudyContext, experiment: SearchExperiment, axis: str, searched: Any
) -> Sequence[Any]:
    """The checked values of one axis of a search; of a range, from its low to its high end."""
    if not isinstance(searched, Range):
        return tuple(searched)
    if experiment.sampler_taken == "grid":
        return searched.grid()
    low, high = searched.low, searched.high
    inside = [searched.value(position) for position in INSIDE]
    if not is_whole(study_context.config, axis):
        return [low, *inside, math.nextafter(low, high), math.nextafter(high, low), high]
    first, last = int(low), int(high)
    if last - first < MOST_WHOLE:
        return range(first, last + 1)
    steps = [first + (last - first) * k // (MOST_WHOLE - 1) for k in range(MOST_WHOLE)]
    return sorted({*steps, first + 1, last - 1, *map(round, inside)})


REFUSED = (ValueError, ArithmeticError, ConfigError, DataError)
"""Exceptions of points whose values do not fit together; pydantic's error is a ValueError."""

Place = tuple[str | int, ...]
RATE: Place = ("schedule", "final_factor")


def misfit_of(study_context: StudyContext, number: int) -> Misfit | None:
    """The first reason why experiment `number` cannot be planned, if any."""
    experiment = study_context.config.experiments[number]
    if isinstance(experiment, GridExperiment | SearchExperiment):
        return space_misfit(space_of(study_context, experiment), number)
    others = {each.name for each in study_context.config.experiments} - {experiment.name}
    alone = replace(study_context, waiting=frozenset(others))
    place: Place = ("experiments", number)
    try:
        for point in points_of(alone, {}):
            if (refusal := _refusal(point)) is not None:
                if isinstance(refusal, RateError):
                    return at_place(refusal, str(refusal), *RATE)
                within = _place(experiment, point, refusal)
                return at_place(refusal, _named(experiment.name, refusal), *place, *within)
    except REFUSED as refused:
        return at_place(refused, _named(experiment.name, refused), *place)
    return None


def at_place(refused: Exception, message: str, *place: str | int, **values: object) -> Misfit:
    """A Misfit at a place of the study file, with the code and values of a refusal."""
    cause = first_refusal(refused)
    return Misfit(cause.code, message, *place, **cause.values | values)


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
    """The axes that make a combination fail, with their values; else the horizon, or the study."""
    name, section = space.experiment.name, space.section
    axes = _axes_to_blame(space, values)
    if not axes:
        if isinstance(refused, RateError):
            return at_place(refused, str(refused), *RATE)
        place = ("experiments", number, *_horizon(space, horizon))
        return at_place(refused, _named(name, refused), *place)
    shown = ", ".join(f"{axis} = {_shown(space, axis, values[axis])}" for axis in axes)
    ranges = [axis for axis in axes if space.range_of(axis)]
    if ranges:
        fix = f"give {' and '.join(ranges)} as a list of values that fit, or narrow the range"
    elif len(axes) > 1:
        fix = "they do not fit together: change one, or give them to an experiment of their own"
    else:
        fix = "leave the value out"
    problem = reason(refused).removeprefix(f"experiment {name!r}, ")
    return at_place(
        refused,
        f"experiment {name!r}: {shown}: {problem}; {fix}",
        "experiments",
        number,
        section,
        axes[-1],
        experiment=name,
        axes={axis: values[axis] for axis in axes},
    )


def _axes_to_blame(space: Space, values: Values) -> list[str]:
    """Axes of which another value would fit beside the others; else the study's own value."""
    blamed = [
        axis
        for axis, options in space.options.items()
        if any(_fits(space, values | {axis: other}) for other in options if other != values[axis])
    ]
    return blamed or [
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
    """A value as text; a range value that would read as the range's end is marked as beside it."""
    searched = space.range_of(axis)
    if not isinstance(value, float) or not isinstance(searched, Range):
        return repr(value)
    for end, side in ((searched.low, "just above"), (searched.high, "just below")):
        if value != end and f"{value:.6g}" == f"{end:.6g}":
            return f"{side} {end:g}"
    return f"{value:.6g}"


def _horizon(space: Space, horizon: Duration) -> Place:
    """The place of the horizon of a grid or a search."""
    experiment = space.experiment
    if isinstance(experiment, GridExperiment):
        return ("horizons", experiment.horizons.index(horizon))
    if horizon == experiment.longer_horizon:
        return ("longer",)
    return ("early_stopping", "rungs", 0) if experiment.early_stopping else ("horizon",)


def _named(name: str, refused: Exception) -> str:
    """The message of a refusal, which names its experiment."""
    cause = first_refusal(refused)
    return str(cause) if "experiment" in cause.values else f"experiment {name!r}: {cause}"


def _refusal(point: RunPoint | VariantPoint) -> Exception | None:
    try:
        list(point.chain)
    except REFUSED as refused:
        return refused
    return None


def _place(
    experiment: ScalingExperiment | BranchExperiment | ForecastExperiment,
    point: RunPoint | VariantPoint,
    refused: Exception,
) -> Place:
    """The part of a scaling or branch experiment that a point comes from."""
    if isinstance(experiment, ScalingExperiment):
        if point.horizon in experiment.horizons:
            return ("horizons", experiment.horizons.index(point.horizon))
        return ("extra_horizons",)
    if isinstance(experiment, ForecastExperiment):
        within, of = (("target",), experiment.target) if point.held_out else ((), experiment)
        return (*within, "horizons", of.horizons.index(point.horizon))
    assert isinstance(point, VariantPoint)
    if isinstance(refused, ForkError):
        return ("forks", experiment.forks.index(point.fork))
    return ("variants", point.variant) if point.variant in experiment.variants else ("design",)


MOST_PROBES = 64
"""Most combinations of the other axes of a search at which an axis is tested for an effect."""
RATES = 8
"""Updates of a decay at which rates are compared, besides its ends."""


def check_effects(space: Space, number: int) -> None:
    """Refuse an axis of which some values give the same runs, whatever the other axes are.

    Raises:
        Misfit: With the axis and why it has no effect.
    """
    for axis, options in space.options.items():
        if alike := _alike(space, axis, options):
            every = len(alike) == len(options)
            name, values = space.experiment.name, ", ".join(map(repr, alike))
            problem = (
                f"{axis} changes no run of experiment {name!r}"
                if every
                else f"experiment {name!r}: {axis} = {values} give the same runs"
            )
            fix = "leave the axis out" if every else "keep one of them"
            raise Misfit(
                "axis-without-effect",
                f"{problem}: {_why(space, axis)}; {fix}",
                "experiments",
                number,
                space.section,
                axis,
                experiment=name,
                axis=axis,
                equal=list(alike),
            )


def _alike(space: Space, axis: str, options: Sequence[Any]) -> list[Any]:
    """Values of an axis that give equal runs under all others; of a range, all or none."""
    groups = [list(options)]
    for others, size, horizon in _probes(space, axis):
        equal_groups: list[list[Any]] = []
        for group in groups:
            by_effect: dict[Any, list[Any]] = {}
            for value in group:
                point = space.point(others | {axis: value}, size, horizon)
                by_effect.setdefault(_effect(point), []).append(value)
            equal_groups += [each for each in by_effect.values() if len(each) > 1]
        groups = equal_groups
        if not groups or (space.range_of(axis) and len(groups[0]) < len(options)):
            return []
    return groups[0] if len(options) > 1 else []


def _probes(space: Space, axis: str) -> Iterator[tuple[Values, Any, Any]]:
    """Combinations of all but one axis, each at each size and horizon, the longest first."""
    ends = space.places[::-1]
    if isinstance(space.experiment, GridExperiment):
        others = {each: values for each, values in space.options.items() if each != axis}
        combinations: Iterator[Values] = (
            dict(zip(others, each, strict=True)) for each in product(*others.values())
        )
    else:
        whole = list(space.combinations())
        step = max(1, len(whole) // MOST_PROBES)
        combinations = (
            {each: value for each, value in values.items() if each != axis}
            for values in reversed(whole[::step])
        )
    for values in combinations:
        for size, horizon in ends:
            yield values, size, horizon


def _effect(point: RunPoint) -> tuple[Any, ...]:
    """Every field that distinguishes one run from another."""
    model, recipe, branch = point.trunk.model, point.trunk.recipe, point.branch
    scales = [recipe.scale(role, model) for role in Role]
    return (
        model,
        branch.end,
        (recipe.batch_tokens, recipe.warmup_steps, recipe.beta1, recipe.beta2, recipe.clip),
        recipe.multipliers(model),
        recipe.kv_init_std(model),
        tuple(
            (
                recipe.init_std * scale.init_std,
                recipe.lr * scale.lr,
                recipe.weight_decay * scale.weight_decay,
                recipe.eps * scale.eps,
            )
            for scale in scales
        ),
        _rates(point),
    )


def _rates(point: RunPoint) -> tuple[float, ...]:
    """Rates of the decay and its first update; empty where the rate is held."""
    branch = point.branch
    schedule = branch.schedule
    steps = {branch.fork_step + branch.steps * k // RATES for k in range(RATES)}
    rates = [schedule(step) for step in sorted({*steps, branch.end - 1})]
    return () if set(rates) == {1.0} else (branch.fork_step, *rates)


def _why(space: Space, axis: str) -> str:
    """The reason why an axis has no effect, if known."""
    study = space.study_context.of(space.experiment).config
    recipe, sizes = study.recipe, space.sizes
    match axis:
        case "model.width_per_layer" if all(size.depth for size in sizes):
            return f"sizes carry their depth ({', '.join(map(str, sizes))})"
        case "model.width_per_layer":
            return "the depths that follow from it are equal"
        case "recipe.weight_decay_rule" if not recipe.weight_decay:
            return "recipe.weight_decay is 0"
        case "recipe.weight_decay_rule" if recipe.parametrization == "standard":
            return "under `parametrization: standard` weight decay follows no width"
        case "recipe.scale_emb" | "recipe.scale_depth" if study.model.family != MINICPM:
            return f"family {study.model.family} has no such multiplier"
        case "recipe.kv_rule":
            return "no size has more query heads than kv heads"
        case "recipe.base_depth" if recipe.parametrization != "completep":
            return f"`parametrization: {recipe.parametrization}` has no depth rule"
        case "recipe.weight_decay_rule" | "recipe.parametrization" if all(
            size.width == recipe.base_width for size in sizes
        ):
            return f"every width is recipe.base_width = {recipe.base_width}"
        case "schedule.shape" | "schedule.decay_fraction" if study.schedule.final_factor == 1:
            return "schedule.final_factor is 1, which holds the rate"
        case "schedule.decay_fraction":
            return "the decays that follow from it have as many updates"
    return "model, rates and schedule are equal"
