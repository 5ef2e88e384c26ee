"""Experiments: what a study asks for, by kind."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from windtunnel.errors import did_you_mean
from windtunnel.schedule import DecayShape
from windtunnel.spec.axes import check_axis
from windtunnel.spec.duration import Duration
from windtunnel.spec.search import SearchExperiment
from windtunnel.spec.seeds import ExperimentName, Seeds
from windtunnel.spec.size import Size
from windtunnel.spec.strict import Strict

if TYPE_CHECKING:
    from windtunnel.spec.config import StudyConfig

Horizons = Annotated[
    tuple[Duration, ...],
    Field(min_length=1, description="Total training with decay: 10N, '2.5e6 tokens', '5000 steps'"),
]


class ScalingExperiment(Strict):
    """sizes x horizons x seeds: one trunk per size and seed, one decay branch per horizon."""

    kind: Literal["scaling"]
    name: ExperimentName = "scaling"
    sizes: Annotated[tuple[Size, ...] | None, Field(description="Default: all of model.sizes")] = (
        None
    )
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
        dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]],
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
            if axis != "size":
                check_axis(study, self.name, axis, values)


class Variant(Strict):
    """One way to leave a trunk: how the rate decays, and what is read meanwhile."""

    decay: Annotated[
        Duration | None,
        Field(description="How long; default: schedule.decay_fraction of all training"),
    ] = None
    shape: Annotated[DecayShape | None, Field(description="Default: schedule.shape")] = None
    final_factor: Annotated[
        float | None, Field(ge=0, le=1, description="Default: schedule.final_factor")
    ] = None
    mixture: Annotated[
        dict[str, Annotated[float, Field(ge=0)]] | None,
        Field(
            min_length=1,
            description="Weights of data.sources by name from the fork on; a source that is not "
            "named is not read. Default: the trunk's",
        ),
    ] = None


class BranchExperiment(Strict):
    """sizes x forks x variants x seeds: branches that leave the same trunks in several ways."""

    kind: Literal["branch"]
    name: ExperimentName = "branch"
    sizes: Annotated[tuple[Size, ...] | None, Field(description="Default: all of model.sizes")] = (
        None
    )
    forks: Annotated[
        tuple[Duration, ...],
        Field(min_length=1, description="Training before the branches leave: 10N, '2e6 tokens'"),
    ]
    variants: Annotated[
        dict[str, Variant],
        Field(min_length=1, description="By name; what a variant leaves out is the study's"),
    ]
    seeds: Seeds = (0, 1)

    @property
    def sizes_named(self) -> tuple[Size, ...]:
        """Every size that this experiment mentions."""
        return self.sizes or ()

    def check_against(self, study: "StudyConfig") -> None:
        """Refuse a mixture of sources that the study has not, or of none."""
        known = [source.label for source in study.data.sources]
        for name, variant in self.variants.items():
            where = f"experiment {self.name!r}: variant {name!r}: mixture"
            for source in variant.mixture or ():
                if source not in known:
                    raise ValueError(
                        f"{where}: {source!r} is no source of data.sources"
                        f"{did_you_mean(source, known) or '.'} There are: {', '.join(known)}"
                    )
            if variant.mixture is not None and not any(variant.mixture.values()):
                raise ValueError(f"{where}: every weight is 0")


Experiment = Annotated[
    ScalingExperiment | GridExperiment | SearchExperiment | BranchExperiment,
    Field(discriminator="kind"),
]
