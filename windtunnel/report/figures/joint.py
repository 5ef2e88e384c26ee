"""Loss over batch and learning rate at every size, with the best rates and what rules say."""

from typing import TYPE_CHECKING

import numpy as np

from windtunnel.findings.rates.joint import RULES, JointFinding
from windtunnel.findings.rates.rules import StepLaw
from windtunnel.findings.rates.valleys import Valleys
from windtunnel.report.figures.canvas import short
from windtunnel.report.figures.sheet import DASHED, Drawing, Sheet
from windtunnel.report.figures.ticks import log_ticks

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STRONGEST = 0.55
"""Opacity of the lowest cell: its number stays readable."""
FADED = 0.25
"""Share of the lowest loss at which a cell is blank; the valley's shape lies below."""
DOTTED = (0, (1, 2))
RULE_LINES = {"none": DOTTED, "sqrt": DASHED}
Key = dict[str, "Artist"]


def drawings(finding: JointFinding) -> list[Drawing]:
    """One figure with a panel a size."""

    def draw(sheet: Sheet) -> "Figure":
        count = len(finding.sizes)
        columns = min(count, 3) if sheet.wide else 1
        rows = -(-count // columns)
        figure = sheet.blank((400 if sheet.wide else 330) * rows + 50)
        grid = figure.subplots(rows, columns, squeeze=False)
        key: Key = {}
        for place, axes in enumerate(grid.flat):
            if place >= count:
                axes.set_axis_off()
                continue
            key |= _surface(axes, sheet, finding, place)
        sheet.key(figure, [(mark, words) for words, mark in key.items()])
        return figure

    names = ", ".join(size.name for size in finding.sizes if size.name)
    alt = "Loss above the best over batch and learning rate" + (f" at {names}." if names else ".")
    return [Drawing(name=f"{finding.experiment}-surface", alt=alt, draw=draw)]


def _surface(axes: "Axes", sheet: Sheet, finding: JointFinding, place: int) -> Key:
    size, law = finding.sizes[place], finding.steplaw[place]
    axes.set_xscale("log")
    axes.set_yscale("log")
    tried = sorted({float(rate) for v in size.valleys for rate in (*v.rates, *v.diverged)})
    batches = [valley.at for valley in size.valleys]
    across, up = _edges(batches), _edges(tried)
    axes.set_xlim(across[0], across[-1])
    axes.set_ylim(up[0], up[-1])
    key = _cells(axes, sheet, size, tried=tried, across=across, up=up)
    key |= _rules(axes, sheet, finding, size)
    key |= _bests(axes, sheet, size)
    key |= _published(axes, sheet, law)
    name = f"{size.name}: l" if size.name else "L"
    sheet.dress(axes, x="Batch (tokens per update)", y=f"{name}earning rate")
    axes.grid(visible=False)
    log_ticks(axes.xaxis, counted=True, most=5)
    axes.set_xticks(batches, [f"{batch:.0f}" if batch < 1e4 else short(batch) for batch in batches])
    axes.set_yticks(tried, [f"{rate:g}" for rate in tried])
    axes.minorticks_off()
    return key


def _edges(centres: list[float]) -> list[float]:
    """Borders between cells, evenly in logs."""
    logs = np.log(centres)
    middle = (logs[1:] + logs[:-1]) / 2
    ends = [logs[0] - (middle[0] - logs[0]), *middle, logs[-1] + (logs[-1] - middle[-1])]
    return [float(edge) for edge in np.exp(ends)]


def _cells(
    axes: "Axes", sheet: Sheet, size: Valleys, *, tried: list[float], across: list[float],
    up: list[float],
) -> Key:  # fmt: skip
    """Mean loss above the lowest cell of the size, strongest where it is lowest."""
    from matplotlib.patches import Rectangle

    lowest = min(float(valley.means.min()) for valley in size.valleys)
    most = max(float(valley.means.max()) for valley in size.valleys) - lowest
    blank = min(FADED * lowest, most) or 1.0
    for column, valley in enumerate(size.valleys):
        for row, rate in enumerate(tried):
            known = valley.means[valley.rates == rate]
            words, strength = ("×" if rate in valley.diverged else ""), 0.0
            if known.size:
                above = float(known[0]) - lowest
                words = f"{above:.2f}"
                strength = STRONGEST * max(0.0, 1 - (above / blank) ** 0.5)
            corner = (across[column], up[row])
            cell = Rectangle(
                corner, across[column + 1] - corner[0], up[row + 1] - corner[1],
                facecolor=sheet.paint.accent, alpha=strength, lw=0, zorder=0.5,
            )  # fmt: skip
            axes.add_patch(cell)
            axes.text(corner[0] * 1.06, up[row + 1] / 1.04, words, ha="left", va="top", fontsize=9,
                      color=sheet.paint.muted, zorder=1)  # fmt: skip
    swatch = Rectangle((0, 0), 1, 1, facecolor=sheet.paint.accent, alpha=STRONGEST, lw=0)
    return {"nats above the lowest": swatch}


def _rules(axes: "Axes", sheet: Sheet, finding: JointFinding, size: Valleys) -> Key:
    """`none` and `sqrt` from the middle batch's best rate."""
    anchor = finding.follows["none"].anchor
    start = next((v.best for v in size.valleys if v.at == anchor and v.best), None)
    if start is None:
        return {}
    x = np.geomspace(*axes.get_xlim(), 2)
    return {
        f"rule: {rule}": axes.plot(
            x, start.value * (x / anchor) ** RULES[rule], color=sheet.paint.ink, lw=1.4, ls=style,
            zorder=2,
        )[0]
        for rule, style in RULE_LINES.items()
    }  # fmt: skip


def _bests(axes: "Axes", sheet: Sheet, size: Valleys) -> Key:
    key: Key = {}
    for valley in size.valleys:
        if valley.best is None:
            continue
        best, colour = valley.best, sheet.paint.accent
        if np.isfinite(best.low):
            axes.plot([valley.at] * 2, [best.low, best.high], color=colour, lw=2.2, zorder=3)
        (key["best rate, 90%"],) = axes.plot(
            valley.at, best.value, "D", ms=6.5, mfc=sheet.paint.card, mec=colour, mew=2, zorder=4
        )
    return key


def _published(axes: "Axes", sheet: Sheet, law: StepLaw) -> Key:
    """StepLaw's point; an arrow at the border where it lies beyond."""
    inside = [
        float(np.clip(value, low * 1.04, high / 1.04))
        for value, (low, high) in ((law.batch, axes.get_xlim()), (law.lr, axes.get_ylim()))
    ]
    marker = "*"
    if law.lr > inside[1]:
        marker = "^"
    elif law.lr < inside[1]:
        marker = "v"
    (mark,) = axes.plot(*inside, marker, ms=11 if marker == "*" else 9, mfc=sheet.paint.ink,
                        mec=sheet.paint.card, mew=0.8, ls="", zorder=5)  # fmt: skip
    return {"StepLaw" if marker == "*" else "StepLaw, beyond the panel": mark}
