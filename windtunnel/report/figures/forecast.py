"""Forecast against measurement: intervals, the runs that came after, and the baselines."""

from typing import TYPE_CHECKING

import numpy as np

from windtunnel.findings.forecast_scores import ForecastScores, HeldOutPoint
from windtunnel.report.figures.drawing import Drawing
from windtunnel.report.figures.style import DASHED, Style, tip
from windtunnel.report.formatting import count, loss, run_tip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GLYPHS = {"^": "△", "s": "□", "D": "◇", "v": "▽"}
MARKS = tuple(GLYPHS)


def forecast(found: ForecastScores) -> Drawing:
    """One line a held-out (N, D); along it, per cent above the measured loss.

    Where nothing is measured yet, it is per cent above the forecast.
    """
    against = "measured loss" if found.measured else "forecast"

    def draw(style: Style) -> "Figure":
        wide = style.wide
        figure = style.blank((112 if wide else 200) + len(found.points) * (40 if wide else 42))
        axes = figure.add_subplot()
        reach = (1.7 if wide else 2.6) * _widest(found)
        axes.axvline(0, color=style.paint.muted, linewidth=1, ls=DASHED, zorder=1)
        for place, point in enumerate(found.points):
            _line(axes, style, point, place, reach)
        axes.set_xlim(-reach, reach)
        axes.set_ylim(len(found.points) - 0.4, -0.6)
        axes.set_yticks(range(len(found.points)), [_label(p, wide=wide) for p in found.points])
        style.dress(axes, x=f"Above the {against} (%)", y="", grid="x")
        axes.tick_params(axis="y", labelcolor=style.paint.ink, pad=10)
        _key(figure, style, found)
        return figure

    alt = (
        f"Forecast and prediction interval of {len(found.points)} held-out points; "
        f"{found.inside} of {found.with_interval} measured runs lie inside."
    )
    return Drawing(name="forecast", alt=alt, draw=draw)


def _label(point: HeldOutPoint, *, wide: bool) -> str:
    if wide:
        return f"{count(point.tokens)} tokens: {point.forecast:.4f}"
    return f"{count(point.tokens)}\n{point.forecast:.4f}"


def _widest(found: ForecastScores) -> float:
    """The largest distance from 0, in per cent, of a forecast, an interval's end or a run."""
    values = [
        abs(_percent(value, point))
        for point in found.points
        for value in (point.forecast, point.low, point.high, *point.measured)
    ]
    return max((value for value in values if np.isfinite(value) and value > 0), default=1.0)


def _percent(value: float, point: HeldOutPoint) -> float:
    """Above the mean of the measured runs, as every error of a forecast; else above it."""
    zero = point.forecast if point.truth is None else point.truth
    return float(100 * np.log(value / zero)) if value > 0 else float("nan")


def _line(axes: "Axes", style: Style, point: HeldOutPoint, place: int, reach: float) -> None:
    low, high = _percent(point.low, point), _percent(point.high, point)
    own = low if point.law_low is None else _percent(point.law_low, point)
    if np.isfinite([low, own, high]).all():
        for left, right, alpha in ((own, high, 0.25), (low, own, 0.1)):
            width = right - left
            axes.barh(place, width, 0.4, left=left, color=style.paint.accent, alpha=alpha, lw=0)
    _baselines(axes, style, point, place, reach)
    at = _percent(point.forecast, point)
    axes.plot([at, at], [place - 0.2, place + 0.2], color=style.paint.accent, lw=2.6, zorder=4)
    (dots,) = axes.plot(
        [_percent(value, point) for value in point.measured],
        [place] * len(point.measured),
        "o",
        markersize=7,
        mfc=style.paint.ink,
        mec=style.paint.card,
        mew=0.9,
        zorder=5,
    )
    tip(dots, [f"{run_tip(run)}, forecast {loss(point.forecast)}" for run in point.runs])


def _baselines(axes: "Axes", style: Style, point: HeldOutPoint, place: int, reach: float) -> None:
    """Where it fits a mark; where it does not, its number at the edge that it lies beyond."""
    outside: dict[bool, list[str]] = {False: [], True: []}
    paint = style.paint
    for mark, value in zip(MARKS, point.baselines.values(), strict=False):
        off = _percent(value, point)
        if abs(off) < reach:
            axes.plot(off, place, mark, markersize=6.5, mfc=paint.card, mec=paint.muted, mew=1.3)
        elif np.isfinite(off):
            outside[off > 0].append(f"{GLYPHS[mark]} {off:+.1f}%".replace("-", "−"))
    for right, words in outside.items():
        if words:
            text = ", ".join(words)
            axes.text(
                reach if right else -reach,
                place,
                f"{text} →" if right else f"← {text}",
                ha="right" if right else "left",
                va="center",
                fontsize=11,
                color=paint.muted,
            )


def _key(figure: "Figure", style: Style, found: ForecastScores) -> None:
    from matplotlib.lines import Line2D

    paint = style.paint
    marks = [
        Line2D([], [], color=paint.accent, alpha=0.25, marker="s", ms=12, mew=0, ls=""),
        Line2D([], [], color=paint.accent, marker="|", markersize=13, mew=2.6, linestyle=""),
        Line2D([], [], color=paint.ink, marker="o", linestyle="", markersize=6.5),
    ]
    words = [f"{found.level:.0%} interval of one new run", "forecast", "measured"]
    baselines = found.points[0].baselines if found.points else {}
    for mark, name in zip(MARKS, baselines, strict=False):
        marks.append(Line2D([], [], marker=mark, mfc=paint.card, mec=paint.muted, linestyle=""))
        words.append(name)
    figure.legend(
        marks,
        words,
        loc="outside upper left",
        ncols=5 if style.wide else 1,
        borderaxespad=0,
        frameon=False,
        fontsize=11,
        handlelength=1.2,
        columnspacing=1.4,
    )
