"""A grid along its first numeric axis: how much each value costs each size. The transfer figure.

Searches beside each other: loss above the best of each against every searched value.

A search in pictures: the loss along every searched axis, and the best so far by compute.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from windtunnel.config.search import Range
from windtunnel.findings import Records
from windtunnel.report.figures.drawing import Drawing
from windtunnel.report.figures.style import (
    DASHED,
    Style,
    grid_place,
    log_ticks,
    tip,
)
from windtunnel.report.formatting import LARGE, loss, run_tip, short, typeset
from windtunnel.report.inputs import Grid, GridCell, ReportInputs, Search
from windtunnel.runs.search.summary import field_name, value_text
from windtunnel.runs.search.trials import TrialResult
from windtunnel.runs.search.winner import NEAR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOG_FROM = 4.0
"""Largest over smallest value from which an axis is logarithmic."""


def along_axis(inputs: ReportInputs, grid: Grid) -> Drawing | None:
    """The figure for the last horizon; None without a numeric axis of two values or a loss."""
    axis = next((a for a in grid.axes if len(_values(grid, a)) > 1), None)
    last = grid.cells[-1].horizon if grid.cells else ""
    cells = [cell for cell in grid.cells if cell.horizon == last and cell.losses]
    if axis is None or not cells:
        return None

    def draw(style: Style) -> "Figure":
        figure = style.blank(360 if style.wide else 320)
        axes = figure.add_subplot()
        for params, size in inputs.sizes.items():
            mine = [cell for cell in cells if cell.size == size]
            if mine:
                _line(axes, style, grid, mine, axis=axis, params=params)
        values = _values(grid, axis)
        if min(values) > 0 and max(values) / min(values) >= LOG_FROM:
            axes.set_xscale("log")
        counted = axis.endswith("tokens") and min(values) >= LARGE
        write = short if counted else "{:g}".format
        axes.set_xticks(values, [write(value) for value in values])
        axes.minorticks_off()
        axes.margins(x=0.08)
        style.dress(axes, x=axis, y="Above the best of its size (nats per token)"
                    if style.wide else "Above the best (nats)")  # fmt: skip
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        return figure

    alt = f"Loss above the best of each size along {axis}, at horizon {last}."
    return Drawing(name="grid", alt=alt, draw=draw)


def _values(grid: Grid, axis: str) -> list[float]:
    """Values of an axis in order; none where they are words."""
    place = grid.axes.index(axis)
    try:
        return sorted({float(cell.values[place]) for cell in grid.cells})
    except ValueError:
        return []


def _line(
    axes: "Axes", style: Style, grid: Grid, cells: list[GridCell], *, axis: str, params: int
) -> None:
    """The best over the other axes at every value; dots are its seeds."""
    place, colour = grid.axes.index(axis), style.colour(params)
    best = grid.best(cells[0].size, cells[0].horizon)
    found: dict[float, GridCell] = {}
    for cell in cells:
        value = float(cell.values[place])
        if value not in found or cell.mean < found[value].mean:
            found[value] = cell
    values = sorted(found)
    axes.plot(values, [found[v].mean - best for v in values], color=colour, linewidth=1.8)
    for value in values:
        cell = found[value]
        (dots,) = axes.plot([value] * len(cell.losses), [each - best for each in cell.losses], "o",
                            markersize=6, mfc=colour, mec=style.paint.card, mew=0.7)  # fmt: skip
        tip(dots, [run_tip(run) for run in cell.runs])
    axes.annotate(
        style.name(params),
        (values[-1], found[values[-1]].mean - best),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        fontsize=11,
        fontweight="bold",
        color=colour,
    )


NATS_SHOWN = 0.3
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

    def draw(style: Style) -> "Figure":
        figure, grid = style.panels(len(panels), across=3, height=(230, 230), margin=60)
        colours = [style.along(0.25 + 0.75 * k / len(found)) for k in range(len(found))]
        for axes, panel in zip(grid, panels, strict=True):
            for search, colour in zip(found, colours, strict=True):
                _trial_dots(style, axes, search, panel, colour)
            _dress(style, axes, panel)
        first = grid[0]
        marks = [first.plot([], [], "o", ms=5, color=colour)[0] for colour in colours]
        names = [f"search to {search['horizon']}" for search in found]
        ring = first.plot([], [], "o", ms=9, mfc="none", mec=style.paint.ink, mew=1.3)[0]
        line = first.plot([], [], color=style.paint.muted, ls=DASHED)[0]
        entries = [*zip(marks, names, strict=True), (ring, "winner"), (line, "MiniCPM's value")]
        style.key(figure, entries)
        return figure

    return Drawing(name="hyperparameter-search", alt=alt, draw=draw)


def _value(trial: dict[str, Any], panel: tuple[str, ...]) -> float:
    values = [float(trial["values"][axis]) for axis in panel]
    return values[0] if len(values) == 1 else values[0] / values[1]


def _trial_dots(
    style: Style, axes: "Axes", search: dict[str, Any], panel: tuple[str, ...], colour: str
) -> None:
    trials = [each for each in search["trials"] if each["losses"] and each["losses"][-1]]
    losses = np.array([each["losses"][-1] for each in trials])
    above = np.minimum(losses - losses.min(), NATS_SHOWN)
    values = np.array([_value(each, panel) for each in trials])
    axes.plot(values, above, "o", ms=4.5, mfc=colour, mec=style.paint.card, mew=0.5, alpha=0.8)
    winner = (search["winner"] or {}).get("trial")
    for value, height, trial in zip(values, above, trials, strict=True):
        if trial["trial"] == winner:
            axes.plot(value, height, "o", ms=10, mfc="none", mec=style.paint.ink, mew=1.3, zorder=5)
            axes.plot(value, height, "o", ms=5, mfc=colour, mec=style.paint.card, zorder=6)


def _dress(style: Style, axes: "Axes", panel: tuple[str, ...]) -> None:
    known = [MINICPM[axis] for axis in panel if axis in MINICPM]
    if len(known) == len(panel):
        mark = known[0] if len(known) == 1 else known[0] / known[1]
        axes.axvline(mark, color=style.paint.muted, ls=DASHED, lw=1.2, zorder=1)
    axes.set_xscale("log")
    log_ticks(axes.xaxis, counted=False, most=4)
    axes.set_ylim(-0.012, NATS_SHOWN * 1.03)
    style.dress(
        axes,
        x=" / ".join(axis.rpartition(".")[2] for axis in panel),
        y="Above the best (nats per token)",
    )


MEDIANS_SHOWN = 5.0
"""Losses up to so many times the median distance from the best set the scale; others lie on it."""


def slices(search: Search) -> Drawing | None:
    """A panel an axis, the most important first; None before a trial has a loss."""
    heights = _heights(search)
    if not heights:
        return None
    space = search.outcome.experiment.space
    order = sorted(space, key=lambda axis: -search.importances.get(axis, 0.0))

    def draw(style: Style) -> "Figure":
        figure, panels = style.panels(
            len(order), across=3, height=(210, 205), margin=20, sharey=True
        )
        figure.set_layout_engine("constrained", hspace=0.1, wspace=0.05)
        for axes, axis in zip(panels, order, strict=True):
            _panel(axes, style, search, axis, heights)
            axes.tick_params(labelleft=grid_place(axes).is_first_col())
        return figure

    name = search.outcome.experiment.name
    alt = f"Loss of every trial of search {name} along {', '.join(order)}."
    return Drawing(name="slices", alt=alt, draw=draw)


def above_scale(search: Search) -> int:
    """How many trials the slices show as triangles at their top edge."""
    heights = list(_heights(search).values())
    return sum(1 for height in heights if height > _top(heights))


def best_so_far(search: Search) -> Drawing | None:
    """The lowest loss against the FLOPs of all trials up to it; None below two finished trials."""
    outcome = search.outcome
    heights = {r.trial.number: r.value for r in outcome.results if r.value is not None}
    if len(heights) < 2:
        return None
    top = _top(list(heights.values()))
    spent = list(accumulate(outcome.flops))

    def draw(style: Style) -> "Figure":
        figure = style.blank(330 if style.wide else 300)
        axes = figure.add_subplot()
        losses = (heights.get(result.trial.number, math.inf) for result in outcome.results)
        lowest = list(accumulate(losses, min))
        first = next(place for place, least in enumerate(lowest) if math.isfinite(least))
        axes.step(spent[first:], lowest[first:], where="post", color=style.paint.ink,
                  linewidth=1.8, zorder=3)  # fmt: skip
        places = dict(zip((r.trial.number for r in outcome.results), spent, strict=True))
        _dots(axes, style, search, places, heights, top=top)
        style.dress(axes, x="Training FLOPs of the trials so far", y="Loss (nats per token)")
        axes.set_ylim(top=top)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(_flops_tick)
        axes.locator_params(axis="x", nbins=6 if style.wide else 4)
        return figure

    alt = f"Lowest loss of search {outcome.experiment.name} against compute."
    return Drawing(name="best", alt=alt, draw=draw)


def _flops_tick(value: float, _: object) -> str:
    from windtunnel.report.formatting import scientific

    return scientific(value)


def _panel(
    axes: "Axes", style: Style, search: Search, axis: str, heights: Mapping[int, float]
) -> None:
    outcome, searched = search.outcome, search.outcome.experiment.space[axis]
    results = outcome.results
    if isinstance(searched, Range):
        places = {r.trial.number: float(r.trial.values[axis]) for r in results}
        if searched.log:
            axes.set_xscale("log")
        reach = 0.04
        axes.set_xlim(searched.value(-reach), searched.value(1 + reach))
    else:
        # Beside each other, for equal values would hide one another.
        places = {
            r.trial.number: searched.index(r.trial.values[axis]) + 0.25 * _spread(r.trial.number)
            for r in results
        }
        axes.set_xlim(-0.5, len(searched) - 0.5)
    top = _top(list(heights.values()))
    _band(axes, style, search)
    _dots(axes, style, search, places, heights, top=top)
    style.dress(axes, x="", y="")
    if isinstance(searched, Range) and searched.log:
        log_ticks(axes.xaxis, counted=False, most=4, within=(searched.low, searched.high))
    elif not isinstance(searched, Range):
        axes.set_xticks(range(len(searched)), [value_text(value) for value in searched])
    axes.set_ylim(min(heights.values()) - 0.06 * (top - min(heights.values())), top)
    share = search.importances.get(axis)
    title = field_name(outcome.experiment, axis) + ("" if share is None else f", {share:.0%}")
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=style.paint.ink, pad=16)


def _band(axes: "Axes", style: Style, search: Search) -> None:
    """What lies within `NEAR` noise units of the winner, on the seeds of the search."""
    outcome = search.outcome
    if outcome.winner is None or outcome.winner.result.value is None or not outcome.noise:
        return
    half = NEAR * outcome.noise * math.sqrt(2 / len(outcome.experiment.seeds))
    centre = outcome.winner.result.value
    accent = style.paint.accent
    axes.axhspan(centre - half, centre + half, color=accent, alpha=0.16, linewidth=0, zorder=1)


def _dots(
    axes: "Axes",
    style: Style,
    search: Search,
    places: Mapping[int, float],
    heights: Mapping[int, float],
    *,
    top: float,
) -> None:
    """Finished trials filled, stopped ones hollow, diverged ones crosses at the top edge."""
    outcome = search.outcome
    winner = outcome.winner.result.trial.number if outcome.winner else None
    finalists = {each.result.trial.number for each in outcome.finalists}
    edge: dict[str, Any] = {"clip_on": False, "zorder": 6}
    paint = style.paint
    for result in outcome.results:
        number = result.trial.number
        x, y = places[number], heights.get(number)
        look: dict[str, Any] = {"mfc": paint.muted, "mec": paint.card, "mew": 0.7, "ms": 6}
        look["zorder"] = 4
        if result.outcome == "stopped":
            look |= {"mfc": paint.card, "mec": paint.muted, "mew": 1.2, "ms": 5.5}
        if number in finalists:
            look |= {"mfc": paint.accent, "ms": 7.5, "zorder": 5}
        if number == winner:
            look |= {"mec": paint.ink, "mew": 2, "ms": 10, "zorder": 5.5}
        marks = []
        if result.outcome == "diverged":
            marks = axes.plot(x, top, "x", color=paint.ink, ms=7, mew=1.8, **edge)
        elif y is not None and y > top:
            marks = axes.plot(x, top, "^", **{**look, "ms": 6.5, **edge})
        elif y is not None:
            marks = axes.plot(x, y, "o", **look)
        for mark in marks:
            tip(mark, [_trial_tip(search, result)])


def _trial_tip(search: Search, result: TrialResult) -> str:
    """The tooltip of a trial: its number, its run, its values, and its loss."""
    experiment, values = search.outcome.experiment, result.trial.values
    seeds = " and ".join(str(seed) for seed in experiment.seeds)
    where = f"{search.size.replace('x', '×')}, seed {seeds}, {typeset(str(experiment.horizon))}"
    given = ", ".join(
        f"{field_name(experiment, axis)} {value_text(value)}" for axis, value in values.items()
    )
    height = _height(result)
    ended = result.outcome if height is None else f"loss {loss(height)}"
    return f"trial {result.trial.number}, {where}, {given}: {ended}"


def _heights(search: Search) -> dict[int, float]:
    """Loss by trial: at the end, or at the last rung of one that was stopped."""
    found = {}
    for result in search.outcome.results:
        height = _height(result)
        if height is not None:
            found[result.trial.number] = height
    return found


def _height(result: TrialResult) -> float | None:
    return result.at[-1] if result.outcome in {"finished", "stopped"} else None


def _top(losses: Sequence[float]) -> float:
    """Where the scale ends: above the highest loss, or below those that lie far off."""
    low, high = min(losses), max(losses)
    reach = max(MEDIANS_SHOWN * (median(losses) - low), 1e-3)
    return low + min((high - low) * 1.08, reach) if high > low else low + 0.05


def _spread(number: int) -> float:
    """-1 to 1, evenly spread over the numbers of trials (the golden ratio's fractions)."""
    return 2 * (number * 0.618034 % 1) - 1
