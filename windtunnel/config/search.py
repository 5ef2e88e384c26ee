"""Search experiments: search space, sampler, objective and early stopping."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from windtunnel.config.axes import StudyParts, check_axis, is_whole
from windtunnel.config.own_values import BatchAxis, OwnRecipe, OwnSchedule
from windtunnel.config.units import MOST_LISTED, Duration, ExperimentName, Seeds, Size, Strict, at
from windtunnel.errors import Refused

Sampler = Literal["gp", "tpe", "cmaes", "sobol", "grid", "random"]

MOST_TRIALS = 10_000
"""Most trials of one search (assumed; planning them takes seconds)."""

MOST_TRIALS_OF_GP, MOST_DIMENSIONS_OF_GP = 100, 6
"""Beyond either, a Gaussian process is slow and imprecise, and `auto` selects `tpe` (assumed)."""


class Range(Strict):
    """An interval; of a field that takes whole numbers, its whole numbers."""

    low: Annotated[float, Field(examples=[1e-3])]
    high: Annotated[float, Field(examples=[0.1])]
    log: Annotated[bool, Field(description="Search on a logarithmic scale")] = False
    points: Annotated[
        int | None, Field(ge=2, le=MOST_LISTED, description="Number of values for `sampler: grid`")
    ] = None

    @model_validator(mode="after")
    def _is_an_interval(self) -> Self:
        if self.low >= self.high:
            raise Refused(
                "out-of-order",
                f"low = {self.low:g} is not below high = {self.high:g}",
                low=self.low,
                high=self.high,
            )
        if self.log and self.low <= 0:
            raise Refused(
                "out-of-range", f"log: true needs low above zero, not {self.low:g}", low=self.low
            )
        width = self.high / self.low if self.log else self.high - self.low
        if not math.isfinite(width):
            raise Refused(
                "range-too-wide",
                f"{self.low:g} to {self.high:g} is too wide a range; narrow it",
                low=self.low,
                high=self.high,
            )
        return self

    def grid(self) -> list[float]:
        """`points` values from low to high, evenly spaced on the searched scale."""
        assert self.points is not None
        inner = [self.value(i / (self.points - 1)) for i in range(1, self.points - 1)]
        return [self.low, *inner, self.high]

    def value(self, position: float) -> float:
        """The value at a position on the searched scale: 0 is low, 1 is high."""
        if self.log:
            return self.low * math.exp(position * math.log(self.high / self.low))
        return self.low + (self.high - self.low) * position

    def position(self, value: float) -> float:
        """Position of a value on the searched scale: 0 at low, 1 at high."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


Choices = Annotated[tuple[Any, ...], Field(min_length=2, max_length=MOST_LISTED)]

Searched = Annotated[
    Annotated[Range, Tag("range")] | Annotated[Choices, Tag("list")],
    Discriminator(lambda written: "list" if isinstance(written, list | tuple) else "range"),
]
"""A range or a list; told apart by type, so that an error refers to only one of them."""


class EarlyStopping(Strict):
    """Stop trials that rank low at a rung.

    A rung is a decay branch of the trial's trunk, so trials are compared after equal decays; the
    trunk of a promoted trial continues undecayed.
    """

    rule: Literal["asha", "median"] = "asha"
    rungs: Annotated[
        tuple[Duration, ...],
        Field(
            min_length=1, description="Horizons at which trials are compared, in increasing order"
        ),
    ]
    reduction: Annotated[
        float,
        Field(
            gt=1, le=1000, description="asha: one in `reduction` trials is promoted from each rung"
        ),
    ] = 3.0


class SearchExperiment(Strict):
    """Search hyperparameters at one small size; repeat the best trials before naming a winner."""

    kind: Literal["search"]
    name: ExperimentName = "search"
    size: Annotated[Size | None, Field(description="Default: the smallest of model.sizes")] = None
    space: Annotated[
        dict[str, Searched],
        BatchAxis,
        Field(
            min_length=1,
            description="recipe.FIELD, model.FIELD or schedule.FIELD: {low, high, log} or a list",
            examples=[{"recipe.lr": [4e-3, 8e-3, 1.6e-2]}],
        ),
    ]
    trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)] = 40
    sampler: Annotated[
        Literal["auto", "gp", "tpe", "cmaes", "sobol", "grid", "random"],
        Field(
            description="auto: gp for up to 100 trials and 6 dimensions without early stopping, "
            "else tpe"
        ),
    ] = "auto"
    batch: Annotated[
        int,
        Field(
            ge=1,
            le=MOST_TRIALS,
            description="Trials suggested together, given all trials that finished before",
        ),
    ] = 8
    seed: Annotated[int, Field(ge=0, lt=2**32, description="Seed of the sampler")] = 0
    recipe: OwnRecipe
    schedule: OwnSchedule
    seeds: Seeds = (0,)
    horizon: Annotated[
        Duration, Field(description="Length of a trial, decay included: 10N, '5000 steps'")
    ] = Duration(amount=10, unit="N")
    objective: Annotated[
        str,
        Field(
            description="Loss to minimise. mean: over the validation sets; or the name of one set"
        ),
    ] = "mean"
    top: Annotated[
        int,
        Field(ge=0, le=MOST_LISTED, description="Number of best trials to repeat; 0: no winner"),
    ] = 3
    repeats: Annotated[
        int, Field(ge=1, le=MOST_LISTED, description="New seeds per repeated trial")
    ] = 3
    longer: Annotated[
        float,
        Field(
            gt=1,
            le=1000,
            description="Repeated trials are also run to this multiple of the horizon",
        ),
    ] = 2.0
    early_stopping: EarlyStopping | None = None

    @model_validator(mode="after")
    def _sampler_fits_the_space(self) -> Self:
        ranges = {axis: r for axis, r in self.space.items() if isinstance(r, Range)}
        listed = [axis for axis in self.space if axis not in ranges]
        if self.sampler == "cmaes" and (listed or len(ranges) < 2):
            raise Refused(
                "unsuitable-sampler",
                f"sampler: cmaes searches two or more ranges and no lists ({', '.join(listed)}); "
                "take gp or tpe",
                sampler="cmaes",
                ranges=list(ranges),
                lists=listed,
            )
        if self.sampler == "grid":
            for axis, values in ranges.items():
                if values.points is None:
                    raise Refused(
                        "missing-points",
                        f"sampler: grid needs {axis} as a list, or with points: how many values",
                        axis=axis,
                    )
        if self.sampler == "gp" and self.early_stopping is not None:
            raise Refused(
                "unsuitable-sampler",
                "sampler: gp learns nothing from trials that were stopped early; take tpe, or "
                "leave early_stopping out",
                sampler="gp",
            )
        return self

    @model_validator(mode="after")
    def _rungs_come_before_the_end(self) -> Self:
        ends = (*self.early_stopping.rungs, self.horizon) if self.early_stopping else ()
        if len({end.unit for end in ends}) > 1:
            raise Refused(
                "mixed-units",
                "early_stopping: write rungs and horizon in one unit",
                units=sorted({end.unit for end in ends}),
            )
        amounts = [end.amount for end in ends]
        if amounts != sorted(set(amounts)):
            raise Refused(
                "out-of-order",
                f"early_stopping: rungs grow and lie before the horizon of {self.horizon}, not "
                f"{', '.join(str(end) for end in ends[:-1])}",
                rungs=[str(end) for end in ends[:-1]],
                horizon=self.horizon,
            )
        return self

    @property
    def sampler_taken(self) -> Sampler:
        """The sampler, with `auto` resolved."""
        if self.sampler != "auto":
            return self.sampler
        small = self.trials <= MOST_TRIALS_OF_GP and len(self.space) <= MOST_DIMENSIONS_OF_GP
        return "gp" if small and self.early_stopping is None else "tpe"

    @property
    def sizes_named(self) -> tuple[Size, ...]:
        """Sizes that the experiment names explicitly."""
        return (self.size,) if self.size else ()

    @property
    def longer_horizon(self) -> Duration:
        """Horizon at which the repeated trials are compared again."""
        return Duration(amount=self.horizon.amount * self.longer, unit=self.horizon.unit)

    @property
    def new_seeds(self) -> tuple[int, ...]:
        """Seeds of the repeats; no trial used them, so no lucky seed selects the winner."""
        first = max(self.seeds) + 1
        return tuple(range(first, first + self.repeats))

    def check_against(self, study: StudyParts) -> None:
        """Check axes and their values against the study's fields, the objective against its sets.

        Raises:
            Misfit: With the axis.
            Refused: The objective is not a validation set.
        """
        for axis, values in self.space.items():
            with at("space", axis):
                self._check_values(study, axis, values)
        known = ["mean", *study.data.set_names]
        if self.objective not in known:
            raise Refused(
                "unknown-set",
                f"experiment {self.name!r}: objective {self.objective!r} is not a validation set; "
                f"allowed: {', '.join(known)}",
                experiment=self.name,
                objective=self.objective,
                known=known,
            )

    def _check_values(self, study: StudyParts, axis: str, values: Any) -> None:
        """Check a range or a list of values of one axis."""
        if not isinstance(values, Range):
            check_axis(study, self.name, axis, values)
            return
        if axis == "recipe.batch_tokens":
            raise Refused(
                "not-a-range",
                f"experiment {self.name!r}: {axis} takes multiples of model.context = "
                f"{study.model.context}: give a list of them",
                experiment=self.name,
                axis=axis,
                context=study.model.context,
            )
        ends: tuple[float, ...] = (values.low, values.high)
        if is_whole(study, axis):
            if any(end != int(end) for end in ends):
                raise Refused(
                    "not-whole",
                    f"experiment {self.name!r}: {axis} holds whole numbers; "
                    f"{ends[0]:g} to {ends[1]:g} is not a range of them",
                    experiment=self.name,
                    axis=axis,
                    low=ends[0],
                    high=ends[1],
                )
            ends = tuple(int(end) for end in ends)
        check_axis(study, self.name, axis, ends)
