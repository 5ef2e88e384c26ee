"""A number with its interval, as a Handoff holds it."""

import math
from typing import Self

from pydantic import model_validator

from windtunnel.errors import FitError
from windtunnel.laws import Interval
from windtunnel.spec.strict import Strict


def finite(end: float) -> float | None:
    """An end of an interval; None where it is unbounded, for JSON has no infinity."""
    return end if math.isfinite(end) else None


class Estimate(Strict):
    """A number and its interval at the Handoff's `level`; no ends where the fit gives none."""

    value: float
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if not (self.low or self.value) <= self.value <= (self.high or self.value):
            raise ValueError(f"{self.value} lies outside its interval, {self.low} to {self.high}")
        return self

    @classmethod
    def of(cls, interval: Interval) -> Self:
        """A law's interval.

        Raises:
            FitError: The value lies outside it.
        """
        if interval.value < interval.low or interval.value > interval.high:
            raise FitError(
                f"a number of this fit, {interval.value:.4g}, lies outside its own interval, "
                f"{interval.low:.4g} to {interval.high:.4g}: its runs contradict each other, and "
                "nothing is handed over. See its warnings (`windtunnel fit`), and leave such runs "
                "out"
            )
        return cls(value=interval.value, low=finite(interval.low), high=finite(interval.high))

    def __contains__(self, value: float) -> bool:
        return (self.low is None or self.low <= value) and (self.high is None or value <= self.high)
