"""Points: every (model, recipe, schedule, seed, horizon) in a study's experiments."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
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
from windtunnel.config.own_values import own_values, source_of, took
from windtunnel.config.search import SearchExperiment
from windtunnel.config.segment import hold_of
from windtunnel.config.settled import uses_transfer
from windtunnel.config.study import (
    Experiment,
    ForecastExperiment,
    GridExperiment,
    ScalingExperiment,
    ScheduleConfig,
)
from windtunnel.config.units import Size, Strict
from windtunnel.data import Dataset
from windtunnel.data.stream import row_counts
from windtunnel.errors import ConfigError
from windtunnel.runs.search.trial_log import SuggestedTrial, TrialLog
from windtunnel.runs.variant import HOW_TO_DECAY, RateError, VariantPoint
from windtunnel.schedule import Decay
from windtunnel.transfer import Place, factors

FEWEST_STEPS = 100
"""A shorter horizon is mostly warmup and noise, and is refused (design decision 13)."""


@dataclass(frozen=True, kw_only=True)
class StudyContext:
    """Configuration and token stream, which all points of a study share.

    Attributes:
        config: settled as far as results are known.
        vocab_size: of the stream.
        stream: its fingerprint.
        dataset: None while nothing is prepared.
        sets: fingerprints of the validation sets by name.
        waiting: experiments that have no points yet, because they wait for others.
        tuned: where the recipe was tuned; None where no rule carries it to other places.
    """

    config: StudyConfig
    vocab_size: int
    stream: str
    dataset: Dataset | None = None
    sets: Mapping[str, str] = field(default_factory=dict)
    waiting: frozenset[str] = frozenset()
    tuned: Place | None = None

    def of(self, experiment: Experiment) -> "StudyContext":
        """The context of one experiment, with the recipe and the schedule of its own."""
        recipe, schedule = own_values(self.config, experiment)
        config = self.config.model_copy(update={"recipe": recipe, "schedule": schedule})
        moves = uses_transfer(experiment) and self.config.transfer.chosen
        return replace(self, config=config, tuned=self.tuned_at(experiment) if moves else None)

    def tuned_at(self, experiment: Experiment) -> Place | None:
        """Where the recipe of an experiment was tuned, before the fields of its own.

        None where neither a search nor the study tells.
        """
        batch = (took(experiment) or {}).get("recipe.batch_tokens", self.config.recipe.batch_tokens)
        source = source_of(experiment)
        if source is not None:
            return self.searched_at(source, batch)
        return self.stated_place(batch)

    def stated_place(self, batch_tokens: int) -> Place | None:
        """Where the study says that its recipe was tuned, if it does."""
        tuned = self.config.transfer.tuned
        if tuned is None:
            return None
        return _place(self.model(tuned.size), tuned.tokens, batch_tokens)

    def searched_at(self, search: str, batch_tokens: int) -> Place:
        """Where a search of the study has tuned its winner."""
        experiment = next(each for each in self.config.experiments if each.name == search)
        assert isinstance(experiment, SearchExperiment)
        model = self.model(search_size(self, experiment))
        steps = experiment.horizon.steps(params=model.params, batch_tokens=batch_tokens)
        return _place(model, steps * batch_tokens, batch_tokens)

    def model(self, size: Size) -> ModelSpec:
        """The model of one size."""
        return self.config.model.spec(size, vocab_size=self.vocab_size)

    def recipe_for(self, model: ModelSpec, horizon: Duration) -> Recipe:
        """The recipe of a run of `model` to `horizon`: carried there by the study's rules."""
        recipe = self.config.recipe
        if self.tuned is None:
            return recipe
        batch = recipe.batch_tokens
        steps = horizon.steps(params=model.params, batch_tokens=batch)
        place = _place(model, steps * batch, batch)
        transferred = factors(self.config.transfer.rules(), place, self.tuned).transferred(
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            eps=recipe.eps,
            beta2=recipe.beta2,
        )
        return recipe.replace(**transferred)

    def mixed(self, weights: Mapping[str, float]) -> DataChange:
        """The change to another mixture of the sources, or back to the trunks' own."""
        if self.dataset is not None:
            stream = self.dataset.fingerprint_of(weights)
        else:  # placeholder ids, as many as there will be
            rows, own = self._rows(weights), self._rows(self._own_weights)
            stream = self.stream if rows == own else f"{self.stream} {rows}"
        return DataChange(stream=stream, mixture=dict(weights))

    @property
    def _own_weights(self) -> dict[str, float]:
        return {source.label: source.weight for source in self.config.data.sources}

    def _rows(self, weights: Mapping[str, float]) -> dict[str, int]:
        """Rows of each source in one period: all that the fingerprint has of the weights."""
        names = [name for name in self._own_weights if weights.get(name)]
        counts = row_counts([weights[name] for name in names], names)
        return dict(zip(names, counts, strict=True))

    def trunk(self, model: ModelSpec, recipe: Recipe, seed: int) -> Trunk:
        """A trunk, made once for all of its horizons, because it caches its id."""
        hold = hold_of(self.config.schedule, model, recipe.batch_tokens)
        return Trunk(
            model=model,
            recipe=recipe,
            stream=self.stream,
            init_seed=seed,
            data_seed=seed,
            hold=hold,
        )


def _place(model: ModelSpec, tokens: float, batch_tokens: int) -> Place:
    return Place(
        batch_tokens=batch_tokens,
        tokens=float(tokens),
        depth=model.depth,
        params=float(model.params),
    )


class RunPoint(Strict):
    """One horizon of one trunk."""

    trunk: Trunk
    schedule: ScheduleConfig
    horizon: Duration
    experiment: str
    held_out: bool = False

    variant: ClassVar[str] = ""
    """The variant; only branch experiments have one."""

    @property
    def chain(self) -> tuple[Branch, ...]:
        """The branch, in the form of a variant's chain."""
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
                "too-few-updates",
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
                "too-few-updates",
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
        rate = self.trunk.schedule(fork)
        final = self.schedule.final_factor * rate
        change = ScheduleChange(shape=self.schedule.shape, final_factor=final, rate=rate)
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
    study_context: StudyContext, suggested: Mapping[str, TrialLog]
) -> Iterator[RunPoint | VariantPoint]:
    """All points of a study; `suggested` holds the trials of its searches by experiment."""
    for experiment in study_context.config.experiments:
        if experiment.name in study_context.waiting:
            continue
        match experiment:
            case ScalingExperiment():
                yield from _scaling(study_context, experiment)
            case ForecastExperiment():
                yield from _forecast(study_context, experiment)
            case GridExperiment():
                yield from _grid(study_context, experiment)
            case BranchExperiment():
                yield from _branch(study_context, experiment)
            case SearchExperiment():
                yield from search_points(
                    study_context, experiment, suggested.get(experiment.name, TrialLog())
                )


def search_points(
    study_context: StudyContext, experiment: SearchExperiment, suggested: TrialLog
) -> Iterator[RunPoint]:
    """The points of the trials suggested so far, and of the repeated ones."""
    for trial in suggested.trials:
        yield from _trial(study_context, experiment, trial)
        if trial.number in (suggested.finalists or ()):
            yield from trial_points(
                study_context,
                experiment,
                trial.values,
                seeds=(*experiment.seeds, *experiment.new_seeds),
                horizons=(experiment.horizon, experiment.longer_horizon),
            )


def trial_points(
    study_context: StudyContext,
    experiment: SearchExperiment,
    values: Mapping[str, Any],
    *,
    seeds: tuple[int, ...],
    horizons: tuple[Duration, ...],
) -> Iterator[RunPoint]:
    """The points of one trial of a search: by seed, then by horizon."""
    study_context = study_context.of(experiment)
    family, recipe, schedule = varied(study_context.config, values)
    model = family.spec(search_size(study_context, experiment), vocab_size=study_context.vocab_size)
    for seed in seeds:
        trunk = study_context.trunk(model, recipe, seed)
        for horizon in horizons:
            yield RunPoint(
                trunk=trunk, schedule=schedule, horizon=horizon, experiment=experiment.name
            )


def search_size(study_context: StudyContext, experiment: SearchExperiment) -> Size:
    """The size that a search trains: the named one, else the smallest."""
    family = study_context.config.model
    return experiment.size or min(
        family.sizes, key=lambda size: family.spec(size, vocab_size=study_context.vocab_size).params
    )


def trial_horizons(experiment: SearchExperiment) -> tuple[Duration, ...]:
    """The horizons at which a trial is measured: its rungs, and its end."""
    rungs = experiment.early_stopping.rungs if experiment.early_stopping else ()
    return (*rungs, experiment.horizon)


def _scaling(study_context: StudyContext, experiment: ScalingExperiment) -> Iterator[RunPoint]:
    study_context = study_context.of(experiment)
    sizes = experiment.sizes or study_context.config.model.sizes
    largest = max(study_context.model(size).params for size in sizes)
    for size in sizes:
        horizons = (*experiment.horizons, *experiment.extra_horizons.get(str(size), ()))
        held_out = experiment.hold_out == "largest" and study_context.model(size).params == largest
        for seed in experiment.seeds:
            yield from _run(study_context, experiment.name, size, horizons, seed, held_out=held_out)


def _forecast(study_context: StudyContext, experiment: ForecastExperiment) -> Iterator[RunPoint]:
    study_context, target = study_context.of(experiment), experiment.target
    for size, seed in product(experiment.sizes, experiment.seeds):
        yield from _run(
            study_context, experiment.name, size, experiment.horizons, seed, held_out=False
        )
    for seed in target.seeds:
        yield from _run(
            study_context, experiment.name, target.size, target.horizons, seed, held_out=True
        )


def _run(
    study_context: StudyContext,
    experiment: str,
    size: Size,
    horizons: Iterable[Duration],
    seed: int,
    *,
    held_out: bool,
) -> Iterator[RunPoint]:
    """The horizons of one size and seed; one trunk, or one for each rate."""
    model = study_context.model(size)
    trunks: dict[Recipe, Trunk] = {}
    for horizon in horizons:
        recipe = study_context.recipe_for(model, horizon)
        if recipe not in trunks:
            trunks[recipe] = study_context.trunk(model, recipe, seed)
        yield RunPoint(
            trunk=trunks[recipe],
            schedule=study_context.config.schedule,
            horizon=horizon,
            experiment=experiment,
            held_out=held_out,
        )


def _grid(study_context: StudyContext, experiment: GridExperiment) -> Iterator[RunPoint]:
    study_context = study_context.of(experiment)
    axes = {axis: experiment.listed(axis) for axis in experiment.axes if axis != "size"}
    sizes = experiment.sizes_named or study_context.config.model.sizes
    for values in product(*axes.values()):
        family, recipe, schedule = varied(
            study_context.config, dict(zip(axes, values, strict=True))
        )
        for size, seed in product(sizes, experiment.seeds):
            trunk = study_context.trunk(
                family.spec(size, vocab_size=study_context.vocab_size), recipe, seed
            )
            for horizon in experiment.horizons:
                yield RunPoint(
                    trunk=trunk, schedule=schedule, horizon=horizon, experiment=experiment.name
                )


def _branch(study_context: StudyContext, experiment: BranchExperiment) -> Iterator[VariantPoint]:
    study_context = study_context.of(experiment)
    study, variants = study_context.config, experiment.all_variants
    for size in experiment.sizes or study.model.sizes:
        model = study.model.spec(size, vocab_size=study_context.vocab_size)
        for seed in experiment.seeds:
            trunk = study_context.trunk(model, study.recipe, seed)
            for fork, (name, stages) in product(experiment.forks, variants.items()):
                yield VariantPoint(
                    trunk=trunk,
                    fork=fork,
                    stages=stages,
                    schedule=study.schedule,
                    mixtures=tuple(
                        None if stage.mixture is None else study_context.mixed(stage.mixture)
                        for stage in stages
                    ),
                    experiment=experiment.name,
                    variant=name,
                )


def _trial(
    study_context: StudyContext, experiment: SearchExperiment, trial: SuggestedTrial
) -> Iterator[RunPoint]:
    horizons = trial_horizons(experiment)[: trial.admitted]
    yield from trial_points(
        study_context, experiment, trial.values, seeds=experiment.seeds, horizons=horizons
    )
