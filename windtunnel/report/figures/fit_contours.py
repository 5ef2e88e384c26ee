"""The plane of compute and size from above: equal loss, the runs, the compute-optimal size."""

from typing import TYPE_CHECKING

import numpy as np

from windtunnel.laws import Fit, Table
from windtunnel.laws.interval import quantiles
from windtunnel.laws.table import Floats
from windtunnel.report.figures.sheet import DASHED, Drawing, Sheet
from windtunnel.report.figures.ticks import log_ticks

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DECADES_BEYOND = 1.0
"""How far past the largest budget the plane reaches."""
CONTOURS, CONTOURS_NARROW = 12, 7
GRID = 70
ROOM = 0.4
"""In ln params or FLOPs: what a number on a line needs."""
REACH = 30.0
"""The plane ends at the latest at this factor beyond the sizes that were measured."""


def contours(fitted: Fit, table: Table) -> Drawing:
    """Equal loss over compute and size, the runs, and the compute-optimal size with its band."""

    def draw(sheet: Sheet) -> "Figure":
        figure = sheet.blank(520 if sheet.wide else 380)
        axes = figure.add_subplot()
        axes.set_xscale("log")
        axes.set_yscale("log")
        low, high = fitted.domain["flops"]
        flops = np.geomspace(low / 2, high * 1.3 * 10**DECADES_BEYOND, GRID)
        best = _optimal(fitted, flops) if fitted.has_optimum else None
        axes.set_xlim(float(flops[0]), float(flops[-1]))
        bottom, top = _heights(fitted, best, flops)
        axes.set_ylim(bottom, top)
        params = np.geomspace(bottom, top, GRID)
        _levels(axes, sheet, fitted, flops=flops, params=params, best=best)
        hull = _hull(np.log(np.stack([table.budget, table.params], axis=1)))
        region = axes.fill(*np.exp(hull).T, color=sheet.paint.accent, alpha=0.1, lw=0, zorder=1)[0]
        key: list[tuple[Artist, str]] = [(region, "measured")]
        if best is not None:
            key = [*_frontier(axes, sheet, fitted, flops, best), *key]
        sheet.dots(axes, table.budget, table.params, sheet.colours(table), small=True)
        sheet.dress(axes, x=f"Compute {fitted.flop_rule} (FLOPs)", y="Params")
        axes.grid(visible=False)
        log_ticks(axes.xaxis, counted=False, most=10 if sheet.wide else 5)
        log_ticks(axes.yaxis, counted=True, most=10)
        sheet.key(figure, key)
        return figure

    words = " and the compute-optimal size" if fitted.has_optimum else ""
    return Drawing(
        name="contours",
        alt=f"Lines of equal loss over compute and model size, the runs{words}.",
        draw=draw,
    )


def _optimal(fitted: Fit, flops: Floats) -> Floats:
    """Optimal params at each budget: the law's, and the ends of its interval, shape (3, C).

    Without intervals the ends are nan.
    """
    out = []
    coefficients = np.concatenate([fitted.form.vector[None], fitted.draws])
    for budget in flops:
        log_params, _ = fitted.form.log_optimum(
            coefficients, float(budget), flop_factor=fitted.flop_factor
        )
        known = log_params[1:][~np.isnan(log_params[1:])]
        out.append([float(log_params[0]), *quantiles(known, fitted.level)])
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(np.array(out)).T)


def _heights(fitted: Fit, best: Floats | None, flops: Floats) -> tuple[float, float]:
    """Smallest and largest params of the plane: of the runs, and of the optimum within reason."""
    low, high = fitted.domain["params"]
    values = np.array([low, high])
    if best is not None:
        measured = (flops >= fitted.domain["flops"][0]) & (flops <= fitted.domain["flops"][1])
        values = np.concatenate([values, best[0], *best[1:, measured]])
    values = np.clip(values[np.isfinite(values)], low / REACH, high * REACH)
    return float(values.min()) / 1.5, float(values.max()) * 1.5


def _loss(fitted: Fit, flops: Floats, params: Floats) -> Floats:
    """By the law, every token fresh."""
    tokens = flops / fitted.flop_factor / params
    return np.asarray(fitted.form(params, tokens, *[tokens] * (len(fitted.form.inputs) - 2)))


def _levels(
    axes: "Axes", sheet: Sheet, fitted: Fit, *, flops: Floats, params: Floats, best: Floats | None
) -> None:
    """Lines of equal loss, those of the lowest loss at evenly spaced budgets, named in place.

    Where the optimum lies outside the plane, quantiles of the loss in it.
    """
    loss = _loss(fitted, flops[None, :], params[:, None])
    wanted = CONTOURS if sheet.wide else CONTOURS_NARROW
    levels = np.quantile(loss, np.linspace(0.05, 0.9, wanted))
    if best is not None and np.any((best[0] > params[0]) & (best[0] < params[-1])):
        at = np.geomspace(flops[0], flops[-1], wanted + 2)[1:-1]
        levels = _loss(fitted, at, np.interp(at, flops, best[0]))
    levels = np.unique(np.round(levels, 4))
    if levels.size < 2 or not np.isfinite(levels).all():
        return
    digits = 2 if np.min(np.diff(levels)) >= 0.015 else 3
    lines = axes.contour(
        flops, params, loss, levels=np.unique(np.round(levels, digits)),
        colors=[sheet.paint.muted], linewidths=0.8, alpha=0.55, zorder=1.5,
    )  # fmt: skip
    places = _places(flops, params, loss=loss, levels=np.asarray(lines.levels), best=best)
    named = axes.clabel(lines, fontsize=10, fmt=f"%.{digits}f", inline_spacing=3,
                        manual=places or False)  # fmt: skip
    for text in named:
        text.set_color(sheet.paint.muted)
        text.set_alpha(1.0)


def _places(
    flops: Floats, params: Floats, *, loss: Floats, levels: Floats, best: Floats | None
) -> list[tuple[float, float]]:
    """Where each line is named: above the frontier and the runs, or below it where that is near."""
    if best is None:
        return []
    lowest = loss.min(axis=0)
    out = []
    for level in levels:
        at = np.interp(-level, -lowest, np.arange(flops.size))
        optimal = float(np.exp(np.interp(at, np.arange(flops.size), np.log(best[0]))))
        room = np.log(params[-1] / optimal)
        where = optimal * np.exp(0.72 * room if room > ROOM else 0.5 * np.log(params[0] / optimal))
        row = int(np.argmin(np.abs(np.log(params / where))))
        log_flops = np.interp(-level, -loss[row], np.log(flops))
        if np.log(flops[0]) + ROOM < log_flops < np.log(flops[-1]) - ROOM:
            out.append((float(np.exp(log_flops)), float(params[row])))
    return out


def _frontier(
    axes: "Axes", sheet: Sheet, fitted: Fit, flops: Floats, best: Floats
) -> list[tuple["Artist", str]]:
    """The optimal size with its band; dashed beyond the measured budgets."""
    low, high = fitted.domain["flops"]
    ink = sheet.paint.ink
    inside = (flops >= low) & (flops <= high)
    axes.plot(flops, best[0], color=ink, lw=1.6, ls=DASHED, zorder=3)
    (line,) = axes.plot(flops[inside], best[0][inside], color=ink, lw=2.2, zorder=3)
    entries: list[tuple[Artist, str]] = [(line, "compute-optimal, dashed beyond the runs")]
    if not np.isnan(best[1:]).any():
        bottom, top = axes.get_ylim()
        ends = np.clip(best[1:], bottom / 10, top * 10)
        band = axes.fill_between(flops, *ends, color=ink, alpha=0.15, lw=0, zorder=1.8)
        entries.append((band, f"{fitted.level:.0%} interval"))
    return entries


def _hull(points: Floats) -> Floats:
    """Corners (H, 2) of the convex hull of points (R, 2), by Andrew's monotone chain."""
    ordered = np.unique(points, axis=0)
    halves = []
    for sequence in (ordered, ordered[::-1]):
        chain: list[Floats] = []
        for point in sequence:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        halves.append(chain[:-1] or chain)
    return np.array([*halves[0], *halves[1]])


def _turn(first: Floats, second: Floats, third: Floats) -> float:
    """Above 0 for a left turn."""
    a, b = second - first, third - second
    return float(a[0] * b[1] - a[1] * b[0])
