"""Rules for the learning rate, judged on measured valleys by the loss that they give up."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from windtunnel.findings.rates.valleys import Valleys
from windtunnel.laws import Power2

# Published: StepLaw (arXiv 2503.04715), N non-embedding, D and batch in tokens.
STEPLAW_RATE = Power2(a=1.79, b=-0.713, c=0.307)
STEPLAW_BATCH = (0.58, 0.571)


@dataclass(frozen=True, kw_only=True)
class Follow:
    """What a rule for the batch gives up at the batches other than `anchor`, nats per token.

    `known` cells lie inside the rates tried, `outside` ones do not; nan where none is known.
    """

    anchor: float
    mean: float
    worst: float
    known: int
    outside: int


@dataclass(frozen=True, kw_only=True)
class StepLaw:
    """Its rate and batch for one size at the tokens of the grid.

    Attributes:
        size: such as `64x3`.
        params: of the size.
        lr: used as the rate of the study.
        hidden_scale: under muP hidden matrices train at `lr` times this.
        batch: tokens per update.
        nearest: the tried batch that is nearest to it.
        tried: lowest and highest rate tried there.
        regret: loss at `lr` and `nearest` above the lowest of the size, nats per token; nan where
            `lr` lies outside the rates tried.
        rate_regret: loss at `lr` and the middle batch above the lowest at that batch, likewise.
    """

    size: str
    params: float
    lr: float
    hidden_scale: float
    batch: float
    nearest: float
    tried: tuple[float, float]
    regret: float
    rate_regret: float


def middle_batch(sizes: Sequence[Valleys]) -> float:
    """The batch from which rules start; of an even number of batches the lower middle one."""
    batches = sorted({valley.at for size in sizes for valley in size.valleys})
    return batches[(len(batches) - 1) // 2]


def follow(sizes: Sequence[Valleys], exponent: float) -> Follow:
    """Carry each size's best rate from the middle batch to the others as batch^exponent.

    A size without a best rate there is left out.
    """
    anchor = middle_batch(sizes)
    lost = []
    for size in sizes:
        at = {valley.at: valley for valley in size.valleys}
        start = at[anchor].best if anchor in at else None
        if start is None:
            continue
        lost += [
            float(valley.above_best(start.value * (batch / anchor) ** exponent))
            for batch, valley in at.items()
            if batch != anchor
        ]
    known = [value for value in lost if np.isfinite(value)]
    return Follow(
        anchor=anchor,
        mean=float(np.mean(known)) if known else np.nan,
        worst=max(known, default=np.nan),
        known=len(known),
        outside=len(lost) - len(known),
    )


def published(size: Valleys, *, middle: float) -> StepLaw:
    """StepLaw at one size of a grid whose middle batch is `middle`."""
    valleys = size.valleys
    tokens = float(np.mean([valley.tokens for valley in valleys]))
    batch = STEPLAW_BATCH[0] * tokens ** STEPLAW_BATCH[1]
    nearest = min(valleys, key=lambda valley: abs(np.log(valley.at / batch)))
    lr = float(STEPLAW_RATE(nearest.params, tokens))
    lowest = min(valley.lowest for valley in valleys)
    at_middle = [float(valley.above_best(lr)) for valley in valleys if valley.at == middle]
    return StepLaw(
        size=size.name,
        params=nearest.params,
        lr=lr,
        hidden_scale=nearest.hidden_scale,
        batch=batch,
        nearest=nearest.at,
        tried=(float(nearest.lr.min()), float(nearest.lr.max())),
        regret=float(nearest.above_best(lr)) + nearest.lowest - lowest,
        rate_regret=at_middle[0] if at_middle else np.nan,
    )
