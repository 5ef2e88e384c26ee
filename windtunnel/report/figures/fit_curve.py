"""A law of one input: what it was fitted to, and where it goes."""

from typing import TYPE_CHECKING

import numpy as np

from windtunnel.laws import Fit, Table
from windtunnel.laws.interval import quantiles
from windtunnel.laws.table import Floats
from windtunnel.report.figures.drawing import Drawing
from windtunnel.report.figures.style import COUNTED, DASHED, Style, is_log, log_ticks

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 160
WORDS = {
    "params": "Params",
    "tokens": "Tokens",
    "unique_tokens": "Unique tokens",
    "sunk_tokens": "Sunk tokens",
    "experts": "Experts",
    "flops": "Compute (FLOPs)",
    "loss": "Loss",
    "lr": "Learning rate",
    "batch_tokens": "Batch (tokens per update)",
    "score": "Score",
}


def spell(fitted: Fit, name: str) -> str:
    """An axis title for a column: in the source's spelling where the law's is only a letter."""
    source = fitted.columns.get(name, name)
    return WORDS.get(name) or WORDS.get(source, source)


def counted(fitted: Fit, name: str) -> bool:
    """Whether a column's numbers read as 100k, 1M, 10M."""
    return bool({name, fitted.columns.get(name, name)} & set(COUNTED))


def of_table(fitted: Fit, table: Table) -> Drawing | None:
    """The law through the rows of the table; None where it lacks the columns."""
    name, output = fitted.form.inputs[0], fitted.form.output
    if name not in table or output not in table:
        return None
    return law(fitted, table[name], table[output], what="measured")


def law(
    fitted: Fit,
    x: Floats,
    y: Floats,
    *,
    what: str,
    groups: Floats | None = None,
    behind: "Callable[[Axes, Style], list[tuple[Artist, str]]] | None" = None,
) -> Drawing:
    """The law through points, with the band of the resamples, dashed beyond the points.

    Args:
        fitted: a fit with one input.
        x: inputs of what it was fitted to.
        y: outputs of the same.
        what: the points in a word, for the key.
        groups: a model size per point, for colours.
        behind: draws what the points came from, and names it.
    """
    name, output = fitted.form.inputs[0], fitted.form.output

    def draw(style: Style) -> "Figure":
        from matplotlib.lines import Line2D

        figure = style.blank(430 if style.wide else 340)
        axes = figure.add_subplot()
        grid, inside = _grid(x)
        if is_log(x):
            axes.set_xscale("log")
        curve = fitted.form(grid)
        key = behind(axes, style) if behind is not None else []
        colours = [style.paint.accent] * x.size
        if groups is not None and np.isfinite(groups).all():
            colours = [style.colour(size) for size in groups]
        style.dots(axes, x, y, colours, small=x.size > 60)
        ink = style.paint.ink
        axes.plot(grid, curve, color=ink, lw=1.6, ls=DASHED, zorder=3)
        (line,) = axes.plot(grid[inside], curve[inside], color=ink, lw=2, zorder=3)
        dot = Line2D([], [], color=colours[-1], marker="o", ms=6, mec=style.paint.card, ls="")
        key = [(dot, what), (line, "law, extrapolated where dashed"), *key]
        low, high = _limits(y, curve, inside)
        ends = band(fitted, grid)
        if ends is not None:
            known = np.any(np.isfinite(ends), axis=0).tolist()
            widest = np.nan_to_num(ends, posinf=1e300, neginf=-1e300)
            far = high - low
            shown = np.clip(widest, low - far if low <= 0 else low / 100, high + 100 * far)
            fill = axes.fill_between(
                grid, shown[0], shown[1], where=known, color=ink, alpha=0.15, lw=0
            )
            key.insert(2, (fill, f"{fitted.level:.0%} interval of the law"))
            low, high = _limits(y, np.concatenate([curve, *shown[:, inside]]), None)
        if is_log(np.array([low, high])):
            axes.set_yscale("log")
            low, high = low / 1.15, high * 1.15
        else:
            low, high = low - 0.06 * (high - low), high + 0.06 * (high - low)
        axes.set_xlim(float(grid[0]), float(grid[-1]))
        axes.set_ylim(low, high)
        unit = f" ({fitted.loss_unit})" if output == "loss" and len(fitted.loss_unit) < 25 else ""
        style.dress(axes, x=spell(fitted, name), y=spell(fitted, output) + unit)
        if is_log(x):
            log_ticks(axes.xaxis, counted=counted(fitted, name), most=10 if style.wide else 5)
        if axes.get_yscale() == "log":
            log_ticks(axes.yaxis, counted=counted(fitted, output), most=9)
        style.key(figure, key)
        return figure

    alt = f"{spell(fitted, output)} against {spell(fitted, name)}: {what}, and the fitted law."
    return Drawing(name="law", alt=alt, draw=draw)


def band(fitted: Fit, x: Floats) -> Floats | None:
    """Ends of the law's own interval at x, shape (2, X); None without resamples."""
    if not len(fitted.draws):
        return None
    with np.errstate(all="ignore"):
        values = fitted.form.values(fitted.draws, x[None])
    columns = [column[~np.isnan(column)] for column in values.T]
    return np.array([quantiles(column, fitted.level) for column in columns]).T


def _grid(x: Floats) -> tuple[Floats, Floats]:
    """Where the law is drawn, with the outermost points among it, and which of it lies between.

    In logs a decade beyond the largest input, which is where a law is asked to go.
    """
    low, high = float(x.min()), float(x.max())
    if is_log(x):
        grid = np.geomspace(low / 1.4, high * 10, POINTS)
    else:
        reach = 0.25 * (high - low)
        start = low - reach if low <= 0 else max(low - reach, 0.5 * low)
        grid = np.linspace(start, high + reach, POINTS)
    grid = np.unique(np.concatenate([grid, [low, high]]))
    return grid, np.asarray((grid >= low) & (grid <= high))


def _limits(y: Floats, curve: Floats, inside: Floats | None) -> tuple[float, float]:
    """Lowest and highest of points and law, the law cut where it runs away from the points."""
    low, high = float(y.min()), float(y.max())
    within = curve if inside is None else curve[inside]
    values = np.concatenate([y, within[np.isfinite(within)]])
    low, high = float(values.min()), float(values.max())
    reach = high - low
    finite = curve[np.isfinite(curve)]
    if low > 0 and high / low >= 4:  # in logs: as many decades again at most
        least, most = low * low / high, high * high / low
    else:
        least, most = low - reach, high + reach
    return (
        max(min(low, float(finite.min(initial=low))), least),
        min(max(high, float(finite.max(initial=high))), most),
    )
