"""Two sizes at equal loss: training and inference compute, by 6ND and with everything counted."""

import math
from dataclasses import dataclass

from windtunnel.laws import Interval


@dataclass(frozen=True, kw_only=True)
class Size:
    """One of the two sizes; `flops_per_token` are exact, of training: three times a forward."""

    name: str
    params: float
    flops_per_token: float


@dataclass(frozen=True, kw_only=True)
class Match:
    """One length of the larger size, and the tokens after which the smaller has its loss.

    `tokens` is inf where the smaller never gets there, and 0 where its shortest run is past it.
    """

    horizon: str
    larger_tokens: float
    loss: float
    tokens: Interval

    @property
    def found(self) -> bool:
        """Whether the crossing lies among the lengths of the smaller size."""
        return 0 < self.tokens.value < math.inf


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A small size and a large one; `exact` counts attention and head too, otherwise it is 6ND."""

    small: Size
    large: Size

    def training(self, match: Match, *, exact: bool) -> Interval:
        """Training compute of the smaller size over the larger one's, at equal loss."""
        each = self._per_token(exact=exact)
        return scaled(match.tokens, each / match.larger_tokens)

    def saved(self, *, exact: bool) -> float:
        """Inference compute per token of the larger size over the smaller one's."""
        return 1 / self._per_token(exact=exact)

    def break_even(self, match: Match, *, exact: bool) -> Interval:
        """Tokens of inference that pay for the longer training; 0 where it costs no more."""
        each = self._per_token(exact=exact)

        def tokens(trained: float) -> float:
            # Training costs three times a forward, for each token.
            return max(3 * (each * trained - match.larger_tokens) / (1 - each), 0.0)

        at = match.tokens
        low, high = (end if math.isnan(end) else tokens(end) for end in (at.low, at.high))
        return Interval(tokens(at.value), low, high)

    def _per_token(self, *, exact: bool) -> float:
        """Compute per token of the smaller size over the larger one's."""
        if exact:
            return self.small.flops_per_token / self.large.flops_per_token
        return self.small.params / self.large.params


def scaled(interval: Interval, factor: float) -> Interval:
    """The value and both ends times `factor`."""
    return Interval(interval.value * factor, interval.low * factor, interval.high * factor)
