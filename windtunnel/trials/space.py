"""The space of a grid or a search: which of its combinations are looked at before anything runs.

Of a grid they are all. Of a search they are every corner, every value of each axis that can be
listed, and samples inside of its ranges, also right beside their ends; the same at every opening.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

from windtunnel.spec import Branch, Duration
from windtunnel.spec.axes import is_whole, varied
from windtunnel.spec.experiments import GridExperiment
from windtunnel.spec.search import Range, SearchExperiment
from windtunnel.spec.size import Size
from windtunnel.trials.points import Ground, Point, search_size, trial_horizons

MOST_CORNERS = 512
SAMPLES = 64
MOST_WHOLE = 64
"""Whole numbers of a range that are all looked at; of a longer one, as many are."""
INSIDE = (0.001, 0.1234, 0.2857, 0.4142, 0.5772, 0.7183, 0.8765, 0.999)
"""Positions in a range: none is a round number where a range is."""

Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Space:
    """The axes of one experiment, `options` with the values of each that are looked at."""

    ground: Ground
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
        """The key under which the study file has the axes."""
        return "axes" if isinstance(self.experiment, GridExperiment) else "space"

    def range_of(self, axis: str) -> Range | None:
        """The range that an axis was written as; None where it is a list."""
        if isinstance(self.experiment, GridExperiment):
            return None
        searched = self.experiment.space[axis]
        return searched if isinstance(searched, Range) else None

    def point(self, values: Values, size: Size, horizon: Duration) -> Point:
        """One combination at one size, unless `size` is an axis, and one horizon.

        Raises:
            ValueError: The values do not fit together.
        """
        ground = self.ground
        fields = {axis: value for axis, value in values.items() if axis != "size"}
        family, recipe, schedule = varied(ground.config, fields)
        size = Size.parse(values.get("size", size))
        model = family.spec(size, vocab_size=ground.vocab_size)
        trunk = ground.trunk(model, recipe, self.experiment.seeds[0])
        name = self.experiment.name
        return Point(trunk=trunk, schedule=schedule, horizon=horizon, experiment=name)

    def branch(self, values: Values, size: Size, horizon: Duration) -> Branch:
        """The branch to that point.

        Raises:
            ValueError: As of `point`.
            ConfigError: As of the point's `branch`.
        """
        return self.point(values, size, horizon).branch

    def combinations(self) -> Iterator[Values]:
        """What is looked at."""
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


def space_of(ground: Ground, experiment: GridExperiment | SearchExperiment) -> Space:
    """The space of an experiment, with the horizons at which it can fail first."""
    if isinstance(experiment, GridExperiment):
        return Space(
            ground=ground,
            experiment=experiment,
            options=dict(experiment.axes),
            sizes=experiment.sizes_named or ground.config.model.sizes,
            horizons=experiment.horizons,
        )
    horizons = (trial_horizons(experiment)[0], experiment.longer_horizon)
    return Space(
        ground=ground,
        experiment=experiment,
        options={
            axis: _looked_at(ground, experiment, axis, searched)
            for axis, searched in experiment.space.items()
        },
        sizes=(search_size(ground, experiment),),
        horizons=horizons if experiment.top else horizons[:1],
    )


def _looked_at(
    ground: Ground, experiment: SearchExperiment, axis: str, searched: Any
) -> Sequence[Any]:
    """Values of one axis of a search, of a range from its low to its high end."""
    if not isinstance(searched, Range):
        return tuple(searched)
    if experiment.sampler_taken == "grid":
        return searched.grid()
    low, high = searched.low, searched.high
    inside = [searched.value(position) for position in INSIDE]
    if not is_whole(ground.config, axis):
        return [low, *inside, math.nextafter(low, high), math.nextafter(high, low), high]
    first, last = int(low), int(high)
    if last - first < MOST_WHOLE:
        return range(first, last + 1)
    steps = [first + (last - first) * k // (MOST_WHOLE - 1) for k in range(MOST_WHOLE)]
    return sorted({*steps, first + 1, last - 1, *map(round, inside)})
