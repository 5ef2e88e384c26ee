"""The best mixture and its parts: forecasts, gains over other mixtures, and the score."""

from collections.abc import Mapping
from dataclasses import dataclass

from windtunnel.laws.interval import Interval, Span
from windtunnel.laws.table import Floats

LAW = "mixture"


@dataclass(frozen=True)
class Forecast:
    """The loss of one new run.

    Attributes:
        loss: off the trunks of the table, on average over them, with a prediction interval.
        another_trunk: the interval where the run leaves a trunk that the table has not; nan where
            the table has one trunk, which says nothing of others.
    """

    loss: Interval
    another_trunk: Span


@dataclass(frozen=True)
class Gain:
    """The predicted gain in the target of the best mixture over another one.

    Attributes:
        over: the name of the other mixture.
        mixture: the shares of the other mixture by source.
        nats: positive where the best one is better, corrected for the selection of the best.
        none: whether the two mixtures are the same.
    """

    over: str
    mixture: Mapping[str, float]
    nats: Interval
    none: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Best:
    """The mixture of lowest target among those that the design covers.

    Attributes:
        shares: by source, with the interval that the best share of resamples lies in.
        target: the weighted mean of losses there.
        losses: on every set there.
        gains: over the best mixture measured, and over the default one where that is known.
        draws: best mixtures of the resamples, shape (B, K).
    """

    shares: Mapping[str, Interval]
    target: Forecast
    losses: Mapping[str, Forecast]
    gains: tuple[Gain, ...]
    draws: Floats

    @property
    def mixture(self) -> dict[str, float]:
        """Shares by source."""
        return {name: share.value for name, share in self.shares.items()}


@dataclass(frozen=True)
class Score:
    """The cross-validation score of the target on mixtures left out.

    Attributes:
        rms: error in nats, by how much each mixture counts for the target.
        rank: Spearman's correlation, in which all count alike.
    """

    rms: float
    rank: Interval
