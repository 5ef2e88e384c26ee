"""A search in pictures: the loss along every searched axis, and the best so far by compute."""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from statistics import median
from typing import TYPE_CHECKING, Any

from windtunnel.report.figures.canvas import (
    ACCENT,
    CARD,
    INK,
    MUTED,
    NARROW,
    Picture,
    blank,
    dress,
    picture,
)
from windtunnel.report.figures.ticks import log_ticks
from windtunnel.report.inputs import Search
from windtunnel.spec.search import Range
from windtunnel.trials.search import TrialResult
from windtunnel.trials.search_words import field_name, value_text
from windtunnel.trials.winner import NEAR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 5.0
"""Losses up to so many times the median distance from the best set the scale; others lie on it."""


def slices(search: Search) -> Picture | None:
    """A panel an axis, the most important first; None before a trial has a loss."""
    heights = _heights(search)
    if not heights:
        return None
    space = search.outcome.experiment.space
    order = sorted(space, key=lambda axis: -search.importances.get(axis, 0.0))

    def draw(width: int) -> "Figure":
        wide = width > NARROW
        columns = min(len(order), 3 if wide else 1)
        lines = math.ceil(len(order) / columns)
        figure = blank(width, 20 + lines * (250 if wide else 205))
        figure.set_layout_engine(
            "constrained", hspace=0.1 if lines > 1 else 0, wspace=0.05 if columns > 1 else 0
        )
        panels = figure.subplots(lines, columns, squeeze=False, sharey=True)
        for place, (axes, axis) in enumerate(zip(panels.flat, order, strict=False)):
            _panel(axes, search, axis, heights)
            axes.tick_params(labelleft=place % columns == 0)
        for spare in panels.flat[len(order) :]:
            spare.set_visible(False)
        return figure

    name = search.outcome.experiment.name
    return picture(
        f"slices-{name}", f"Loss of every trial of search {name} along {', '.join(order)}.", draw
    )


def above_scale(search: Search) -> int:
    """How many trials the slices show as triangles at their top edge."""
    heights = list(_heights(search).values())
    return sum(1 for height in heights if height > _top(heights))


def best_so_far(search: Search) -> Picture | None:
    """The lowest loss against the FLOPs of all trials up to it; None below two finished trials."""
    outcome = search.outcome
    heights = {r.trial.number: r.value for r in outcome.results if r.value is not None}
    if len(heights) < 2:
        return None
    top = _top(list(heights.values()))
    spent = list(accumulate(outcome.flops))

    def draw(width: int) -> "Figure":
        figure = blank(width, 330 if width > NARROW else 300)
        axes = figure.add_subplot()
        losses = (heights.get(result.trial.number, math.inf) for result in outcome.results)
        lowest = list(accumulate(losses, min))
        first = next(place for place, loss in enumerate(lowest) if math.isfinite(loss))
        axes.step(spent[first:], lowest[first:], where="post", color=INK, linewidth=1.8, zorder=3)
        places = dict(zip((r.trial.number for r in outcome.results), spent, strict=True))
        _dots(axes, search, places, heights, top)
        dress(axes, x="Training FLOPs of the trials so far", y="Loss (nats per token)")
        axes.set_ylim(top=top)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(_flops_tick)
        axes.locator_params(axis="x", nbins=6 if width > NARROW else 4)
        return figure

    name = outcome.experiment.name
    return picture(f"best-{name}", f"Lowest loss of search {name} against compute.", draw)


def _flops_tick(value: float, _: object) -> str:
    from windtunnel.report.numbers import scientific

    return scientific(value)


def _panel(axes: "Axes", search: Search, axis: str, heights: Mapping[int, float]) -> None:
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
    _band(axes, search)
    _dots(axes, search, places, heights, top)
    dress(axes, x="", y="")
    if isinstance(searched, Range) and searched.log:
        log_ticks(axes.xaxis, counted=False, most=4, within=(searched.low, searched.high))
    elif not isinstance(searched, Range):
        axes.set_xticks(range(len(searched)), [value_text(value) for value in searched])
    axes.set_ylim(min(heights.values()) - 0.06 * (top - min(heights.values())), top)
    share = search.importances.get(axis)
    title = field_name(outcome.experiment, axis) + ("" if share is None else f", {share:.0%}")
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=16)


def _band(axes: "Axes", search: Search) -> None:
    """What lies within `NEAR` noise units of the winner, on the seeds of the search."""
    outcome = search.outcome
    if outcome.winner is None or outcome.winner.result.value is None or not outcome.noise:
        return
    half = NEAR * outcome.noise * math.sqrt(2 / len(outcome.experiment.seeds))
    centre = outcome.winner.result.value
    axes.axhspan(centre - half, centre + half, color=ACCENT, alpha=0.16, linewidth=0, zorder=1)


def _dots(
    axes: "Axes",
    search: Search,
    places: Mapping[int, float],
    heights: Mapping[int, float],
    top: float,
) -> None:
    """Finished trials filled, stopped ones hollow, diverged ones crosses at the top edge."""
    outcome = search.outcome
    winner = outcome.winner.result.trial.number if outcome.winner else None
    finalists = {each.result.trial.number for each in outcome.finalists}
    edge: dict[str, Any] = {"clip_on": False, "zorder": 6}
    for result in outcome.results:
        number = result.trial.number
        x, y = places[number], heights.get(number)
        style: dict[str, Any] = {"mfc": MUTED, "mec": CARD, "mew": 0.7, "ms": 6, "zorder": 4}
        if result.outcome == "stopped":
            style |= {"mfc": CARD, "mec": MUTED, "mew": 1.2, "ms": 5.5}
        if number in finalists:
            style |= {"mfc": ACCENT, "ms": 7.5, "zorder": 5}
        if number == winner:
            style |= {"mec": INK, "mew": 2, "ms": 10, "zorder": 5.5}
        if result.outcome == "diverged":
            axes.plot(x, top, "x", color=INK, ms=7, mew=1.8, **edge)
        elif y is not None and y > top:
            axes.plot(x, top, "^", **{**style, "ms": 6.5, **edge})
        elif y is not None:
            axes.plot(x, y, "o", **style)


def _heights(search: Search) -> dict[int, float]:
    """Loss by trial: at the end, or at the last rung of one that was stopped."""
    found = {}
    for result in search.outcome.results:
        loss = _height(result)
        if loss is not None:
            found[result.trial.number] = loss
    return found


def _height(result: TrialResult) -> float | None:
    return result.at[-1] if result.outcome in {"finished", "stopped"} else None


def _top(losses: Sequence[float]) -> float:
    """Where the scale ends: above the highest loss, or below those that lie far off."""
    low, high = min(losses), max(losses)
    reach = max(SHOWN * (median(losses) - low), 1e-3)
    return low + min((high - low) * 1.08, reach) if high > low else low + 0.05


def _spread(number: int) -> float:
    """-1 to 1, evenly spread over the numbers of trials (the golden ratio's fractions)."""
    return 2 * (number * 0.618034 % 1) - 1
