"""Learning rate by update: warmup, stable, decay (WSD; arXiv 2404.06395, eq. 1)."""

import math
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Multiplier on the peak rate, a function of the update alone, so that resuming needs no state.

    Update s (from 0) warms up as rate x (s - start + 1) / warmup, then stays at `rate`. A decay
    starts at `decay.start`; `decay.end` is the first update that is not run.
    """

    warmup: int
    decay: Decay | None = None
    start: int = 0
    rate: float = 1.0

    def __call__(self, step: int) -> float:
        """Multiplier on the peak rate for update `step`, counted from 0."""
        if self.decay is not None and step >= self.decay.start:
            return self.decay(step)
        if step - self.start < self.warmup:
            return self.rate * ((step - self.start + 1) / self.warmup)
        return self.rate
