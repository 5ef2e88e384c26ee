"""Searches beside each other: loss above the best of each against every searched value."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from windtunnel.findings import Records
from windtunnel.report.figures.canvas import RAMP_LIGHT, ramp_colour
from windtunnel.report.figures.sheet import DASHED, Drawing, Sheet
from windtunnel.report.figures.ticks import log_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 0.3
"""Nats above the best that are shown; worse trials lie on the upper edge."""

MINICPM = {
    "recipe.lr": 0.01,
    "recipe.init_std": 0.1,
    "recipe.scale_emb": 12.0,
    "recipe.scale_depth": 1.4,
}
"""arXiv 2404.06395, appendix A.1; its rate and init std at base width 256."""

RIDGE = ("recipe.scale_emb", "recipe.scale_depth")
"""RMSNorm takes the scale of the residual stream away, and only their ratio is left (derived)."""


def searches(records: Records) -> Drawing:
    """One figure of all numeric axes that every search has, and of the ratio on the ridge."""
    found = records.searches
    axes_names = [
        axis
        for axis in found[0]["space"]
        if all(isinstance(t["values"].get(axis), float) for each in found for t in each["trials"])
    ]
    panels: list[tuple[str, ...]] = [(axis,) for axis in axes_names]
    if set(RIDGE) <= set(axes_names):
        panels.append(RIDGE)
    alt = "Loss of every trial above the best of its search, against each searched value."

    def draw(sheet: Sheet) -> "Figure":
        columns = 3 if sheet.wide else 1
        lines = math.ceil(len(panels) / columns)
        figure = sheet.blank(60 + 230 * lines)
        colours = [ramp_colour(RAMP_LIGHT, 0.25 + 0.75 * k / len(found)) for k in range(len(found))]
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            for search, colour in zip(found, colours, strict=True):
                _dots(sheet, axes, search, panel, colour)
            _dress(sheet, axes, panel)
        for spare in grid.flat[len(panels) :]:
            spare.set_visible(False)
        first = grid.flat[0]
        marks = [first.plot([], [], "o", ms=5, color=colour)[0] for colour in colours]
        names = [f"search to {search['horizon']}" for search in found]
        ring = first.plot([], [], "o", ms=9, mfc="none", mec=sheet.paint.ink, mew=1.3)[0]
        line = first.plot([], [], color=sheet.paint.muted, ls=DASHED)[0]
        entries = [*zip(marks, names, strict=True), (ring, "winner"), (line, "MiniCPM's value")]
        sheet.key(figure, entries)
        return figure

    return Drawing(name="hyperparameter-search", alt=alt, draw=draw)


def _value(trial: dict[str, Any], panel: tuple[str, ...]) -> float:
    values = [float(trial["values"][axis]) for axis in panel]
    return values[0] if len(values) == 1 else values[0] / values[1]


def _dots(
    sheet: Sheet, axes: "Axes", search: dict[str, Any], panel: tuple[str, ...], colour: str
) -> None:
    trials = [each for each in search["trials"] if each["losses"] and each["losses"][-1]]
    losses = np.array([each["losses"][-1] for each in trials])
    above = np.minimum(losses - losses.min(), SHOWN)
    values = np.array([_value(each, panel) for each in trials])
    axes.plot(values, above, "o", ms=4.5, mfc=colour, mec=sheet.paint.card, mew=0.5, alpha=0.8)
    winner = (search["winner"] or {}).get("trial")
    for value, height, trial in zip(values, above, trials, strict=True):
        if trial["trial"] == winner:
            axes.plot(value, height, "o", ms=10, mfc="none", mec=sheet.paint.ink, mew=1.3, zorder=5)
            axes.plot(value, height, "o", ms=5, mfc=colour, mec=sheet.paint.card, zorder=6)


def _dress(sheet: Sheet, axes: "Axes", panel: tuple[str, ...]) -> None:
    known = [MINICPM[axis] for axis in panel if axis in MINICPM]
    if len(known) == len(panel):
        mark = known[0] if len(known) == 1 else known[0] / known[1]
        axes.axvline(mark, color=sheet.paint.muted, ls=DASHED, lw=1.2, zorder=1)
    axes.set_xscale("log")
    log_ticks(axes.xaxis, counted=False, most=4)
    axes.set_ylim(-0.012, SHOWN * 1.03)
    sheet.dress(
        axes,
        x=" / ".join(axis.rpartition(".")[2] for axis in panel),
        y="Above the best (nats per token)",
    )
