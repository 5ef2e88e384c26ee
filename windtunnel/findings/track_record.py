"""The forecasts of a whole store against what was measured since, over how far they reached."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, log

from windtunnel.errors import WindtunnelError
from windtunnel.findings.forecast_scores import ForecastScores, forecast_scores
from windtunnel.runs.files import read_json
from windtunnel.runs.forecast import read_forecasts
from windtunnel.runs.gc import PLAN, PLAN_FILE
from windtunnel.runs.measured import gather
from windtunnel.runs.store import Store

DECADES = ((0.0, 1.0), (1.0, 3.0), (3.0, 10.0), (10.0, 30.0), (30.0, 100.0), (100.0, inf))
"""Distances by which the forecasts are grouped: half decades of the ratio to the largest run."""


@dataclass(frozen=True, kw_only=True)
class PastForecast:
    """One forecast run: how far it lay beyond the fitted ones, and how it came out.

    Attributes:
        study: of the store.
        experiment: of the study; None where the forecast does not tell.
        params: ratio to the largest fitted run.
        tokens: likewise.
        blind: whether it was written before the run was trained.
        error: ln(forecast / measured).
        inside: whether the run lies in the interval; None without one.
    """

    study: str
    experiment: str | None
    params: float
    tokens: float
    blind: bool
    error: float
    inside: bool | None


@dataclass(frozen=True, kw_only=True)
class Distance:
    """The forecasts of one distance: ratios between `low` and `high` times the largest run.

    Attributes:
        low: of the ratio, exclusive.
        high: inclusive.
        forecasts: of the distance.
    """

    low: float
    high: float
    forecasts: tuple[PastForecast, ...]

    @property
    def label(self) -> str:
        """`3 to 10 times`."""
        if not self.low:
            return "within"
        return f"{self.low:g} to {self.high:g} times" if self.high < inf else f"{self.low:g} times"

    @property
    def error(self) -> float:
        """Mean absolute error of ln loss."""
        return sum(abs(each.error) for each in self.forecasts) / len(self.forecasts)

    @property
    def bias(self) -> float:
        """Mean error of ln loss; above 0 the forecasts were too high."""
        return sum(each.error for each in self.forecasts) / len(self.forecasts)

    @property
    def with_interval(self) -> int:
        """Forecasts that had an interval."""
        return sum(each.inside is not None for each in self.forecasts)

    @property
    def inside(self) -> int:
        """Of those, how many runs lie in it."""
        return sum(each.inside is True for each in self.forecasts)


def past_forecasts(store: Store) -> tuple[PastForecast, ...]:
    """Every forecast of a store whose run has been measured; a damaged study has none."""
    found: list[PastForecast] = []
    for folder in sorted((store.root / "studies").glob("*")):
        try:
            forecasts = read_forecasts(folder)
            plan = read_json(folder / PLAN_FILE, PLAN) if forecasts else None
        except WindtunnelError:
            continue  # its own page says so
        if plan is not None:
            for scores in forecast_scores(forecasts, gather(store, plan)):
                found += _of_scores(folder.name, scores)
    return tuple(found)


def by_distance(forecasts: Sequence[PastForecast], along: str) -> tuple[Distance, ...]:
    """The forecasts by their distance in `params` or `tokens`, the nearest first."""
    return tuple(
        Distance(low=low, high=high, forecasts=within)
        for low, high in DECADES
        if (within := tuple(each for each in forecasts if low < getattr(each, along) <= high))
    )


def _of_scores(study: str, scores: ForecastScores) -> Iterator[PastForecast]:
    largest = scores.largest
    if not {"params", "tokens"} <= largest.keys():
        return
    for point in scores.points:
        for loss in point.measured:
            yield PastForecast(
                study=study,
                experiment=scores.experiment,
                params=point.params / largest["params"],
                tokens=point.tokens / largest["tokens"],
                blind=not scores.trained_before,
                error=log(point.forecast / loss),
                inside=point.low <= loss <= point.high if point.has_interval else None,
            )
