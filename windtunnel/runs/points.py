"""Points: every (model, recipe, schedule, seed, horizon) that a study's experiments ask for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any, ClassVar

from windtunnel.config import (
    Branch,
    DataChange,
    Duration,
    ModelSpec,
    Recipe,
    ScheduleChange,
    StudyConfig,
    Trunk,
)
from windtunnel.config.axes import varied
from windtunnel.config.branch import BranchExperiment
from windtunnel.config.search import SearchExperiment
from windtunnel.config.study import GridExperiment, ScalingExperiment, ScheduleConfig
from windtunnel.config.units import Size, Strict
from windtunnel.data import Dataset
from windtunnel.data.stream import row_counts
from windtunnel.errors import ConfigError
from windtunnel.runs.search.trial_log import SuggestedTrial, TrialLog
from windtunnel.runs.variant import HOW_TO_DECAY, RateError, VariantPoint
from windtunnel.schedule import Decay

FEWEST_STEPS = 100
"""Under this a horizon is mostly warmup and noise: refused (design decision 13)."""


@dataclass(frozen=True, kw_only=True)
class StudyContext:
    """What all points of a study stand on: its configuration and its token stream.

    `stream` is the stream's fingerprint, `vocab_size` how many tokens it knows, `dataset` None
    while nothing is prepared; `sets` are the fingerprints of the validation sets by name.
    """

    config: StudyConfig
    vocab_size: int
    stream: str
    dataset: Dataset | None = None
    sets: Mapping[str, str] = field(default_factory=dict)

    def mixed(self, weights: Mapping[str, float]) -> DataChange:
        """The change to another mixture of the sources, or to the trunks' own."""
        if self.dataset is not None:
            stream = self.dataset.fingerprint_of(weights)
        else:  # such ids are not real, but as many as there will be
            rows, own = self._rows(weights), self._rows(self._own_weights)
            stream = self.stream if rows == own else f"{self.stream} {rows}"
        return DataChange(stream=stream, mixture=dict(weights))

    @property
    def _own_weights(self) -> dict[str, float]:
        return {source.label: source.weight for source in self.config.data.sources}

    def _rows(self, weights: Mapping[str, float]) -> dict[str, int]:
        """Rows of each source in a period: all that the dataset's fingerprint knows of weights."""
        names = [name for name in self._own_weights if weights.get(name)]
        counts = row_counts([weights[name] for name in names], names)
        return dict(zip(names, counts, strict=True))

    def trunk(self, model: ModelSpec, recipe: Recipe, seed: int) -> Trunk:
        """Made once for all of its horizons, for its id is a hash that it keeps."""
        return Trunk(model=model, recipe=recipe, stream=self.stream, init_seed=seed, data_seed=seed)


class RunPoint(Strict):
    """One horizon of one trunk."""

    trunk: Trunk
    schedule: ScheduleConfig
    horizon: Duration
    experiment: str
    held_out: bool = False

    variant: ClassVar[str] = ""
    """Of a branch experiment alone."""

    @property
    def chain(self) -> tuple[Branch, ...]:
        """The branch, as those of a variant of several stages come."""
        return (self.branch,)

    @cached_property
    def branch(self) -> Branch:
        """The branch that decays to the horizon.

        Raises:
            ConfigError: It is shorter than warmup and decay need, or under 100 updates.
        """
        model, recipe = self.trunk.model, self.trunk.recipe
        batch, warmup = recipe.batch_tokens, recipe.warmup_steps
        steps = self.horizon.steps(params=model.params, batch_tokens=batch)
        whole = self.schedule.decay_share == 1.0
        decay = steps - warmup if whole else max(1, round(self.schedule.decay_share * steps))
        fork = steps - decay
        if fork < warmup or decay < 1:
            raise ConfigError(
                "short-horizon",
                f"{self._where()}: {steps} updates, of which {warmup} warm up and {max(decay, 0)} "
                f"decay; lengthen the horizon to more than {self._shortest()} updates or lower "
                "recipe.warmup_steps",
                **self._names(),
                updates=steps,
                warmup=warmup,
                decay=max(decay, 0),
                shortest=self._shortest(),
            )
        if steps < FEWEST_STEPS:
            raise ConfigError(
                "short-horizon",
                f"{self._where()}: {steps} updates of {batch} tokens, and under {FEWEST_STEPS} a "
                "loss says little about the model; lengthen the horizon or lower "
                "recipe.batch_tokens",
                **self._names(),
                updates=steps,
                shortest=FEWEST_STEPS,
            )
        try:
            Decay(
                start=fork,
                end=steps,
                shape=self.schedule.shape,
                final_factor=self.schedule.final_factor,
            )
        except ConfigError as refused:
            raise RateError(
                refused.code,
                f"{self._where()}: {refused}; {HOW_TO_DECAY}",
                **self._names() | refused.values,
            ) from None
        change = ScheduleChange(shape=self.schedule.shape, final_factor=self.schedule.final_factor)
        return Branch(parent=self.trunk, fork_step=fork, steps=decay, changes=(change,))

    def _names(self) -> dict[str, object]:
        size, horizon = self.trunk.model.size, str(self.horizon)
        return {"experiment": self.experiment, "size": size, "horizon": horizon}

    def _where(self) -> str:
        size = self.trunk.model.size
        return f"experiment {self.experiment!r}, size {size}, horizon {self.horizon}"

    def _shortest(self) -> int:
        warmup = self.trunk.recipe.warmup_steps
        share = self.schedule.decay_share
        return warmup if share == 1.0 else int(warmup / (1 - share))


def points_of(
    ground: StudyContext, suggested: Mapping[str, TrialLog]
) -> Iterator[RunPoint | VariantPoint]:
    """All points of a study; `suggested` holds the trials of its searches by experiment."""
    for experiment in ground.config.experiments:
        match experiment:
            case ScalingExperiment():
                yield from _scaling(ground, experiment)
            case GridExperiment():
                yield from _grid(ground, experiment)
            case BranchExperiment():
                yield from _branch(ground, experiment)
            case SearchExperiment():
                yield from search_points(
                    ground, experiment, suggested.get(experiment.name, TrialLog())
                )


def search_points(
    ground: StudyContext, experiment: SearchExperiment, suggested: TrialLog
) -> Iterator[RunPoint]:
    """The points of the trials suggested so far, and of those that are repeated."""
    for trial in suggested.trials:
        yield from _trial(ground, experiment, trial)
        if trial.number in (suggested.finalists or ()):
            yield from trial_points(
                ground,
                experiment,
                trial.values,
                seeds=(*experiment.seeds, *experiment.new_seeds),
                horizons=(experiment.horizon, experiment.longer_horizon),
            )


def trial_points(
    ground: StudyContext,
    experiment: SearchExperiment,
    values: Mapping[str, Any],
    *,
    seeds: tuple[int, ...],
    horizons: tuple[Duration, ...],
) -> Iterator[RunPoint]:
    """The points of one trial of a search: by seed, then by horizon."""
    family, recipe, schedule = varied(ground.config, values)
    model = family.spec(search_size(ground, experiment), vocab_size=ground.vocab_size)
    for seed in seeds:
        trunk = ground.trunk(model, recipe, seed)
        for horizon in horizons:
            yield RunPoint(
                trunk=trunk, schedule=schedule, horizon=horizon, experiment=experiment.name
            )


def search_size(ground: StudyContext, experiment: SearchExperiment) -> Size:
    """The size that a search trains: the one that it names, else the smallest."""
    family = ground.config.model
    return experiment.size or min(
        family.sizes, key=lambda size: family.spec(size, vocab_size=ground.vocab_size).params
    )


def trial_horizons(experiment: SearchExperiment) -> tuple[Duration, ...]:
    """Where a trial is measured: at its rungs, and at the end."""
    rungs = experiment.early_stopping.rungs if experiment.early_stopping else ()
    return (*rungs, experiment.horizon)


def _scaling(ground: StudyContext, experiment: ScalingExperiment) -> Iterator[RunPoint]:
    study = ground.config
    sizes = experiment.sizes or study.model.sizes
    models = [study.model.spec(size, vocab_size=ground.vocab_size) for size in sizes]
    largest = max(model.params for model in models)
    for size, model in zip(sizes, models, strict=True):
        horizons = (*experiment.horizons, *experiment.extra_horizons.get(str(size), ()))
        for seed in experiment.seeds:
            trunk = ground.trunk(model, study.recipe, seed)
            for horizon in horizons:
                yield RunPoint(
                    trunk=trunk,
                    schedule=study.schedule,
                    horizon=horizon,
                    experiment=experiment.name,
                    held_out=experiment.hold_out == "largest" and model.params == largest,
                )


def _grid(ground: StudyContext, experiment: GridExperiment) -> Iterator[RunPoint]:
    axes = dict(experiment.axes)
    sizes = experiment.sizes_named or ground.config.model.sizes
    axes.pop("size", None)
    for values in product(*axes.values()):
        family, recipe, schedule = varied(ground.config, dict(zip(axes, values, strict=True)))
        for size, seed in product(sizes, experiment.seeds):
            trunk = ground.trunk(family.spec(size, vocab_size=ground.vocab_size), recipe, seed)
            for horizon in experiment.horizons:
                yield RunPoint(
                    trunk=trunk, schedule=schedule, horizon=horizon, experiment=experiment.name
                )


def _branch(ground: StudyContext, experiment: BranchExperiment) -> Iterator[VariantPoint]:
    study, ways = ground.config, experiment.all_variants
    for size in experiment.sizes or study.model.sizes:
        model = study.model.spec(size, vocab_size=ground.vocab_size)
        for seed in experiment.seeds:
            trunk = ground.trunk(model, study.recipe, seed)
            for fork, (name, stages) in product(experiment.forks, ways.items()):
                yield VariantPoint(
                    trunk=trunk,
                    fork=fork,
                    stages=stages,
                    schedule=study.schedule,
                    mixtures=tuple(
                        None if stage.mixture is None else ground.mixed(stage.mixture)
                        for stage in stages
                    ),
                    experiment=experiment.name,
                    variant=name,
                )


def _trial(
    ground: StudyContext, experiment: SearchExperiment, trial: SuggestedTrial
) -> Iterator[RunPoint]:
    horizons = trial_horizons(experiment)[: trial.admitted]
    yield from trial_points(
        ground, experiment, trial.values, seeds=experiment.seeds, horizons=horizons
    )
