"""The study file: one strict model of all its keys, which also generates docs and JSON Schema."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from windtunnel.config.axes import StudyParts, check_axis
from windtunnel.config.branch import BranchExperiment
from windtunnel.config.data import DataConfig, Name
from windtunnel.config.errors import fitting
from windtunnel.config.model import ModelFamily, Recipe, ScheduleConfig
from windtunnel.config.search import SearchExperiment
from windtunnel.config.units import (
    MOST_LISTED,
    DiskSize,
    Duration,
    ExperimentName,
    Misfit,
    Seeds,
    Size,
    Sizes,
    Strict,
    at,
    checked_path,
    differing,
)
from windtunnel.errors import Refused


class DynamicsConfig(Strict):
    """Record gradient and update statistics along every loss curve; training is unaffected."""

    every: Annotated[int, Field(ge=1, description="Updates between rows")] = 1
    window: Annotated[
        int,
        Field(
            ge=1,
            description="Updates between the two checkpoints whose difference is recorded; a "
            "multiple of `every`",
        ),
    ] = 50

    @model_validator(mode="after")
    def _a_window_ends_on_a_row(self) -> Self:
        if self.window % self.every:
            raise Refused(
                "not-a-multiple",
                f"window = {self.window} is not a multiple of every = {self.every}: the row on "
                "which a window ends would be missing",
                window=self.window,
                every=self.every,
            )
        return self


Horizons = Annotated[
    tuple[Duration, ...],
    Field(
        min_length=1,
        max_length=MOST_LISTED,
        description="Total training, decay included: 10N, '2.5e6 tokens', '5000 steps'",
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
        Field(default_factory=dict, description="Additional horizons by size"),
    ]
    seeds: Seeds = (0, 1)
    hold_out: Annotated[
        Literal["largest", "none"],
        Field(
            description="largest: forecast the largest size before it is trained, and score the "
            "forecast after"
        ),
    ] = "largest"

    @property
    def sizes_named(self) -> tuple[Size, ...]:
        """Sizes that the experiment names explicitly."""
        return (*(self.sizes or ()), *(Size.parse(size) for size in self.extra_horizons))


class GridExperiment(Strict):
    """Every combination of the values of its axes, at every horizon."""

    kind: Literal["grid"]
    name: ExperimentName = "grid"
    axes: Annotated[
        dict[str, Annotated[tuple[Any, ...], Field(min_length=1, max_length=MOST_LISTED)]],
        Field(
            min_length=1,
            description="size, recipe.FIELD, model.FIELD or schedule.FIELD, each with a list of "
            "values",
        ),
    ]
    horizons: Horizons
    seeds: Seeds = (0,)

    @property
    def sizes_named(self) -> tuple[Size, ...]:
        """Sizes that the experiment names explicitly."""
        return tuple(Size.parse(value) for value in self.axes.get("size", ()))

    def check_against(self, study: StudyParts) -> None:
        """Check that each axis is a field of the study, and each value one that the field takes.

        Raises:
            Misfit: With the axis.
        """
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


MOST_SEGMENTS = 100_000
"""Most segments of a study (assumed): planning them takes about 10 s."""


def check_counts(study: "StudyConfig") -> None:
    """Check that the plan of the study would hold at most `MOST_SEGMENTS` branches.

    Raises:
        Misfit: With the experiment that exceeds them.
    """
    total = 0
    for number, experiment in enumerate(study.experiments):
        count = branches_asked(experiment, study)
        total += count
        if total > MOST_SEGMENTS:
            with at("experiments", number):
                raise Refused(
                    "too-many-segments",
                    f"experiment {experiment.name!r} asks for {count:,} branches, and a study "
                    f"holds at most {MOST_SEGMENTS:,}; ask for fewer values, seeds or horizons",
                    experiment=experiment.name,
                    branches=count,
                    total=total,
                    most=MOST_SEGMENTS,
                )


def branches_asked(experiment: Experiment, study: "StudyConfig") -> int:
    """Number of branches of an experiment, including those shared with other experiments."""
    sizes, seeds = len(study.model.sizes), len(experiment.seeds)
    match experiment:
        case ScalingExperiment():
            sizes = len(experiment.sizes or study.model.sizes)
            further = sum(map(len, experiment.extra_horizons.values()))
            return (sizes * len(experiment.horizons) + further) * seeds
        case GridExperiment():
            cells = math.prod(map(len, experiment.axes.values()))
            each = 1 if "size" in experiment.axes else sizes
            return cells * each * len(experiment.horizons) * seeds
        case BranchExperiment():
            sizes = len(experiment.sizes or study.model.sizes)
            return (
                sizes
                * len(experiment.forks)
                * sum(map(len, experiment.all_variants.values()))
                * seeds
            )
        case _:
            rungs = len(experiment.early_stopping.rungs) if experiment.early_stopping else 0
            again = min(experiment.top, experiment.trials) * (seeds + experiment.repeats) * 2
            return experiment.trials * (rungs + 1) * seeds + again


SMALLEST_SHARE = 0.01
"""Smallest share of a GPU per trial (assumed: a hundred CUDA contexts fill any GPU)."""


class Resources(Strict):
    """Devices, parallelism and fault handling; no part of a segment's identity."""

    cpus_per_trial: Annotated[
        int,
        Field(ge=1, description="CPU cores, and threads, of a trial; default: one per device"),
    ] = 1
    gpus_per_trial: Annotated[
        float,
        Field(ge=0, description="Share of one GPU, such as 0.25; or one GPU per device"),
    ] = 0.0
    devices_per_trial: Annotated[
        int,
        Field(
            ge=1, description="Above 1: data-parallel training; requires Ray and torch's kernels"
        ),
    ] = 1
    concurrency: Annotated[
        int | None,
        Field(ge=1, description="Concurrent trials; default: as many as the machine can run"),
    ] = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Annotated[
        Literal["auto", "fp32", "bf16"], Field(description="auto: bf16 on CUDA, fp32 on CPU")
    ] = "auto"
    kernels: Annotated[
        Literal["auto", "native", "torch"],
        Field(
            description="native: this project's C++ kernels, on CPU with one core per trial; "
            "auto: native where they are supported, else torch"
        ),
    ] = "auto"
    compile: Annotated[
        Literal["auto", "always", "never"],
        Field(
            description="torch.compile with torch's kernels; auto: where the planned updates "
            "amortise compilation"
        ),
    ] = "auto"
    micro_batch_tokens: Annotated[
        int | None,
        Field(ge=1, description="Tokens per gradient-accumulation step; default: the whole batch"),
    ] = None
    deterministic: Annotated[bool, Field(description="Deterministic kernels on CUDA")] = False
    checkpoint_seconds: Annotated[
        float,
        Field(
            gt=0, description="Interval between checkpoints; a crash loses at most this much work"
        ),
    ] = 30.0
    retries: Annotated[int, Field(ge=0, description="Retries of a failed segment")] = 2
    stall_seconds: Annotated[
        float,
        Field(
            ge=20,
            description="A worker that makes no progress for this long is replaced, which counts "
            "as a retry; requires Ray",
        ),
    ] = 1800.0

    @property
    def cpus_per_device(self) -> int:
        """Cores, and threads, per device of a trial."""
        return self.cpus_per_trial // self.devices_per_trial

    @property
    def gpus_per_device(self) -> float:
        """Share of a GPU per device of a trial; 0 on CPU."""
        return self.gpus_per_trial / self.devices_per_trial

    @model_validator(mode="before")
    @classmethod
    def _a_core_for_each_device(cls, data: Any) -> Any:
        if isinstance(data, dict) and "cpus_per_trial" not in data and "devices_per_trial" in data:
            return {**data, "cpus_per_trial": data["devices_per_trial"]}
        return data

    @model_validator(mode="after")
    def _shares_are_whole(self) -> Self:
        cpus, gpus, devices = self.cpus_per_trial, self.gpus_per_trial, self.devices_per_trial
        if cpus % devices:
            raise Refused(
                "not-a-multiple",
                f"cpus_per_trial = {cpus} does not divide by devices_per_trial = {devices}",
                cpus_per_trial=cpus,
                devices_per_trial=devices,
            )
        if devices == 1 and gpus and not SMALLEST_SHARE <= gpus <= 1:
            raise Refused(
                "out-of-range",
                f"gpus_per_trial = {gpus:g}: one device uses a share of one card, from "
                f"{SMALLEST_SHARE} to 1; for several cards set devices_per_trial to as many",
                gpus_per_trial=gpus,
                least=SMALLEST_SHARE,
                most=1,
            )
        if devices > 1 and gpus not in {0, devices}:
            raise Refused(
                "out-of-range",
                f"gpus_per_trial = {gpus:g}: with devices_per_trial = {devices} allowed are 0 "
                f"(CPUs) and {devices} (a card for each)",
                gpus_per_trial=gpus,
                devices_per_trial=devices,
            )
        return self


class TrackingConfig(Strict):
    """Mirroring to MLflow."""

    enabled: bool = True
    uri: Annotated[
        str | None,
        Field(
            description="Default: MLFLOW_TRACKING_URI, else SQLite in the user's state directory"
        ),
    ] = None


class BudgetConfig(Strict):
    """Limits of the study: `sweep` refuses a plan above them, and stops once they are spent.

    Spending counts from the study's first sweep; segments reused from other studies are free.
    """

    flops: Annotated[
        float | None, Field(gt=0, description="Training FLOPs, attention scores and head included")
    ] = None
    device_hours: Annotated[
        float | None,
        Field(
            gt=0, description="Hours of trials times gpus_per_trial; on CPU, times cpus_per_trial"
        ),
    ] = None
    disk: Annotated[
        DiskSize | None,
        Field(description="Disk space of the study's segments in the store, without data"),
    ] = None


class StudyConfig(Strict):
    """One study: data, model family, recipe, schedule, experiments and resources."""

    study: Annotated[Name, Field(description="Name of the study, unique within its store")]
    data: DataConfig
    model: ModelFamily
    recipe: Recipe
    schedule: ScheduleConfig = ScheduleConfig()
    experiments: Annotated[tuple[Experiment, ...], Field(min_length=1)]
    resources: Resources = Resources()
    store: Annotated[
        str,
        AfterValidator(checked_path),
        Field(description="Directory, relative to the study file; ~ is the home directory"),
    ] = "store"
    retain: Annotated[
        Literal["all", "last"],
        Field(
            description="Fork checkpoints to keep. all: every one, until `gc`; last: each is "
            "deleted once its last planned branch is done, except a trunk's last fork and the "
            "ends of stages"
        ),
    ] = "all"
    budget: BudgetConfig = BudgetConfig()
    dynamics: Annotated[
        DynamicsConfig | None,
        Field(description="Record gradient and update statistics; `{}` for the defaults"),
    ] = None
    tracking: TrackingConfig = TrackingConfig()

    @field_validator("experiments")
    @classmethod
    def _names_differ(cls, experiments: tuple[Experiment, ...]) -> tuple[Experiment, ...]:
        names = set[str]()
        for number, experiment in enumerate(experiments):
            if experiment.name in names:
                raise Misfit(
                    "duplicate-name",
                    f"two experiments are called {experiment.name!r}; give this one a `name:` of "
                    "its own",
                    number,
                    name=experiment.name,
                )
            names.add(experiment.name)
        return experiments

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.recipe.batch_tokens % self.model.context:
            raise Misfit(
                "not-a-multiple",
                f"recipe.batch_tokens = {self.recipe.batch_tokens} is not a multiple of "
                f"model.context = {self.model.context}; "
                f"{fitting(self.recipe.batch_tokens, self.model.context)}",
                "recipe",
                "batch_tokens",
                batch_tokens=self.recipe.batch_tokens,
                context=self.model.context,
            )
        known = {str(size) for size in self.model.sizes}
        for number, experiment in enumerate(self.experiments):
            with at("experiments", number):
                for size in experiment.sizes_named:
                    if str(size) not in known:
                        raise Refused(
                            "unknown-size",
                            f"experiment {experiment.name!r}: size {size} is not among "
                            f"model.sizes ({', '.join(sorted(known))})",
                            experiment=experiment.name,
                            size=size,
                            known=sorted(known),
                        )
                if not isinstance(experiment, ScalingExperiment):
                    experiment.check_against(self)
        check_counts(self)
        return self


__all__ = ["Duration", "ModelFamily", "ScheduleConfig", "StudyConfig"]
