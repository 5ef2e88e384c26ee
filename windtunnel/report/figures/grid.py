"""A grid along its first numeric axis: how much each value costs each size. The transfer figure."""

from typing import TYPE_CHECKING

from windtunnel.report.figures.canvas import (
    CARD,
    NARROW,
    Picture,
    blank,
    dress,
    picture,
    size_colour,
)
from windtunnel.report.inputs import Grid, GridCell, ReportInputs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOG_FROM = 4.0
"""Largest over smallest value from which an axis is logarithmic."""


def along_axis(inputs: ReportInputs, grid: Grid) -> Picture | None:
    """The figure for the last horizon; None without a numeric axis of two values or a loss."""
    axis = next((a for a in grid.axes if len(_values(grid, a)) > 1), None)
    last = grid.cells[-1].horizon if grid.cells else ""
    cells = [cell for cell in grid.cells if cell.horizon == last and cell.losses]
    if axis is None or not cells:
        return None

    def draw(width: int) -> "Figure":
        figure = blank(width, 360 if width > NARROW else 320)
        axes = figure.add_subplot()
        for params, size in inputs.sizes.items():
            mine = [cell for cell in cells if cell.size == size]
            if mine:
                colour = size_colour(list(inputs.sizes).index(params))
                _line(axes, grid, mine, axis=axis, colour=colour)
        values = _values(grid, axis)
        if min(values) > 0 and max(values) / min(values) >= LOG_FROM:
            axes.set_xscale("log")
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.minorticks_off()
        axes.margins(x=0.08)
        dress(axes, x=axis, y="Above the best of its size (nats per token)"
              if width > NARROW else "Above the best (nats)")  # fmt: skip
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        return figure

    return picture(
        f"grid-{grid.experiment}",
        f"Loss above the best of each size along {axis}, at horizon {last}.",
        draw,
    )


def _values(grid: Grid, axis: str) -> list[float]:
    """Values of an axis in order; none where they are words."""
    place = grid.axes.index(axis)
    try:
        return sorted({float(cell.values[place]) for cell in grid.cells})
    except ValueError:
        return []


def _line(axes: "Axes", grid: Grid, cells: list[GridCell], *, axis: str, colour: str) -> None:
    """The best over the other axes at every value; dots are its seeds."""
    place, size = grid.axes.index(axis), cells[0].size
    best = grid.best(size, cells[0].horizon)
    found: dict[float, GridCell] = {}
    for cell in cells:
        value = float(cell.values[place])
        if value not in found or cell.mean < found[value].mean:
            found[value] = cell
    values = sorted(found)
    axes.plot(values, [found[v].mean - best for v in values], color=colour, linewidth=1.8)
    for value in values:
        losses = found[value].losses
        axes.plot([value] * len(losses), [loss - best for loss in losses], "o",
                  markersize=6, mfc=colour, mec=CARD, mew=0.7)  # fmt: skip
    axes.annotate(
        size.replace("x", "×"),
        (values[-1], found[values[-1]].mean - best),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        fontsize=11,
        fontweight="bold",
        color=colour,
    )
