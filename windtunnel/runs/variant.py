"""A variant at one fork of one trunk: the chain of branches that its stages specify."""

from collections.abc import Iterator
from functools import cached_property

from windtunnel.config import (
    BatchChange,
    Branch,
    Change,
    ContextChange,
    DataChange,
    Duration,
    ModelChange,
    ObjectiveChange,
    ScheduleChange,
    Segment,
    Trunk,
)
from windtunnel.config.branch import Stage
from windtunnel.config.segment import tokens_at
from windtunnel.config.shape import upcycled
from windtunnel.config.study import ScheduleConfig
from windtunnel.config.units import Strict
from windtunnel.errors import ConfigError

HOW_TO_DECAY = "raise schedule.final_factor, to 0.01 for example, or take another schedule.shape"


class ForkError(ConfigError):
    """A fork from which no branch can start."""


class RateError(ConfigError):
    """A decay whose shape cannot reach the final factor of `schedule`."""


class VariantPoint(Strict):
    """A variant of a branch experiment; `mixtures` has the mixture change of each stage."""

    trunk: Trunk
    fork: Duration
    stages: tuple[Stage, ...]
    mixtures: tuple[DataChange | None, ...]
    schedule: ScheduleConfig
    experiment: str
    variant: str
    held_out: bool = False

    @property
    def branch(self) -> Branch:
        """The last branch of the chain.

        Raises:
            ConfigError: As of `chain`.
        """
        return self.chain[-1]

    @property
    def horizon(self) -> Duration:
        """Total training to the end of the last stage."""
        return Duration(amount=tokens_at(self.branch, self.branch.end), unit="tokens")

    @cached_property
    def chain(self) -> tuple[Branch, ...]:
        """A branch for each stage, each leaving the one before at its end.

        Raises:
            ConfigError: The fork lies within warmup, or a stage is shorter than its warmup or ramp.
        """
        model, recipe = self.trunk.model, self.trunk.recipe
        fork = self.fork.steps(params=model.params, batch_tokens=recipe.batch_tokens)
        if fork < recipe.warmup_steps:
            raise ForkError(
                "fork-in-warmup",
                f"{self._where()}: it leaves after {fork} updates, of which {recipe.warmup_steps} "
                "warm up; fork later or lower recipe.warmup_steps",
                **self._names(),
                fork_step=fork,
                warmup_steps=recipe.warmup_steps,
            )
        chain: list[Branch] = []
        parent: Segment = self.trunk
        for stage, mixture in zip(self.stages, self.mixtures, strict=True):
            parent = self._stage(parent, fork, stage, mixture, number=len(chain) + 1)
            chain.append(parent)
            fork = parent.end
        return tuple(chain)

    def _stage(
        self,
        parent: Segment,
        fork: int,
        stage: Stage,
        mixture: DataChange | None,
        *,
        number: int,
    ) -> Branch:
        shape = tuple(_shape_changes(parent, stage))
        batch = next(
            (each.batch_tokens for each in shape if isinstance(each, BatchChange)),
            parent.recipe.batch_tokens,
        )

        def updates(duration: Duration | None) -> int:
            if duration is None:
                return 0
            return duration.steps(params=self.trunk.model.params, batch_tokens=batch)

        where = f"{self._where()}, stage {number}" if len(self.stages) > 1 else self._where()
        steps = updates(stage.stable or stage.decay)
        if not steps:
            share = self.schedule.decay_share
            if share == 1.0:
                raise ConfigError(
                    "no-fork",
                    f"{where}: a decay over the whole run has no fork; give `decay:`",
                    **self._names(),
                    stage=number,
                )
            steps = max(1, round(tokens_at(parent, fork) / batch * share / (1 - share)))
        warmup, ramp = updates(stage.warmup), updates(stage.ramp)
        for name, taken in (("warmup", warmup), ("ramp", ramp)):
            if taken >= steps and taken:
                raise ConfigError(
                    "too-few-updates",
                    f"{where}: {name} takes {taken} of its {steps} updates; shorten it, or "
                    "lengthen the stage",
                    **self._names(),
                    stage=number,
                    updates=steps,
                    **{name: taken},
                )
        try:
            rate = self._rate(parent, fork, stage, warmup)
            branch = Branch(
                parent=parent,
                fork_step=fork,
                steps=steps,
                changes=(*rate, *_data_change(parent, mixture, ramp), *shape),
            )
            branch.schedule(fork)
        except ConfigError as refused:
            stated = stage.final_factor is not None or stage.shape is not None
            if stated or self.schedule.final_factor or self.schedule.shape != "exponential":
                raise ConfigError(
                    refused.code, f"{where}: {refused}", **self._names() | refused.values
                ) from None
            raise RateError(
                refused.code,
                f"{where}: {refused}; {HOW_TO_DECAY}",
                **self._names() | refused.values,
            ) from None
        return branch

    def _rate(
        self, parent: Segment, fork: int, stage: Stage, warmup: int
    ) -> tuple[ScheduleChange, ...]:
        """The change of schedule; none where the trunk's schedule simply continues."""
        begins = 1.0 if warmup else parent.schedule(fork)
        rate = begins if stage.rate is None else stage.rate
        if not rate:
            raise ConfigError(
                "zero-rate",
                "the stage before ends at a rate of 0; give `rate:` or `warmup:`",
                fork_step=fork,
            )
        if stage.stable is not None:
            if rate == begins and not warmup and isinstance(parent, Trunk):
                return ()
            return (ScheduleChange(shape="constant", rate=rate, warmup=warmup),)
        final = stage.final_factor
        if final is None:
            final = self.schedule.final_factor * rate
        if final > rate:
            raise ConfigError(
                "out-of-range",
                f"final_factor = {final:g} is above the rate of {rate:g} that the decay begins at, "
                "both relative to the peak; lower it, or give `rate:` or `warmup:`",
                final_factor=final,
                rate=rate,
            )
        shape = stage.shape or self.schedule.shape
        return (ScheduleChange(shape=shape, final_factor=final, rate=rate, warmup=warmup),)

    def _names(self) -> dict[str, object]:
        size = self.trunk.model.size
        return {"experiment": self.experiment, "size": size, "variant": self.variant}

    def _where(self) -> str:
        size = self.trunk.model.size
        return f"experiment {self.experiment!r}, size {size}, variant {self.variant!r}"


def _data_change(parent: Segment, mixture: DataChange | None, ramp: int) -> tuple[DataChange, ...]:
    """The change of mixture; none where the parent already reads it."""
    if mixture is None or mixture.stream == parent.stream:
        return ()
    return (mixture.replace(ramp=ramp),)


def _shape_changes(parent: Segment, stage: Stage) -> Iterator[Change]:
    """Changes of batch, context, objective and model, where they differ from the parent's."""
    recipe, model, context = parent.recipe, parent.model, None
    if stage.batch_tokens is not None and stage.batch_tokens != recipe.batch_tokens:
        factor = (stage.batch_tokens / recipe.batch_tokens) ** stage.lr_exponent
        yield BatchChange(batch_tokens=stage.batch_tokens, lr_factor=factor)
    if stage.context is not None:
        rope_base = None if stage.rope_base == model.rotary_base else stage.rope_base
        if stage.context != model.context or rope_base is not None:
            context = ContextChange(context=stage.context, rope_base=rope_base)
            yield context
    if stage.loss is not None and stage.loss != parent.objective:
        yield ObjectiveChange(loss=stage.loss)
    if stage.upcycle is not None:
        base = model if context is None else model.with_context(context.context, context.rope_base)
        yield ModelChange(
            model=upcycled(base, stage.upcycle.fields),
            moments=stage.upcycle.moments,
            reset=stage.upcycle.reset,
        )
