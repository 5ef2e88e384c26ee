"""L(N, D) along every size: the runs, and the law of each size through them.

How sure a fit is of the compute-optimal tokens per parameter: all of its resamples.

The plane of compute and size from above: equal loss, the runs, the compute-optimal size.
"""

from typing import TYPE_CHECKING

import numpy as np

from windtunnel.laws import Fit, Table
from windtunnel.laws.interval import quantiles
from windtunnel.laws.table import Floats
from windtunnel.report.figures.drawing import Drawing
from windtunnel.report.figures.style import DASHED, Style, log_ticks
from windtunnel.report.formatting import significant, span

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CURVES = 9
"""More sizes than this, and only some get a curve and a name; every run still gets its dot."""
CURVE_POINTS = 50
MOST_UNIQUE = 4
"""Curves of one size for as many amounts of unique data; with more, the curve of fresh data."""


def along_sizes(fitted: Fit, table: Table) -> Drawing:
    """Loss against tokens: the runs of each size, and the law of that size through them."""
    sizes = np.unique(table.params)
    shown = representative(sizes, MOST_CURVES)

    def draw(style: Style) -> "Figure":
        from matplotlib.lines import Line2D

        figure = style.blank(490 if style.wide else 360)
        axes = figure.add_subplot()
        axes.set_xscale("log")
        low, high = float(table.tokens.min()) / 1.3, float(table.tokens.max()) * 1.6
        ends = []
        nearest = np.argmin(np.abs(np.log(table.params[:, None] / shown)), axis=1)
        for i, params in enumerate(shown):
            colour = style.colour(params)
            curves = _curves(fitted, table.subset(nearest == i), params, low, high)
            for tokens, loss, (first, last) in curves:
                inside = (tokens >= first) & (tokens <= last)
                axes.plot(tokens, loss, color=colour, lw=1, ls=DASHED, alpha=0.65, zorder=2)
                axes.plot(tokens[inside], loss[inside], color=colour, lw=1.8, zorder=3)
            ends.append(float(curves[-1][1][-1]))
        style.dots(axes, table.tokens, table.loss, style.colours(table), small=table.rows > 120)
        axes.set_xlim(low, high)
        bottom, top = min([float(table.loss.min()), *ends]), float(table.loss.max())
        margin = 0.05 * (top - bottom)
        axes.set_ylim(bottom - margin, top + margin)
        style.dress(axes, x="Tokens", y=f"Loss ({_unit(fitted, style)})")
        log_ticks(axes.xaxis, counted=True, most=9 if style.wide else 5)
        style.names(axes, [style.name(n) for n in shown], np.array(ends),
                    [style.colour(n) for n in shown], title=style.sizes)  # fmt: skip
        line = Line2D([], [], color=style.paint.muted, lw=1.8)
        which = "each size" if len(shown) == sizes.size else f"{len(shown)} of {sizes.size} sizes"
        style.key(figure, [(line, f"law of {which}, dashed beyond its runs")])
        return figure

    return Drawing(
        name="along-sizes",
        alt=f"Loss of {table.rows} runs against tokens, with the fitted law of each model size.",
        draw=draw,
    )


def representative(values: Floats, most: int) -> list[float]:
    """All of the sorted values, or `most` of them, evenly spread in logs."""
    if values.size <= most:
        return [float(value) for value in values]
    wanted = np.geomspace(values[0], values[-1], most)
    nearest = np.argmin(np.abs(np.log(values) - np.log(wanted)[:, None]), axis=1)
    return [float(values[i]) for i in np.unique(nearest)]


def _unit(fitted: Fit, style: Style) -> str:
    """The loss unit; a phrase that tells where it was taken from does not fit above an axis."""
    return fitted.loss_unit if len(fitted.loss_unit) <= (40 if style.wide else 16) else "nats"


def _curves(
    fitted: Fit, rows: Table, params: float, low: float, high: float
) -> list[tuple[Floats, Floats, tuple[float, float]]]:
    """Tokens, loss by the law, and the measured range of tokens: a curve, or one per unique data.

    The last one is the lowest.
    """
    tokens = np.unique(np.append(np.geomspace(low, high, CURVE_POINTS), rows.tokens))
    measured = (float(rows.tokens.min()), float(rows.tokens.max()))
    if len(fitted.form.inputs) == 2:
        return [(tokens, fitted(params, tokens), measured)]
    unique = np.unique(rows["unique_tokens"])
    if unique.size > MOST_UNIQUE:
        return [(tokens, fitted(params, tokens, tokens), measured)]
    out = []
    for amount in unique:
        mine = rows.tokens[rows["unique_tokens"] == amount]
        loss = fitted(params, tokens, np.full_like(tokens, amount))
        out.append((tokens, loss, (float(mine.min()), float(mine.max()))))
    return out


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
    log_params, log_tokens = fitted.splits(flops)
    with np.errstate(invalid="ignore"):
        value, *others = (log_tokens - log_params).tolist()
    draws = np.array(others)
    draws = draws[~np.isnan(draws)]
    if not draws.size:
        return None
    ends = fitted.intervals.get("ratio", (np.nan, np.nan))

    def draw(style: Style) -> "Figure":
        figure = style.blank(330 if style.wide else 290)
        axes = figure.add_subplot()
        axes.set_xscale("log")
        sampled = np.log(fitted.domain["ratio"])
        low, high = _window(value, draws, sampled)
        entries = _histogram(axes, style, draws, low, high)
        shaded = axes.axvspan(*np.exp(sampled), color=style.paint.muted, alpha=0.16, lw=0, zorder=0)
        mark = axes.axvline(np.exp(value), color=style.paint.ink, lw=2, zorder=4)
        title = f"D/N = {significant(float(np.exp(value)))}"
        if not low < value < high:
            title += " (beyond the axis)"
        if not np.isnan(ends).any():
            title += f", {fitted.level:.0%} {span(*ends)}"
            _bracket(axes, style, ends)
        style.dress(axes, x="Optimal tokens per param at the largest budget",
                    y="Share of resamples (%)", grid="y")  # fmt: skip
        within = (float(np.exp(low)), float(np.exp(high)))
        log_ticks(axes.xaxis, counted=False, most=9 if style.wide else 5, within=within)
        style.key(figure, [(mark, title), *entries, (shaded, "measured D/N")])
        return figure

    alt = "Distribution of the compute-optimal tokens per param over the resamples."
    return Drawing(name="ratio", alt=alt, draw=draw)


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
    axes: "Axes", style: Style, draws: Floats, low: float, high: float
) -> "list[tuple[Artist, str]]":
    """Bars over equal steps of ln D/N; what lies beyond an end is one paler bar of its own."""
    finite = draws[np.isfinite(draws)]
    shown = finite[(finite >= low) & (finite <= high)]
    middle = float(np.ptp(np.quantile(shown, [0.05, 0.95]))) if shown.size else 0.0
    bins = round((high - low) / max(middle / BINS, (high - low) / MOST_BINS))
    edges = np.linspace(low, high, max(bins, 1) + 1)
    stub = 0.03 * (high - low)
    heights = np.histogram(shown, edges)[0]
    accent = style.paint.accent
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
                        color=accent, alpha=0.35, hatch="///", ec=style.paint.card,
                        zorder=2)  # fmt: skip
        limits[end] = float(start + side * 1.5 * stub)
        infinite = int(np.isinf(draws[beyond]).sum())
        words = f"{count * percent:.2g}% {'above' if end else 'below'} the axis"
        words += f", {infinite * percent:.2g}% infinite" if infinite and end else ""
        key.append((bars[0], words))
    axes.set_xlim(*np.exp(limits))
    return key


def _bracket(axes: "Axes", style: Style, ends: tuple[float, float]) -> None:
    """The interval as a bar along the top, cut at the axis."""
    low, high = axes.get_xlim()
    axes.set_ymargin(0.16)
    axes.autoscale_view(scalex=False)
    inside = np.clip(ends, low, high)
    across = axes.get_xaxis_transform()
    axes.plot(inside, [0.95, 0.95], color=style.paint.ink, lw=2, transform=across, zorder=4)
    for end, shown in zip(ends, inside, strict=True):
        if end == shown:
            axes.plot([end, end], [0.93, 0.97], color=style.paint.ink, lw=2, transform=across)


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
    low, high = fitted.domain["flops"]
    flops = np.geomspace(low / 2, high * 1.3 * 10**DECADES_BEYOND, GRID)
    best = _optimal(fitted, flops) if fitted.has_optimum else None

    def draw(style: Style) -> "Figure":
        figure = style.blank(520 if style.wide else 380)
        axes = figure.add_subplot()
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(float(flops[0]), float(flops[-1]))
        bottom, top = _heights(fitted, best, flops)
        axes.set_ylim(bottom, top)
        params = np.geomspace(bottom, top, GRID)
        _levels(axes, style, fitted, flops=flops, params=params, best=best)
        hull = _hull(np.log(np.stack([table.budget, table.params], axis=1)))
        region = axes.fill(*np.exp(hull).T, color=style.paint.accent, alpha=0.1, lw=0, zorder=1)[0]
        key: list[tuple[Artist, str]] = [(region, "measured")]
        if best is not None:
            key = [*_frontier(axes, style, fitted, flops, best), *key]
        style.dots(axes, table.budget, table.params, style.colours(table), small=True)
        style.dress(axes, x=f"Compute {fitted.flop_rule} (FLOPs)", y="Params")
        axes.grid(visible=False)
        log_ticks(axes.xaxis, counted=False, most=10 if style.wide else 5)
        log_ticks(axes.yaxis, counted=True, most=10)
        style.key(figure, key)
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
    log_params, _ = fitted.splits(flops)
    out = []
    for value, *draws in log_params.T:
        known = np.array(draws)
        out.append([value, *quantiles(known[~np.isnan(known)], fitted.level)])
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
    return fitted(params, tokens, *[tokens] * (len(fitted.form.inputs) - 2))


def _levels(
    axes: "Axes", style: Style, fitted: Fit, *, flops: Floats, params: Floats, best: Floats | None
) -> None:
    """Lines of equal loss, those of the lowest loss at evenly spaced budgets, named in place.

    Where the optimum lies outside the plane, quantiles of the loss in it.
    """
    loss = _loss(fitted, flops[None, :], params[:, None])
    wanted = CONTOURS if style.wide else CONTOURS_NARROW
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
        colors=[style.paint.muted], linewidths=0.8, alpha=0.55, zorder=1.5,
    )  # fmt: skip
    places = _places(flops, params, loss=loss, levels=np.asarray(lines.levels), best=best)
    named = axes.clabel(lines, fontsize=10, fmt=f"%.{digits}f", inline_spacing=3,
                        manual=places or False)  # fmt: skip
    for text in named:
        text.set_color(style.paint.muted)
        text.set_alpha(1.0)


def _places(
    flops: Floats, params: Floats, *, loss: Floats, levels: Floats, best: Floats | None
) -> list[tuple[float, float]]:
    """Where each line is named: above the frontier and the runs, or below it where that is near."""
    if best is None:
        return []
    lowest, best_params = loss.min(axis=0), np.maximum(best[0], params[0])
    out = []
    for level in levels:
        at = np.interp(-level, -lowest, np.arange(flops.size))
        optimal = float(np.exp(np.interp(at, np.arange(flops.size), np.log(best_params))))
        room = np.log(params[-1] / optimal)
        where = optimal * np.exp(0.72 * room if room > ROOM else 0.5 * np.log(params[0] / optimal))
        row = int(np.argmin(np.abs(np.log(params / where))))
        log_flops = np.interp(-level, -loss[row], np.log(flops))
        if np.log(flops[0]) + ROOM < log_flops < np.log(flops[-1]) - ROOM:
            out.append((float(np.exp(log_flops)), float(params[row])))
    return out


def _frontier(
    axes: "Axes", style: Style, fitted: Fit, flops: Floats, best: Floats
) -> list[tuple["Artist", str]]:
    """The optimal size with its band; dashed beyond the measured budgets."""
    low, high = fitted.domain["flops"]
    ink = style.paint.ink
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
