"""Learning rate by update: warmup, stable, decay (WSD; arXiv 2404.06395, eq. 1).

The stable phase holds the rate, or lets it fall as a power of tokens.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from windtunnel.errors import ConfigError

DecayShape = Literal["exponential", "linear", "one_minus_sqrt", "cosine"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Decay:
    """A decay over updates `start` to `end - 1`, from `rate` towards `final_factor`.

    Both rates are relative to the recipe's peak. The exponential shape halves every
    (end - start) / log2(rate / final_factor) updates and reaches `final_factor` at `end`; from 1 to
    the default 0.1 its half-life is 1 / 3.32 of the decay.

    Raises:
        ConfigError: No update, or a final factor out of range.
    """

    start: int
    end: int
    shape: DecayShape = "exponential"
    final_factor: float = 0.1
    rate: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ConfigError(
                "empty-decay",
                f"decay from update {self.start} to {self.end}: it must last 1 or more",
                start=self.start,
                end=self.end,
            )
        lowest_allowed = self.final_factor > 0.0 if self.shape == "exponential" else True
        if not (0.0 <= self.final_factor <= 1.0 and lowest_allowed):
            raise ConfigError(
                "out-of-range",
                f"final_factor = {self.final_factor:g}: between 0 and 1"
                + (", above 0 for the exponential shape" if self.shape == "exponential" else ""),
                key="final_factor",
                value=self.final_factor,
                shape=self.shape,
            )

    def __call__(self, step: int) -> float:
        """Multiplier on the peak rate for update `step` of the decay."""
        progress = (step - self.start) / (self.end - self.start)
        if self.shape == "exponential":
            return float(self.rate * (self.final_factor / self.rate) ** progress)
        match self.shape:
            case "linear":
                remaining = 1.0 - progress
            case "one_minus_sqrt":
                remaining = 1.0 - math.sqrt(progress)
            case "cosine":
                remaining = 0.5 * (1.0 + math.cos(math.pi * progress))
        return self.final_factor + (self.rate - self.final_factor) * remaining


HELD_DIGITS = 12
"""Decimals of a falling rate: its last bits differ between processors, and ids must not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerHold:
    """A stable phase whose rate falls as a power of tokens (Shen et al. 2024, arXiv 2408.13359).

    Attributes:
        power: exponent, below 0.
        tokens: up to which the rate is the peak.
        batch: tokens of an update from update `since` on.
        read: tokens that were read before update `since`.
    """

    power: float
    tokens: int
    batch: int
    since: int = 0
    read: int = 0

    def __call__(self, step: int) -> float:
        """Multiplier on the peak rate for update `step`: (D / tokens)^power of the D read by it."""
        read = self.read + (step + 1 - self.since) * self.batch
        return (
            1.0 if read <= self.tokens else round((read / self.tokens) ** self.power, HELD_DIGITS)
        )

    def with_batch(self, batch: int, since: int) -> "PowerHold":
        """The same fall of the rate with another batch from update `since` on."""
        read = self.read + (since - self.since) * self.batch
        return replace(self, batch=batch, since=since, read=read)


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Multiplier on the peak rate, a function of the update alone, so that resuming needs no state.

    Update s (from 0) warms up as rate x (s - start + 1) / warmup, then stays at `rate`. A decay
    starts at `decay.start`; `decay.end` is the first update that is not run. With a `hold`, the
    rate of warmup and stable phase is also multiplied by that.
    """

    warmup: int
    decay: Decay | None = None
    start: int = 0
    rate: float = 1.0
    hold: PowerHold | None = None

    def __call__(self, step: int) -> float:
        """Multiplier on the peak rate for update `step`, counted from 0."""
        if self.decay is not None and step >= self.decay.start:
            return self.decay(step)
        held = self.rate if self.hold is None else self.rate * self.hold(step)
        if step - self.start < self.warmup:
            return held * ((step - self.start + 1) / self.warmup)
        return held
