"""Experiments: what a study asks for, by kind."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from windtunnel.spec.axes import check_axis
from windtunnel.spec.branching import BranchExperiment
from windtunnel.spec.duration import Duration
from windtunnel.spec.lists import MOST_LISTED, differing
from windtunnel.spec.search import SearchExperiment
from windtunnel.spec.seeds import ExperimentName, Seeds
from windtunnel.spec.size import Size, Sizes
from windtunnel.spec.strict import Strict, at

if TYPE_CHECKING:
    from windtunnel.spec.config import StudyConfig

Horizons = Annotated[
    tuple[Duration, ...],
    Field(
        min_length=1,
        max_length=MOST_LISTED,
        description="Total training with decay: 10N, '2.5e6 tokens', '5000 steps'",
    ),
    AfterValidator(differing),
]


class ScalingExperiment(Strict):
    """sizes x horizons x seeds: one trunk per size and seed, one decay branch per horizon."""

    kind: Literal["scaling"]
    name: ExperimentName = "scaling"
    sizes: Annotated[Sizes | None, Field(description="Default: all of model.sizes")] = None
    horizons: Horizons
    extra_horizons: Annotated[
        dict[str, Horizons],
        Field(default_factory=dict, description="More horizons for single sizes"),
    ]
    seeds: Seeds = (0, 1)
    hold_out: Annotated[
        Literal["largest", "none"],
        Field(description="Forecast the largest size before it is trained, and check after"),
    ] = "largest"

    @property
    def sizes_named(self) -> tuple[Size, ...]:
        """Every size that this experiment mentions."""
        return (*(self.sizes or ()), *(Size.parse(size) for size in self.extra_horizons))


class GridExperiment(Strict):
    """Every combination of the values on its axes, each run to each horizon."""

    kind: Literal["grid"]
    name: ExperimentName = "grid"
    axes: Annotated[
        dict[str, Annotated[tuple[Any, ...], Field(min_length=1, max_length=MOST_LISTED)]],
        Field(
            min_length=1,
            description="size, recipe.FIELD, model.FIELD or schedule.FIELD, each with its values",
        ),
    ]
    horizons: Horizons
    seeds: Seeds = (0,)

    @property
    def sizes_named(self) -> tuple[Size, ...]:
        """Every size that this experiment mentions."""
        return tuple(Size.parse(value) for value in self.axes.get("size", ()))

    def check_against(self, study: "StudyConfig") -> None:
        """Refuse an axis that names no field, and a value that the field would refuse."""
        for axis, values in self.axes.items():
            with at("axes", axis):
                if axis == "size":
                    differing(self.sizes_named)
                else:
                    check_axis(study, self.name, axis, values)


Experiment = Annotated[
    ScalingExperiment | GridExperiment | SearchExperiment | BranchExperiment,
    Field(discriminator="kind"),
]
