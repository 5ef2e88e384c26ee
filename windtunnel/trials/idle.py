"""Axes that change no run: a search would name a winner among equals, a grid would run them twice.

Two runs are equal if model, rates, multipliers and schedule are: a field may differ and change
none of them, as a weight decay rule does where every width is the base width.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from windtunnel.parametrization import Role
from windtunnel.spec.experiments import GridExperiment
from windtunnel.spec.strict import Misfit
from windtunnel.trials.points import Point
from windtunnel.trials.space import Space, Values

MOST_PROBES = 64
"""Combinations of the other axes of a search, in each of which an axis may show an effect."""
RATES = 8
"""Updates of a decay at which rates are compared, beside its ends."""


def check_effects(space: Space, number: int) -> None:
    """Refuse an axis of which some values give the same runs, whatever the other axes are.

    Raises:
        Misfit: With the axis and why it has no effect.
    """
    for axis, options in space.options.items():
        if alike := _alike(space, axis, options):
            every = len(alike) == len(options)
            name, values = space.experiment.name, ", ".join(map(repr, alike))
            said = (
                f"{axis} changes no run of experiment {name!r}"
                if every
                else f"experiment {name!r}: {axis} = {values} give the same runs"
            )
            fix = "leave the axis out" if every else "keep one of them"
            raise Misfit(
                f"{said}: {_why(space, axis)}; {fix}",
                "experiments",
                number,
                space.section,
                axis,
            )


def _alike(space: Space, axis: str, options: Sequence[Any]) -> list[Any]:
    """Values of an axis that no combination of the others tells apart; of a range, all or none."""
    groups = [list(options)]
    for others, size, horizon in _probes(space, axis):
        told: list[list[Any]] = []
        for group in groups:
            by_effect: dict[Any, list[Any]] = {}
            for value in group:
                point = space.point(others | {axis: value}, size, horizon)
                by_effect.setdefault(_effect(point), []).append(value)
            told += [each for each in by_effect.values() if len(each) > 1]
        groups = told
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


def _effect(point: Point) -> tuple[Any, ...]:
    """All by which a run is told from others, as far as fields decide it."""
    model, recipe, branch = point.trunk.model, point.trunk.recipe, point.branch
    scales = [recipe.scale(role, model) for role in Role]
    return (
        model,
        branch.end,
        (recipe.batch_tokens, recipe.warmup_steps, recipe.beta1, recipe.beta2, recipe.clip),
        recipe.multipliers(model),
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


def _rates(point: Point) -> tuple[float, ...]:
    """Rates of the decay, with where it begins; nothing where the rate is held."""
    branch = point.branch
    schedule = branch.schedule
    steps = {branch.fork_step + branch.steps * k // RATES for k in range(RATES)}
    rates = [schedule(step) for step in sorted({*steps, branch.end - 1})]
    return () if set(rates) == {1.0} else (branch.fork_step, *rates)


def _why(space: Space, axis: str) -> str:
    """What leaves an axis without effect, as far as it is known."""
    study = space.ground.config
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
        case "recipe.weight_decay_rule" | "recipe.parametrization" if all(
            size.width == recipe.base_width for size in sizes
        ):
            return f"every width is recipe.base_width = {recipe.base_width}"
        case "schedule.shape" | "schedule.decay_fraction" if study.schedule.final_factor == 1:
            return "schedule.final_factor is 1, which holds the rate"
        case "schedule.decay_fraction":
            return "the decays that follow from it have as many updates"
    return "model, rates and schedule are equal"
