"""Branch experiments: several variants of training that start from the same trunks.

A variant is one stage or a chain of stages. A `MixtureDesign` generates variants for a mixture law:
each source alone, their centre, and random draws between them.
"""

import random
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from windtunnel.config.axes import StudyParts
from windtunnel.config.data import Sources, Weight, no_source, whole_shares
from windtunnel.config.errors import fitting
from windtunnel.config.experts import ExpertFields, Routers
from windtunnel.config.model import LONGEST_CONTEXT, MOST_TOKENS, ModelFamily
from windtunnel.config.own_values import OwnRecipe, OwnSchedule
from windtunnel.config.segment import Moments, Objective
from windtunnel.config.units import (
    MOST_LISTED,
    Duration,
    ExperimentName,
    Misfit,
    Seeds,
    Size,
    Sizes,
    Strict,
    WrittenCount,
    at,
    differing,
)
from windtunnel.errors import Refused
from windtunnel.family import MINICPM, MINICPM_MOE, Value, load_family
from windtunnel.schedule import DecayShape

MOST_DRAWS = 100
"""Draws per mixture: with few sources or a low concentration, draws repeat."""


class MixtureDesign(Strict):
    """Mixtures of some sources, each a variant `mix00`, `mix01`, ...

    The first are each source alone and the uniform mixture, so that a law need not extrapolate. The
    rest are drawn from a Dirichlet distribution, reproducibly by seed. Duplicates are dropped, so
    there may be fewer mixtures than requested.
    """

    sources: Annotated[tuple[str, ...], Field(min_length=2, description="Names of data.sources")]
    mixtures_drawn: Annotated[
        int,
        Field(
            ge=1,
            le=500,
            description="Random mixtures, in addition to each source alone and the uniform mixture",
        ),
    ] = 20
    concentration: Annotated[
        float,
        Field(
            gt=0,
            le=1e6,
            description="Dirichlet concentration; 1: uniform; below 1: towards single sources",
        ),
    ] = 1.0
    seed: int = 0
    decay: Annotated[
        Duration | None,
        Field(description="Length of the decay; default: schedule.decay_fraction of all training"),
    ] = None

    def check_sources(self, sources: Sources) -> None:
        """Check that each source is one of the study's, and named once.

        Raises:
            Misfit: With the source.
        """
        known = {source.label for source in sources}
        for number, source in enumerate(self.sources):
            if source not in known:
                raise Misfit(
                    "unknown-source",
                    f"{source!r} is {no_source(source, sources)}",
                    "sources",
                    number,
                    source=source,
                    known=sorted(known),
                )
            if source in self.sources[:number]:
                raise Misfit(
                    "duplicate-value",
                    f"{source!r} is named twice; name it once",
                    "sources",
                    number,
                    repeated=source,
                )

    def mixtures(self) -> dict[str, dict[str, float]]:
        """Weights by source in whole thousandths, by the name of the variant."""
        count = len(self.sources)
        shares = [[float(k == one) for k in range(count)] for one in range(count)]
        shares.append([1.0 / count] * count)
        # The standard library's generator: the same numbers on every machine and version.
        draw = random.Random(self.seed)
        mixtures = [whole_shares(each) for each in shares]
        for _ in range(MOST_DRAWS * self.mixtures_drawn):
            if len(mixtures) == count + 1 + self.mixtures_drawn:
                break
            gammas = [draw.gammavariate(self.concentration, 1.0) for _ in self.sources]
            if not any(gammas):
                continue  # a concentration near 0
            drawn = whole_shares(gammas)
            if drawn not in mixtures:
                mixtures.append(drawn)
        digits = len(str(len(mixtures) - 1))
        return {
            f"mix{number:0{digits}}": {
                source: float(whole)
                for source, whole in zip(self.sources, each, strict=True)
                if whole
            }
            for number, each in enumerate(mixtures)
        }


SQRT = 0.5
"""Learning rate ~ batch ** 0.5 (assumed for AdamW: Malladi et al. 2022, section 4)."""


class Upcycling(Routers):
    """A mixture of experts made of the dense model at the fork (Komatsuzaki et al. 2023).

    Every feed-forward becomes so many copies of itself, with a fresh router.
    """

    experts: Annotated[int, Field(ge=2, description="Copies of each feed-forward", examples=[8])]
    moments: Annotated[
        Moments, Field(description="The optimizer's moments of each copy: copied, or zeroed")
    ] = "copied"
    reset: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="Share of each copy's inner units that start anew (drop-upcycling)",
        ),
    ] = 0.0

    @property
    def fields(self) -> dict[str, Value]:
        """Of the family minicpm-moe."""
        return ExpertFields(**self.model_dump(exclude={"moments", "reset"})).model_dump()


class Stage(Strict):
    """A stage of training with its own schedule and data; omitted keys keep their values."""

    decay: Annotated[
        Duration | None,
        Field(description="Length of the decay; default: schedule.decay_fraction of all training"),
    ] = None
    stable: Annotated[
        Duration | None, Field(description="Hold the rate for this long, instead of a decay")
    ] = None
    shape: Annotated[DecayShape | None, Field(description="Default: schedule.shape")] = None
    final_factor: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            description="Final learning rate, relative to the peak. Default: schedule.final_factor "
            "times the initial rate of the stage",
        ),
    ] = None
    rate: Annotated[
        float | None,
        Field(
            gt=0,
            le=1,
            description="Initial learning rate, relative to the peak. Default: the final rate of "
            "the previous stage",
        ),
    ] = None
    warmup: Annotated[
        Duration | None,
        Field(description="Initial part of the stage in which the rate warms up again from 0"),
    ] = None
    mixture: Annotated[
        dict[str, Weight] | None,
        Field(
            min_length=1,
            description="Weights of data.sources by name; a source that is not named is not read. "
            "Default: unchanged",
        ),
    ] = None
    ramp: Annotated[
        Duration | None,
        Field(
            description="Interpolate linearly to the new mixture over this long. Default: switch "
            "at once"
        ),
    ] = None
    loss: Annotated[
        Objective | None,
        Field(description="completion: for sources with `pairs`, the loss on prompts is masked"),
    ] = None
    batch_tokens: Annotated[
        int | None, Field(ge=1, le=MOST_TOKENS, description="Default: unchanged"), WrittenCount
    ] = None
    lr_exponent: Annotated[
        float,
        Field(
            ge=-2,
            le=2,
            description="The peak rate scales with the batch to this power; 0: unchanged",
        ),
    ] = SQRT
    context: Annotated[
        int | None, Field(ge=2, le=LONGEST_CONTEXT, description="Tokens per row")
    ] = None
    rope_base: Annotated[float | None, Field(gt=1, description="RoPE base; requires context")] = (
        None
    )
    upcycle: Annotated[
        Upcycling | None,
        Field(description="Become a mixture of experts at the fork, of so many copies"),
    ] = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.stable is not None:
            for name in ("decay", "shape", "final_factor"):
                if getattr(self, name) is not None:
                    raise Refused(
                        "contradicting-keys",
                        f"stable and {name}: a stage either holds the rate or decays",
                        keys=["stable", name],
                    )
        for name, needed in (("ramp", "mixture"), ("rope_base", "context")):
            if getattr(self, name) is not None and getattr(self, needed) is None:
                raise Refused(
                    "missing-key",
                    f"{name} without {needed}: it says how that changes",
                    given=name,
                    needed=needed,
                )
        return self


def _as_chain(value: Any) -> Any:
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list | tuple):
        raise Refused(
            "wrong-type",
            "expected one stage, such as {decay: 100 steps}, or a list of stages; {} is a decay as "
            "`schedule` says",
        )
    return value


Variant = Annotated[
    tuple[Stage, ...],
    BeforeValidator(_as_chain, json_schema_input_type=Stage | list[Stage]),
    Field(min_length=1, description="One stage, or a list of consecutive stages"),
]


class BranchExperiment(Strict):
    """sizes x forks x variants x seeds: several branches from each fork of the same trunks."""

    kind: Literal["branch"]
    name: ExperimentName = "branch"
    sizes: Annotated[Sizes | None, Field(description="Default: all of model.sizes")] = None
    forks: Annotated[
        tuple[Duration, ...],
        Field(
            min_length=1,
            max_length=MOST_LISTED,
            description="Training before the fork: 10N, '2e6 tokens'",
        ),
        AfterValidator(differing),
    ]
    variants: Annotated[
        dict[ExperimentName, Variant],
        Field(
            default_factory=dict,
            description="Variants by name; omitted keys are those of the study",
        ),
    ]
    design: Annotated[
        MixtureDesign | None,
        Field(
            description="Additional variants for a mixture law: mixtures drawn over some sources"
        ),
    ] = None
    seeds: Seeds = (0, 1)
    recipe: OwnRecipe
    schedule: OwnSchedule

    @property
    def sizes_named(self) -> tuple[Size, ...]:
        """Sizes that the experiment names explicitly."""
        return self.sizes or ()

    @property
    def all_variants(self) -> dict[str, tuple[Stage, ...]]:
        """All variants by name, those of the design last."""
        if self.design is None:
            return self.variants
        stage = {"decay": self.design.decay} if self.design.decay else {}
        drawn = {
            name: (Stage(mixture=weights, **stage),)
            for name, weights in self.design.mixtures().items()
        }
        return self.variants | drawn

    def check_against(self, study: StudyParts) -> None:
        """Check mixtures against the study's sources, and batches against the context.

        Raises:
            Misfit: With the variant or the source.
        """
        if not self.all_variants:
            raise Refused("no-variants", "no variants and no design; give one")
        if self.design is not None:
            with at("design"):
                self.design.check_sources(study.data.sources)
            if both := self.variants.keys() & self.design.mixtures().keys():
                name = min(both)
                raise Misfit(
                    "duplicate-name",
                    "also the name of one of the design's; rename it",
                    "variants",
                    name,
                    name=name,
                )
        for name, stages in self.variants.items():
            with at("variants", name):
                _check_chain(stages, study)


def _check_chain(stages: tuple[Stage, ...], study: StudyParts) -> None:
    sources = study.data.sources
    paired = [source.label for source in sources if source.paired]
    mixture, loss = {source.label: source.weight for source in sources}, "full"
    context, batch = study.model.context, study.recipe.batch_tokens
    for number, stage in enumerate(stages):
        with at(number):
            _check_mixture(stage.mixture, sources)
            _check_upcycling(stage, stages[:number], study.model)
            mixture, loss = stage.mixture or mixture, stage.loss or loss
            if loss == "completion" and not any(mixture.get(each) for each in paired):
                raise Refused(
                    "no-completions",
                    "loss: completion, and no source of its mixture has completions; "
                    f"those with `pairs` are: {', '.join(sorted(paired)) or 'none'}",
                    paired=sorted(paired),
                )
            context, batch = stage.context or context, stage.batch_tokens or batch
            if batch % context:
                raise Refused(
                    "not-a-multiple",
                    f"a batch of {batch} tokens is not a whole number of rows of {context}; "
                    f"{fitting(batch, context)}",
                    batch_tokens=batch,
                    context=context,
                )


def _check_upcycling(stage: Stage, before: tuple[Stage, ...], model: ModelFamily) -> None:
    if stage.upcycle is None:
        return
    with at("upcycle"):
        if model.family != MINICPM or any(each.upcycle for each in before):
            now = MINICPM_MOE if model.family == MINICPM else model.family
            raise Refused(
                "cannot-upcycle",
                f"only a model of the family {MINICPM} can be upcycled, and here it is one of "
                f"{now}; take the family {MINICPM}, and upcycle once",
                family=now,
            )
        given = {name: getattr(model, name) for name in load_family(MINICPM_MOE).takes}
        load_family(MINICPM_MOE).fields(
            given | stage.upcycle.fields, width=model.sizes[0].width, depth=1
        )


def _check_mixture(mixture: dict[str, float] | None, sources: Sources) -> None:
    known = {source.label for source in sources}
    for name in mixture or ():
        if name not in known:
            raise Misfit(
                "unknown-source",
                no_source(name, sources),
                "mixture",
                name,
                source=name,
                known=sorted(known),
            )
    if mixture is not None and not any(mixture.values()):
        raise Misfit("zero-weights", "every weight is 0", "mixture")
