"""Losses after a short anneal against those after long training, a panel for each set."""

import re
from typing import TYPE_CHECKING

import numpy as np

from windtunnel.findings.ranking import RankingFinding
from windtunnel.report.figures.beside import names_beside
from windtunnel.report.figures.sheet import Drawing, Sheet

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 4
"""Panels: further sets are in the numbers alone."""


def drawings(finding: RankingFinding) -> list[Drawing]:
    """One figure."""
    shown = finding.sets[:MOST]

    def draw(sheet: Sheet) -> "Figure":
        columns = min(len(shown), 2) if sheet.wide else 1
        lines = -(-len(shown) // columns)
        figure = sheet.blank(30 + lines * (390 if sheet.wide else 320))
        panels = figure.subplots(lines, columns, squeeze=False)
        for axes in panels.flat[len(shown) :]:
            axes.set_visible(False)
        for axes, on in zip(panels.flat, shown, strict=False):
            _panel(axes, sheet, finding, on)
        _key(figure, sheet, finding)
        for axes, on in zip(panels.flat, shown, strict=False):
            _names(axes, sheet, finding, on)
        return figure

    alt = (
        f"Mean loss in {finding.dear.name} over that in {finding.cheap.name}, a dot for each of "
        f"{len(finding.variants)} variants, on {', '.join(shown)}."
    )
    stem = re.sub(r"[^a-z0-9]+", "-", f"ranking {finding.pair} {finding.size}".lower())
    return [Drawing(name=stem, alt=alt, draw=draw)]


def _panel(axes: "Axes", sheet: Sheet, finding: RankingFinding, on: str) -> None:
    paint = sheet.paint
    for line in _bars(finding, on):
        axes.plot(*zip(*line, strict=True), color=paint.accent, lw=1.8, alpha=0.35, zorder=2)
    for x, y, _ in _places(finding, on):
        axes.plot(x, y, "o", ms=8, mfc=paint.accent, mec=paint.card, mew=0.8, zorder=4)
    axes.margins(0.14)
    rho, known = finding.rho(on), ""
    if np.isfinite(rho.low):
        known = f" ({rho.low:.2f} to {rho.high:.2f})".replace("-", "−")
    words = f"{on}: ρ = {rho.value:.2f}".replace("-", "−") + known
    sheet.dress(axes, x=f"Loss in {finding.cheap.name}", y=words)
    axes.set_ylabel(f"Loss in {finding.dear.name} (nats per token)")
    axes.locator_params(nbins=5)


def _places(finding: RankingFinding, on: str) -> list[tuple[float, float, str]]:
    """Where each variant stands, with its name."""
    return [
        (finding.cheap.mean(on, place).value, finding.dear.mean(on, place).value, name)
        for place, name in enumerate(finding.variants)
    ]


def _bars(finding: RankingFinding, on: str) -> list[list[tuple[float, float]]]:
    """Both intervals of each variant, where it has them."""
    found = []
    for place in range(len(finding.variants)):
        x, y = finding.cheap.mean(on, place), finding.dear.mean(on, place)
        found.append([(x.low, y.value), (x.high, y.value)])
        found.append([(x.value, y.low), (x.value, y.high)])
    return [line for line in found if np.isfinite(line).all()]


def _names(axes: "Axes", sheet: Sheet, finding: RankingFinding, on: str) -> None:
    names_beside(
        axes, _places(finding, on), obstacles=_bars(finding, on), size=11 if sheet.wide else 10
    )


def _key(figure: "Figure", sheet: Sheet, finding: RankingFinding) -> None:
    from matplotlib.lines import Line2D

    dot = Line2D([], [], marker="o", ms=8, mfc=sheet.paint.accent, mec=sheet.paint.card, ls="")
    entries: list[tuple[Artist, str]] = [(dot, "variant, mean over seeds")]
    if any(_bars(finding, on) for on in finding.sets):
        bar = Line2D([], [], color=sheet.paint.accent, lw=2, alpha=0.5)
        entries.append(
            (bar, "90% interval of what is not shared by a seed" if sheet.wide else "90% interval")
        )
    sheet.key(figure, entries)
