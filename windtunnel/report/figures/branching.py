"""Ways to leave a trunk: one set's loss against the other's, or a panel for each set."""

import re
from typing import TYPE_CHECKING

import numpy as np

from windtunnel.findings.branching import BranchFinding
from windtunnel.findings.ways import Way
from windtunnel.laws import Interval
from windtunnel.report.figures.beside import Obstacle, names_beside
from windtunnel.report.figures.canvas import short
from windtunnel.report.figures.sheet import DASHED, Drawing, Sheet

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def drawings(finding: BranchFinding) -> list[Drawing]:
    """One figure: the frontier of two sets, or what each variant gains on each set."""
    return [_frontier(finding) if len(finding.sets) == 2 else _panels(finding)]


def _frontier(finding: BranchFinding) -> Drawing:
    """Loss on the second set over that on the first, a dot for each variant."""
    ways, (across, up) = (finding.base, *finding.others), finding.sets
    places = {way.name: (_place(finding, way, across), _place(finding, way, up)) for way in ways}

    def draw(sheet: Sheet) -> "Figure":
        figure = sheet.blank(500 if sheet.wide else 400)
        axes = figure.add_subplot()
        for _, along in finding.mixture_axes:
            x, y = np.array([[end.value for end in places[way.name]] for way in along]).T
            axes.plot(x, y, color=sheet.paint.muted, lw=1.4, zorder=2)
        for way in ways:
            _cross(axes, sheet, *places[way.name], first=way is finding.base)
        axes.margins(0.1)
        sheet.dress(axes, x=f"Loss on {across} (nats per token)",
                    y=f"Loss on {up} (nats per token)")  # fmt: skip
        axes.locator_params(nbins=8 if sheet.wide else 5)
        _key(figure, sheet, finding)
        names_beside(
            axes,
            [(x.value, y.value, _named(finding, way, sheet))
             for way in ways for x, y in [places[way.name]]],
            obstacles=[
                *(_bars(x, y) for x, y in places.values()),
                *([(x.value, y.value) for x, y in (places[way.name] for way in along)]
                  for _, along in finding.mixture_axes),
            ],
            size=11 if sheet.wide else 10,
        )  # fmt: skip
        return figure

    alt = f"Loss on {up} over loss on {across}, a dot for each of {len(ways)} variants."
    return Drawing(name=_stem("ways-frontier", finding), alt=alt, draw=draw)


def _panels(finding: BranchFinding) -> Drawing:
    """A panel for each set, a row for each variant but the first, which is the line at 0."""
    ways = finding.others

    def draw(sheet: Sheet) -> "Figure":
        columns = min(len(finding.sets), 3) if sheet.wide else 1
        lines = -(-len(finding.sets) // columns)
        figure = sheet.blank(40 + lines * (85 + 34 * len(ways)))
        figure.set_layout_engine("constrained", hspace=0.06, wspace=0.06)
        panels = figure.subplots(lines, columns, sharey=True, squeeze=False)
        for axes in panels.flat[len(finding.sets) :]:
            axes.set_visible(False)
        for axes, on in zip(panels.flat, finding.sets, strict=False):
            axes.axvline(0, color=sheet.paint.ink, lw=1.4, ls=DASHED, zorder=1)
            for place, way in enumerate(ways):
                gap = finding.gap(way, on)
                if gap is not None:
                    axes.plot([gap.low, gap.high], [place, place], color=sheet.paint.accent,
                              lw=2.2, alpha=0.75, zorder=3)  # fmt: skip
                    axes.plot(gap.value, place, "o", ms=8, mfc=sheet.paint.accent,
                              mec=sheet.paint.card, mew=0.8, zorder=4)  # fmt: skip
            axes.set_yticks(range(len(ways)), [_named(finding, way, sheet) for way in ways])
            axes.set_ylim(len(ways) - 0.5, -0.5)
            axes.tick_params(axis="y", labelcolor=sheet.paint.ink)
            axes.locator_params(axis="x", nbins=4 if columns > 1 or not sheet.wide else 8)
            above = f"above {finding.base.name} (nats)"
            sheet.dress(axes, x=above if columns > 2 else f"Loss {above}", y=on, grid="x")
        _key(figure, sheet, finding, cross=False)
        return figure

    variants = f"{len(ways)} variant{'s' * (len(ways) > 1)}"
    alt = f"Loss of {variants} minus that of {finding.base.name!r}, on {', '.join(finding.sets)}."
    return Drawing(name=_stem("ways", finding), alt=alt, draw=draw)


def _place(finding: BranchFinding, way: Way, on: str) -> Interval:
    """Where a variant stands: the first one's mean and the difference from it, with its interval.

    So a variant that lacks a seed stands where its difference puts it, not its luck.
    """
    base, gap = finding.mean(finding.base, on).value, finding.gap(way, on)
    if gap is None or way is finding.base:
        return Interval(base, base, base)
    return Interval(base + gap.value, base + gap.low, base + gap.high)


def _cross(axes: "Axes", sheet: Sheet, x: Interval, y: Interval, *, first: bool) -> None:
    """A dot with a bar along each axis; a ring for the first, which has none."""
    colour, card = sheet.paint.accent, sheet.paint.card
    for line in _bars_apart(x, y):
        axes.plot(*zip(*line, strict=True), color=colour, lw=1.8, alpha=0.5, zorder=3)
    if first:
        axes.plot(x.value, y.value, "o", ms=9, mfc=card, mec=sheet.paint.ink, mew=2, zorder=5)
    else:
        axes.plot(x.value, y.value, "o", ms=8, mfc=colour, mec=card, mew=0.8, zorder=4)


def _bars_apart(x: Interval, y: Interval) -> list[list[tuple[float, float]]]:
    ends = [[(x.low, y.value), (x.high, y.value)], [(x.value, y.low), (x.value, y.high)]]
    return [line for line in ends if np.isfinite(line).all()]


def _bars(x: Interval, y: Interval) -> Obstacle:
    """Both bars as one path, for names to stand clear of."""
    middle = (x.value, y.value)
    return [point for line in _bars_apart(x, y) for point in (*line, middle)]


def _named(finding: BranchFinding, way: Way, sheet: Sheet) -> str:
    """Its name, with its length where that is another than the first one's."""
    if way.tokens == finding.base.tokens:
        return way.name
    return f"{way.name} ({short(way.tokens)}{' tokens' * sheet.wide})"


def _key(figure: "Figure", sheet: Sheet, finding: BranchFinding, *, cross: bool = True) -> None:
    from matplotlib.lines import Line2D

    paint, base = sheet.paint, finding.base.name
    gaps = [finding.gap(way, on) for way in finding.others for on in finding.sets]
    sure = any(gap is not None and np.isfinite(gap.low) for gap in gaps)
    entries: list[tuple[Artist, str]] = []
    if cross:
        ring = Line2D([], [], marker="o", ms=9, mfc=paint.card, mec=paint.ink, mew=2, ls="")
        entries.append((ring, f"{base}, the first"))
    dot = Line2D([], [], marker="o", ms=8, mfc=paint.accent, mec=paint.card, ls="")
    entries.append((dot, "mean over seeds"))
    if sure:
        bar = Line2D([], [], color=paint.accent, lw=2, alpha=0.6)
        entries.append(
            (bar, f"90% interval of the difference from {base}" if sheet.wide else "90% interval")
        )
    if cross and finding.mixture_axes:
        sources = " or ".join(dict.fromkeys(source for source, _ in finding.mixture_axes))
        entries.append((Line2D([], [], color=paint.muted, lw=1.4), f"by share of {sources}"))
    sheet.key(figure, entries)


def _stem(what: str, finding: BranchFinding) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{what} {finding.size} {finding.fork}".lower())
