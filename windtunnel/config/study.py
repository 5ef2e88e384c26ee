"""The study file: one strict model of all its keys, which also generates docs and JSON Schema."""

import math
from collections.abc import Collection, Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from windtunnel.config.axes import StudyParts, check_axis
from windtunnel.config.branch import BranchExperiment
from windtunnel.config.data import DataConfig, Name
from windtunnel.config.errors import fitting
from windtunnel.config.family import check_family
from windtunnel.config.model import ModelFamily, Recipe, ScheduleConfig
from windtunnel.config.own_values import (
    AxisValues,
    BatchAxis,
    OwnRecipe,
    OwnSchedule,
    Times,
    check_own_values,
    multiples,
    own_values,
    source_of,
)
from windtunnel.config.search import SearchExperiment
from windtunnel.config.target import TargetConfig
from windtunnel.config.transfer import TransferConfig
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
    WrittenCount,
    at,
    checked_path,
    differing,
)
from windtunnel.errors import Refused, did_you_mean
from windtunnel.mup import Parametrization
from windtunnel.transfer import Along, Cell, Setting


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
        description="Total training, decay included: 10N, 2.5M tokens, 5000 steps",
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
    recipe: OwnRecipe
    schedule: OwnSchedule
    transfer: Annotated[
        bool, Field(description="Carry the recipe to every run by the study's `transfer`")
    ] = True

    @property
    def sizes_named(self) -> tuple[Size, ...]:
        """Sizes that the experiment names explicitly."""
        return (*(self.sizes or ()), *(Size.parse(size) for size in self.extra_horizons))


class Target(Strict):
    """The runs that a forecast is of."""

    size: Annotated[Size, Field(description="WIDTHxDEPTH; one of model.sizes")]
    horizons: Horizons
    seeds: Seeds = (0,)


class ForecastExperiment(Strict):
    """A ladder of runs, and a target beyond it that is forecast before it is trained."""

    kind: Literal["forecast"]
    name: ExperimentName = "forecast"
    sizes: Annotated[Sizes, Field(description="Sizes of the ladder")]
    horizons: Horizons
    seeds: Seeds = (0, 1)
    target: Target
    recipe: OwnRecipe
    schedule: OwnSchedule
    transfer: Annotated[
        bool, Field(description="Carry the recipe to every run by the study's `transfer`")
    ] = True

    @property
    def sizes_named(self) -> tuple[Size, ...]:
        """Sizes that the experiment names explicitly."""
        return (*self.sizes, self.target.size)

    @model_validator(mode="after")
    def _target_is_no_rung(self) -> Self:
        if self.target.size in self.sizes and set(self.target.horizons) & set(self.horizons):
            raise Misfit(
                "duplicate-value",
                f"size {self.target.size} at this horizon is on the ladder; a forecast is of a run "
                "that its ladder does not hold",
                "target",
                "size",
                repeated=self.target.size,
            )
        return self


class GridExperiment(Strict):
    """Every combination of the values of its axes, at every horizon."""

    kind: Literal["grid"]
    name: ExperimentName = "grid"
    axes: Annotated[
        dict[str, AxisValues],
        BatchAxis,
        Field(
            min_length=1,
            description="size, recipe.FIELD, model.FIELD or schedule.FIELD, each with a list of "
            "values, or with {times: [...]}, multiples of the experiment's own value",
            examples=[{"recipe.lr": [1e-2, 2e-2]}],
        ),
    ]
    horizons: Horizons
    seeds: Seeds = (0,)
    recipe: OwnRecipe
    schedule: OwnSchedule

    @property
    def sizes_named(self) -> tuple[Size, ...]:
        """Sizes that the experiment names explicitly."""
        return tuple(Size.parse(value) for value in self.listed("size"))

    def listed(self, axis: str) -> tuple[Any, ...]:
        """The values of an axis; none where it is missing, or given by multiples."""
        values = self.axes.get(axis, ())
        return () if isinstance(values, Times) else values

    def check_against(self, study: StudyParts) -> None:
        """Check that each axis is a field of the study, and each value one that the field takes.

        Raises:
            Misfit: With the axis.
        """
        recipe, schedule = own_values(study, self)
        for axis, values in self.axes.items():
            with at("axes", axis):
                if axis == "size":
                    if isinstance(values, Times):
                        raise Refused("wrong-type", "sizes are a list, such as [32x3, 64x3]")
                    differing(self.sizes_named)
                    continue
                listed = values
                if isinstance(values, Times):
                    check_axis(study, self.name, axis, ())
                    with at("times"):
                        listed = multiples(study, axis, values, recipe, schedule)
                check_axis(study, self.name, axis, listed)


LadderExperiment = ScalingExperiment | ForecastExperiment
"""Experiments that a scaling law is fitted to; both carry the recipe by the transfer rules."""

Experiment = Annotated[
    ScalingExperiment | GridExperiment | SearchExperiment | BranchExperiment | ForecastExperiment,
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
        count = branch_count(experiment, study)
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


def branch_count(experiment: Experiment, study: "StudyConfig") -> int:
    """Number of branches of an experiment, including those shared with other experiments."""
    sizes, seeds = len(study.model.sizes), len(experiment.seeds)
    match experiment:
        case ScalingExperiment():
            sizes = len(experiment.sizes or study.model.sizes)
            further = sum(map(len, experiment.extra_horizons.values()))
            return (sizes * len(experiment.horizons) + further) * seeds
        case ForecastExperiment():
            target = len(experiment.target.horizons) * len(experiment.target.seeds)
            return len(experiment.sizes) * len(experiment.horizons) * seeds + target
        case GridExperiment():
            cells = math.prod(
                len(each.times if isinstance(each, Times) else each)
                for each in experiment.axes.values()
            )
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
        WrittenCount,
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
    """The MLflow mirror of the study."""

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
        float | None,
        Field(
            gt=0,
            description="Training FLOPs, attention scores and head included",
            examples=[1e18],
        ),
        WrittenCount,
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


PARAMETRIZATION = "recipe.parametrization"


class StudyConfig(Strict):
    """One study: data, model family, recipe, schedule, experiments and resources."""

    study: Annotated[Name, Field(description="Name of the study, unique within its store")]
    data: DataConfig
    model: ModelFamily
    recipe: Recipe
    schedule: ScheduleConfig = ScheduleConfig()
    transfer: TransferConfig = TransferConfig()
    target: Annotated[
        TargetConfig | None,
        Field(
            description="The full-size run that the study is for; changes no run of its own",
            examples=[{"params": "2.4B", "tokens": "1T"}],
        ),
    ] = None
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
        check_family(self, self._parametrizations())
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
                self._check_source(experiment)
                check_own_values(self, experiment)
                if not isinstance(experiment, LadderExperiment):
                    experiment.check_against(self)
        self._check_transfer(known)
        check_counts(self)
        return self

    def _parametrizations(self) -> Iterator[Parametrization]:
        """The recipe's, and those that experiments vary it to."""
        yield self.recipe.parametrization
        for each in self.experiments:
            if isinstance(each, GridExperiment) and PARAMETRIZATION in each.axes:
                yield from each.listed(PARAMETRIZATION)

    def _check_source(self, experiment: Experiment) -> None:
        """Check that an experiment takes its recipe from an earlier search of this study."""
        source = source_of(experiment)
        if source is None:
            return
        names = [each.name for each in self.experiments]
        earlier = self.experiments[: names.index(experiment.name)]
        searches = [each.name for each in earlier if isinstance(each, SearchExperiment)]
        if source not in searches:
            problem = "no search of this study" if source not in names else "no search before it"
            raise Misfit(
                "unknown-source-experiment",
                f"{source!r} is {problem}{did_you_mean(source, searches)}; "
                + (
                    f"there are: {', '.join(searches)}"
                    if searches
                    else "there is none: put an experiment of `kind: search` of that name above, "
                    "or write the recipe's own values here"
                ),
                "recipe",
                "from",
                source=source,
                known=searches,
            )
        search = earlier[names.index(source)]
        if isinstance(search, SearchExperiment) and not search.top:
            raise Misfit(
                "no-winner",
                f"search {source!r} repeats no trial (top: 0), so it names no winner; set its top "
                "to 1 or more",
                "recipe",
                "from",
                experiment=source,
            )
        varied_model = isinstance(search, SearchExperiment) and [
            axis for axis in search.space if axis.startswith("model.")
        ]
        if varied_model:
            raise Misfit(
                "winner-varied-model",
                f"search {source!r} varies {', '.join(varied_model)}, and a recipe holds no "
                "model; search the recipe alone",
                "recipe",
                "from",
                experiment=source,
                axes=varied_model,
            )

    def _check_transfer(self, sizes: Collection[str]) -> None:
        """Check that rules have a place to start from, and experiments that measure them."""
        chosen = self.transfer.chosen
        if not chosen:
            return
        tuned = self.transfer.tuned
        if tuned is not None and str(tuned.size) not in sizes:
            raise Misfit(
                "unknown-size",
                f"size {tuned.size} is not among model.sizes ({', '.join(sorted(sizes))})",
                "transfer",
                "tuned",
                "size",
                size=tuned.size,
                known=sorted(sizes),
            )
        for experiment in self.experiments:
            uses_transfer = isinstance(experiment, LadderExperiment) and experiment.transfer
            if uses_transfer and tuned is None and not source_of(experiment):
                raise Misfit(
                    "missing-key",
                    f"experiment {experiment.name!r} carries the recipe by these rules, and "
                    "nothing says where it was tuned: give `tuned: {tokens: ..., size: ...}`, or "
                    "take the recipe from a search",
                    "transfer",
                    given="transfer",
                    needed="tuned",
                )
        for (setting, along), rule in chosen.items():
            if not rule.is_measured:
                continue
            able = [each.name for each in self.experiments if _measures(each, setting, along)]
            if rule.experiment is None and len(able) == 1:
                continue
            if rule.experiment not in able:
                raise Misfit(
                    "rule-not-measured",
                    (
                        f"{len(able)} experiments measure"
                        if rule.experiment is None and able
                        else f"{rule.experiment!r} does not measure"
                        if rule.experiment
                        else "no experiment measures"
                    )
                    + f" how {setting} follows {along}: name a grid over "
                    f"{GRIDS[setting, along]}"
                    + (f"; there are: {', '.join(able)}" if able else ""),
                    "transfer",
                    setting,
                    along,
                    known=able,
                )

    def measuring(self, setting: Setting, along: Along) -> str | None:
        """The experiment that measures a rule; None where the rule is not measured."""
        rule = self.transfer.chosen.get((setting, along))
        if rule is None or not rule.is_measured:
            return None
        able = (each.name for each in self.experiments if _measures(each, setting, along))
        return rule.experiment or next(able)


GRIDS: dict[Cell, str] = {
    ("lr", "batch"): "recipe.lr and recipe.batch_tokens",
    ("lr", "length"): "recipe.lr with two horizons or more",
    ("lr", "depth"): "recipe.lr and sizes of one width",
    ("weight_decay", "length"): "recipe.weight_decay with two horizons or more",
}
"""The grid that measures each rule."""


def _measures(experiment: Experiment, setting: Setting, along: Along) -> bool:
    """Whether an experiment can measure how a setting follows something."""
    if not isinstance(experiment, GridExperiment) or f"recipe.{setting}" not in experiment.axes:
        return False
    by_batch = "recipe.batch_tokens" in experiment.axes
    match along:
        case "batch":
            return by_batch
        case "length":
            return not by_batch and len(experiment.horizons) > 1
    widths = {size.width for size in experiment.sizes_named}
    depths = {size.depth for size in experiment.sizes_named}
    return not by_batch and len(widths) == 1 < len(depths) and len(experiment.horizons) == 1


__all__ = ["Duration", "ModelFamily", "ScheduleConfig", "StudyConfig"]
