"""L(N, D) along every size: the runs, and the law of each size through them."""

from typing import TYPE_CHECKING

import numpy as np

from windtunnel.laws import Fit, Table
from windtunnel.laws.table import Floats
from windtunnel.report.figures.sheet import DASHED, Drawing, Sheet
from windtunnel.report.figures.ticks import log_ticks

if TYPE_CHECKING:
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

    def draw(sheet: Sheet) -> "Figure":
        from matplotlib.lines import Line2D

        figure = sheet.blank(490 if sheet.wide else 360)
        axes = figure.add_subplot()
        axes.set_xscale("log")
        low, high = float(table.tokens.min()) / 1.3, float(table.tokens.max()) * 1.6
        ends = []
        nearest = np.argmin(np.abs(np.log(table.params[:, None] / shown)), axis=1)
        for i, params in enumerate(shown):
            colour = sheet.colour(params)
            curves = _curves(fitted, table.subset(nearest == i), params, low, high)
            for tokens, loss, (first, last) in curves:
                inside = (tokens >= first) & (tokens <= last)
                axes.plot(tokens, loss, color=colour, lw=1, ls=DASHED, alpha=0.65, zorder=2)
                axes.plot(tokens[inside], loss[inside], color=colour, lw=1.8, zorder=3)
            ends.append(float(curves[-1][1][-1]))
        sheet.dots(axes, table.tokens, table.loss, sheet.colours(table), small=table.rows > 120)
        axes.set_xlim(low, high)
        bottom, top = min([float(table.loss.min()), *ends]), float(table.loss.max())
        margin = 0.05 * (top - bottom)
        axes.set_ylim(bottom - margin, top + margin)
        sheet.dress(axes, x="Tokens", y=f"Loss ({_unit(fitted, sheet)})")
        log_ticks(axes.xaxis, counted=True, most=9 if sheet.wide else 5)
        sheet.names(axes, [sheet.name(n) for n in shown], np.array(ends),
                    [sheet.colour(n) for n in shown], title=sheet.sizes)  # fmt: skip
        line = Line2D([], [], color=sheet.paint.muted, lw=1.8)
        which = "each size" if len(shown) == sizes.size else f"{len(shown)} of {sizes.size} sizes"
        sheet.key(figure, [(line, f"law of {which}, dashed beyond its runs")])
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


def _unit(fitted: Fit, sheet: Sheet) -> str:
    """The loss unit; a phrase that tells where it was taken from does not fit above an axis."""
    return fitted.loss_unit if len(fitted.loss_unit) <= (40 if sheet.wide else 16) else "nats"


def _curves(
    fitted: Fit, rows: Table, params: float, low: float, high: float
) -> list[tuple[Floats, Floats, tuple[float, float]]]:
    """Tokens, loss by the law, and the measured range of tokens: a curve, or one per unique data.

    The last one is the lowest.
    """
    tokens = np.unique(np.append(np.geomspace(low, high, CURVE_POINTS), rows.tokens))
    measured = (float(rows.tokens.min()), float(rows.tokens.max()))
    if len(fitted.form.inputs) == 2:
        return [(tokens, fitted.form(params, tokens), measured)]
    unique = np.unique(rows["unique_tokens"])
    if unique.size > MOST_UNIQUE:
        return [(tokens, fitted.form(params, tokens, tokens), measured)]
    out = []
    for amount in unique:
        mine = rows.tokens[rows["unique_tokens"] == amount]
        loss = fitted.form(params, tokens, np.full_like(tokens, amount))
        out.append((tokens, loss, (float(mine.min()), float(mine.max()))))
    return out
