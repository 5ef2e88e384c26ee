"""Numbers with their uncertainty, and where they were measured: the small records of a fit."""

from dataclasses import dataclass

import numpy as np

from windtunnel.laws.runs import Floats, Runs

NO_INTERVAL = (float("nan"), float("nan"))


@dataclass(frozen=True)
class Interval:
    """A value and its interval at the fit's level; low and high are nan where none was computed."""

    value: float
    low: float
    high: float
    warnings: tuple[str, ...] = ()

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Optimum:
    """The compute-optimal model and data for `flops`, and the loss of one new run there."""

    flops: float
    params: Interval
    tokens: Interval
    ratio: Interval
    loss: Interval
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Domain:
    """Smallest and largest params, tokens, flops (k N D) and D/N that the fitted rows cover."""

    params: tuple[float, float]
    tokens: tuple[float, float]
    flops: tuple[float, float]
    ratio: tuple[float, float]

    @classmethod
    def of(cls, runs: Runs) -> "Domain":
        """The box around the table's rows."""
        columns = (runs.params, runs.tokens, runs.budget, runs.tokens / runs.params)
        return cls(*((float(c.min()), float(c.max())) for c in columns))


@dataclass(frozen=True)
class HoldOut:
    """How well a fit to the other trunks predicts whole trunks that it has not seen.

    Attributes:
        what: which rows were held out, in words.
        error: mean of ln(predicted) - ln(measured) over them; 0.01 is 1% too high.
        rms: root mean square of the same.
        low: lower end of the interval that `error` was predicted to lie in.
        high: upper end of it.
        inside: whether it does; None without intervals.
    """

    what: str
    rows: int
    trunks: int
    error: float
    rms: float
    low: float
    high: float
    inside: bool | None


@dataclass(frozen=True)
class Influence:
    """The trunk whose removal moves D/N at `flops` most: `ratio` with it, `ratio_without` it."""

    trunk: str
    flops: float
    ratio: float
    ratio_without: float

    @property
    def shift(self) -> float:
        """ln(ratio without / ratio with): 0.1 is about 10%."""
        return float(np.log(self.ratio_without / self.ratio))


def quantiles(draws: Floats, level: float) -> tuple[float, float]:
    """The central interval of the draws at `level`; it may be infinite, never nan.

    Order statistics, rounded outwards: interpolating between two infinite draws would give nan.
    """
    if not draws.size:
        return NO_INTERVAL
    tail = (1 - level) / 2
    return (
        float(np.quantile(draws, tail, method="lower")),
        float(np.quantile(draws, 1 - tail, method="higher")),
    )


def beyond(name: str, value: float, domain: tuple[float, float]) -> str | None:
    """A sentence saying how many decades `value` lies outside `domain`, or None inside it."""
    low, high = domain
    if value > high * (1 + 1e-9):
        side, edge, decades = "above the largest", high, np.log10(value / high)
    elif value < low * (1 - 1e-9):
        side, edge, decades = "below the smallest", low, np.log10(low / value)
    else:
        return None
    return f"{name} = {value:.3g} is {decades:.2f} decades {side} fitted ({edge:.3g}): extrapolated"
