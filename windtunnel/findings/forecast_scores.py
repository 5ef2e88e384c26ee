"""Scores of a forecast: errors, intervals, and the baselines that it had to beat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from windtunnel.errors import Diagnostic, FitError
from windtunnel.laws import Comparison, compare
from windtunnel.runs.forecast import law_runs
from windtunnel.runs.run import Run
from windtunnel.runs.transition import transition_of

LAW = "this law"


@dataclass(frozen=True, kw_only=True)
class HeldOutPoint:
    """One held-out (N, D): a forecast for every run there, and the runs that have been measured."""

    params: float
    tokens: float
    forecast: float
    low: float
    high: float
    baselines: dict[str, float]
    runs: tuple[Run, ...]
    planned: int
    law_low: float | None = None
    """The law's own lower end, where `low` also holds a transition."""

    @property
    def measured(self) -> tuple[float, ...]:
        """Losses of the measured runs."""
        return tuple(run.loss for run in self.runs if run.loss is not None)

    @property
    def truth(self) -> float | None:
        """Geometric mean of the measured losses; None before the first."""
        return float(np.exp(np.mean(np.log(self.measured)))) if self.measured else None

    @property
    def has_interval(self) -> bool:
        """Whether the law knew how far off a new run may be."""
        return not (np.isnan(self.low) or np.isnan(self.high))

    @property
    def inside(self) -> int:
        """How many of the measured runs lie in the interval of a single new run."""
        return sum(self.low <= loss <= self.high for loss in self.measured)

    def error(self, forecast: float) -> float | None:
        """Ln(forecast / measured); 0.01 is 1% too high. None before the first measurement."""
        return None if self.truth is None else float(np.log(forecast / self.truth))


@dataclass(frozen=True, kw_only=True)
class ForecastScores:
    """A forecast and its scores.

    Attributes:
        experiment: whose runs are held out; None where nothing tells.
        largest: the most `params` and `tokens` of the fitted runs, where known.
        sigma: seed noise of ln loss as known when the forecast was made.
        earlier: how many forecasts were written before this one.
        blind_earlier: how many of those were written before a held-out trunk had finished.
        comparison: the law against the baselines; None until a held-out run is measured.
        problem: why there is no comparison, where it was refused.
        transition: where copying changes between the fitted runs and the forecast ones.
    """

    experiment: str | None
    largest: Mapping[str, float]
    written: float
    rows: int
    inputs: str
    trained_before: bool
    level: float
    sigma: float
    earlier: int
    blind_earlier: int
    points: tuple[HeldOutPoint, ...]
    comparison: Comparison | None
    problem: FitError | None = None
    transition: Diagnostic | None = None

    @property
    def law_won(self) -> bool:
        """Whether the law beat every baseline by more than the seed noise."""
        return self.comparison is not None and self.comparison.winner == LAW

    @property
    def has_transition(self) -> bool:
        """Whether the interval of any point also holds a transition."""
        return any(point.law_low is not None for point in self.points)

    @property
    def measured(self) -> int:
        """Held-out runs that have been measured."""
        return sum(len(point.measured) for point in self.points)

    @property
    def with_interval(self) -> int:
        """Of those, how many were forecast with an interval."""
        return sum(len(point.measured) for point in self.points if point.has_interval)

    @property
    def inside(self) -> int:
        """Of those, how many lie in their interval."""
        return sum(point.inside for point in self.points)


def forecast_scores(
    forecasts: Sequence[dict[str, Any]], runs: Sequence[Run]
) -> tuple[ForecastScores, ...]:
    """Scores of every experiment's forecast against the measured runs, in the order of writing.

    Shown is the newest that was written before its held-out runs were trained, else the newest.
    """
    by_experiment: dict[str | None, list[dict[str, Any]]] = {}
    experiments = {run.segment: run.experiments[0] for run in runs if run.experiments}
    for each in forecasts:
        of_points = (experiments.get(point["segment"]) for point in each["points"])
        name = each.get("experiment") or next(filter(None, of_points), None)
        by_experiment.setdefault(name, []).append(each)
    return tuple(_scores(name, written, runs) for name, written in by_experiment.items())


def _scores(
    experiment: str | None, forecasts: Sequence[dict[str, Any]], runs: Sequence[Run]
) -> ForecastScores:
    """Scores of one experiment's forecasts, oldest first."""
    blind = [each for each in forecasts if not each["held_out_trained_before"]]
    shown = blind[-1] if blind else forecasts[-1]
    others = [each for each in forecasts if each is not shown]
    measured = {run.segment: run for run in runs if run.loss is not None}
    known = [point for point in shown["points"] if point["segment"] in measured]
    comparison, problem = None, None
    if known:
        truth = [float(measured[point["segment"]].loss or np.nan) for point in known]
        predictions = {LAW: [point["loss"] for point in known]}
        for name in known[0]["naive"]:
            predictions[name] = [point["naive"][name] for point in known]
        try:
            comparison = compare(predictions, truth, shown["sigma"])
        except FitError as refused:
            problem = refused
    return ForecastScores(
        experiment=experiment,
        largest=_largest(shown),
        written=shown["written"],
        rows=shown["rows"],
        inputs=shown["inputs"],
        trained_before=shown["held_out_trained_before"],
        level=shown["level"],
        sigma=shown["sigma"],
        earlier=len(others),
        blind_earlier=sum(not each["held_out_trained_before"] for each in others),
        points=_points(shown["points"], measured),
        comparison=comparison,
        problem=problem,
        transition=_transition(experiment, shown, runs),
    )


def _transition(
    experiment: str | None, forecast: Mapping[str, Any], runs: Sequence[Run]
) -> Diagnostic | None:
    """The transition between the ladder of an experiment and what was forecast, if any."""
    of_forecast = {point["segment"] for point in forecast["points"]}
    own = law_runs(run for run in runs if experiment is not None and run.is_of(experiment))
    return transition_of(
        [run for run in own if run.segment not in of_forecast],
        [run for run in own if run.segment in of_forecast],
        [(point["params"], point["tokens"]) for point in forecast["points"]],
    )


def _largest(forecast: Mapping[str, Any]) -> dict[str, float]:
    """The most params and tokens of the fitted runs; empty where the forecast does not tell."""
    domain = forecast.get("fit", {}).get("domain", {})
    found: dict[str, float] = forecast.get("largest") or {
        name: ends[1] for name, ends in domain.items() if name in {"params", "tokens"}
    }
    return found


def _points(points: list[dict[str, Any]], measured: Mapping[str, Run]) -> tuple[HeldOutPoint, ...]:
    """Seeds of one (N, D) together, by size and then by tokens."""
    cells: dict[tuple[float, float], list[dict[str, Any]]] = {}
    for point in points:
        cells.setdefault((point["params"], point["tokens"]), []).append(point)
    return tuple(
        HeldOutPoint(
            params=params,
            tokens=tokens,
            forecast=same[0]["loss"],
            low=_number(same[0]["low"]),
            high=_number(same[0]["high"]),
            baselines=same[0]["naive"],
            runs=tuple(measured[p["segment"]] for p in same if p["segment"] in measured),
            planned=len(same),
            law_low=same[0].get("transition", {}).get("low"),
        )
        for (params, tokens), same in sorted(cells.items())
    )


def _number(end: float | None) -> float:
    """An end of an interval; nan where there is none."""
    return float("nan") if end is None else end
