"""How sure a fit is of the compute-optimal tokens per parameter: all of its resamples."""

from typing import TYPE_CHECKING

import numpy as np

from windtunnel.laws import Fit
from windtunnel.laws.table import Floats
from windtunnel.report.figures.sheet import Drawing, Sheet
from windtunnel.report.figures.ticks import log_ticks
from windtunnel.report.numbers import significant, span

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 14
"""Bars from the 5th to the 95th percentile of the resamples on the axis."""
MOST_BINS = 240
WINDOW = 10.0
"""The D/N axis ends at the latest at this factor beyond what was measured and what was found."""


def ratio(fitted: Fit) -> Drawing | None:
    """How sure the optimal D/N at the largest budget is; None without resamples or an optimum."""
    if not (fitted.has_optimum and len(fitted.draws)):
        return None
    flops = fitted.domain["flops"][1]
    value = _log_ratios(fitted, fitted.form.vector[None], flops)[0]
    draws = _log_ratios(fitted, fitted.draws, flops)
    draws = draws[~np.isnan(draws)]
    if not draws.size:
        return None
    ends = fitted.intervals.get("ratio", (np.nan, np.nan))

    def draw(sheet: Sheet) -> "Figure":
        figure = sheet.blank(330 if sheet.wide else 290)
        axes = figure.add_subplot()
        axes.set_xscale("log")
        sampled = np.log(fitted.domain["ratio"])
        low, high = _window(value, draws, sampled)
        entries = _histogram(axes, sheet, draws, low, high)
        shaded = axes.axvspan(*np.exp(sampled), color=sheet.paint.muted, alpha=0.16, lw=0, zorder=0)
        mark = axes.axvline(np.exp(value), color=sheet.paint.ink, lw=2, zorder=4)
        title = f"D/N = {significant(float(np.exp(value)))}"
        if not low < value < high:
            title += " (beyond the axis)"
        if not np.isnan(ends).any():
            title += f", {fitted.level:.0%} {span(*ends)}"
            _bracket(axes, sheet, ends)
        sheet.dress(axes, x="Optimal tokens per param at the largest budget",
                    y="Share of resamples (%)", grid="y")  # fmt: skip
        within = (float(np.exp(low)), float(np.exp(high)))
        log_ticks(axes.xaxis, counted=False, most=9 if sheet.wide else 5, within=within)
        sheet.key(figure, [(mark, title), *entries, (shaded, "measured D/N")])
        return figure

    alt = "Distribution of the compute-optimal tokens per param over the resamples."
    return Drawing(name="ratio", alt=alt, draw=draw)


def _log_ratios(fitted: Fit, coefficients: Floats, flops: float) -> Floats:
    log_params, log_tokens = fitted.form.log_optimum(
        coefficients, flops, flop_factor=fitted.flop_factor
    )
    with np.errstate(invalid="ignore"):
        return np.asarray(log_tokens - log_params)


def _window(value: float, draws: Floats, sampled: Floats) -> tuple[float, float]:
    """Ends of the axis in ln D/N: nearly all draws, but not what lies absurdly far out."""
    finite = draws[np.isfinite(draws)]
    middle = np.quantile(finite, [0.005, 0.995]) if finite.size else np.array([value])
    far = np.log(WINDOW)
    known = np.append(sampled, np.clip(value, sampled[0] - far, sampled[1] + far))
    low = min(known.min(), max(middle.min(), known.min() - far))
    high = max(known.max(), min(middle.max(), known.max() + far))
    margin = 0.04 * (high - low) + 0.05
    return float(low - margin), float(high + margin)


def _histogram(
    axes: "Axes", sheet: Sheet, draws: Floats, low: float, high: float
) -> "list[tuple[Artist, str]]":
    """Bars over equal steps of ln D/N; what lies beyond an end is one paler bar of its own."""
    finite = draws[np.isfinite(draws)]
    shown = finite[(finite >= low) & (finite <= high)]
    middle = float(np.ptp(np.quantile(shown, [0.05, 0.95]))) if shown.size else 0.0
    bins = round((high - low) / max(middle / BINS, (high - low) / MOST_BINS))
    edges = np.linspace(low, high, max(bins, 1) + 1)
    stub = 0.03 * (high - low)
    heights = np.histogram(shown, edges)[0]
    accent = sheet.paint.accent
    percent = 100 / draws.size
    axes.stairs(heights * percent, np.exp(edges), fill=True, color=accent, alpha=0.7, zorder=2)
    key: list[tuple[Artist, str]] = []
    limits = [low, high]
    for end, side, beyond in ((0, -1, draws < low), (1, 1, draws > high)):
        if not (count := int(beyond.sum())):
            continue
        start = edges[-1 if end else 0] + side * stub / 2
        corner = np.exp(np.sort([start, start + side * stub]))
        bars = axes.bar(corner[0], count * percent, corner[1] - corner[0], align="edge", lw=1,
                        color=accent, alpha=0.35, hatch="///", ec=sheet.paint.card,
                        zorder=2)  # fmt: skip
        limits[end] = float(start + side * 1.5 * stub)
        infinite = int(np.isinf(draws[beyond]).sum())
        words = f"{count * percent:.2g}% {'above' if end else 'below'} the axis"
        words += f", {infinite * percent:.2g}% infinite" if infinite and end else ""
        key.append((bars[0], words))
    axes.set_xlim(*np.exp(limits))
    return key


def _bracket(axes: "Axes", sheet: Sheet, ends: tuple[float, float]) -> None:
    """The interval as a bar along the top, cut at the axis."""
    low, high = axes.get_xlim()
    axes.set_ymargin(0.16)
    axes.autoscale_view(scalex=False)
    inside = np.clip(ends, low, high)
    across = axes.get_xaxis_transform()
    axes.plot(inside, [0.95, 0.95], color=sheet.paint.ink, lw=2, transform=across, zorder=4)
    for end, shown in zip(ends, inside, strict=True):
        if end == shown:
            axes.plot([end, end], [0.93, 0.97], color=sheet.paint.ink, lw=2, transform=across)
