"""A forecast written before the largest size was trained, beside the runs that came after it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from windtunnel.findings.records import Records
from windtunnel.laws import compare
from windtunnel.trials.gather import Row


@dataclass(frozen=True, kw_only=True)
class ForecastCheck:
    """A forecast against the runs that came after it.

    Attributes:
        runs: held-out runs that have been measured.
        inside: how many of them lie in their own prediction interval.
        rms: root mean square of ln(forecast / measured).
        naive: the same of forecasts that need no law, by name.
        blind: whether it was written before a held-out run had been trained.
    """

    runs: int
    inside: int
    rms: float
    naive: Mapping[str, float]
    blind: bool


def check_forecast(records: Records, rows: list[Row]) -> ForecastCheck | None:
    """The newest forecast that was written before its runs, else the newest, beside the runs."""
    measured = {row["segment"]: row["loss"] for row in rows}
    about = [
        each for each in records.forecasts if any(p["segment"] in measured for p in each["points"])
    ]
    if not about:
        return None
    blind = [each for each in about if not each["held_out_trained_before"]]
    chosen = (blind or about)[-1]
    points = [point for point in chosen["points"] if point["segment"] in measured]
    losses = [measured[point["segment"]] for point in points]
    predictions = {"law": [point["loss"] for point in points]} | {
        name: [point["naive"][name] for point in points] for name in points[0]["naive"]
    }
    scores = {
        score.name: score.rms_percent / 100
        for score in compare(predictions, losses, chosen["sigma"] or 1.0).scores
    }
    return ForecastCheck(
        runs=len(points),
        inside=sum(_lies_in(loss, p) for loss, p in zip(losses, points, strict=True)),
        rms=scores.pop("law"),
        naive=scores,
        blind=bool(blind),
    )


def _lies_in(loss: float, point: Mapping[str, Any]) -> bool:
    ends = point["low"], point["high"]
    return None not in ends and ends[0] <= loss <= ends[1]
