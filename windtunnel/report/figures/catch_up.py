"""A small model catching up with a larger one, and the two forms of its approach to a floor."""

import math
from typing import TYPE_CHECKING

import numpy as np

from windtunnel.findings.catching_up.catch_up import CatchUpFinding
from windtunnel.findings.catching_up.crossing import Ends, loss_band
from windtunnel.findings.catching_up.pair import Match
from windtunnel.report.figures import fit_curve
from windtunnel.report.figures.sheet import DASHED, Drawing, Sheet
from windtunnel.report.figures.ticks import log_ticks

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COMPUTE, LOSS = "Training compute (FLOPs, 6ND)", "Loss at the end of a decay (nats per token)"


def drawings(finding: CatchUpFinding) -> list[Drawing]:
    """Both sizes against compute; the two forms where they were fitted."""
    return [_ends(finding), *([_approach(finding)] if finding.forms else [])]


def _ends(finding: CatchUpFinding) -> Drawing:
    """Decayed ends of both sizes, and what equal loss takes of each."""

    def draw(sheet: Sheet) -> "Figure":
        figure = sheet.blank(460 if sheet.wide else 380)
        axes = figure.add_subplot()
        axes.set_xscale("log")
        sizes = (finding.pair.large, finding.pair.small)
        colours = [sheet.colour(size.params) for size in sizes]
        last = []
        for size, colour in zip(sizes, colours, strict=True):
            mine = finding.table.params == size.params
            ends = Ends.of(finding.table, size.params)
            compute, loss = 6 * size.params * ends.tokens, np.exp(ends.log_loss)
            if finding.noise is not None:
                band = loss_band(ends, finding.noise)
                axes.fill_between(compute, *band, color=colour, alpha=0.18, lw=0)
            axes.plot(compute, loss, color=colour, lw=1.8, zorder=2)
            sheet.dots(axes, finding.table.budget[mine], finding.table.loss[mine],
                       [colour] * int(mine.sum()), small=True)  # fmt: skip
            last.append(float(loss[-1]))
        for match in finding.matches:
            if match.found:
                _match(axes, sheet, finding, match)
        axes.margins(x=0.04)
        sheet.dress(axes, x=COMPUTE, y=LOSS if sheet.wide else "Loss (nats per token)")
        log_ticks(axes.xaxis, counted=False, most=9 if sheet.wide else 5)
        names = [size.name.replace("x", "×") for size in sizes]
        sheet.names(axes, names, np.array(last), colours, title="")
        _key(figure, sheet, colours[1])
        return figure

    large, small = finding.pair.large.name, finding.pair.small.name
    alt = f"Loss against compute of {small} trained for long and of {large} trained for less."
    return Drawing(name=f"catch-up-{small}", alt=alt, draw=draw)


def _match(axes: "Axes", sheet: Sheet, finding: CatchUpFinding, match: Match) -> None:
    """From a length of the larger size along its loss to the smaller one's crossing."""
    start = 6 * finding.pair.large.params * match.larger_tokens
    each = 6 * finding.pair.small.params
    end, ink = each * match.tokens.value, sheet.paint.ink
    axes.plot([start, end], [match.loss] * 2, color=ink, lw=1, ls=DASHED, zorder=3)
    if not math.isnan(match.tokens.low):
        axes.plot([each * match.tokens.low, each * match.tokens.high], [match.loss] * 2,
                  color=ink, lw=2.6, zorder=5)  # fmt: skip
    axes.plot(end, match.loss, "D", ms=7, mfc=sheet.paint.card, mec=ink, mew=1.8, zorder=6)
    ratio = finding.pair.training(match, exact=False).value
    axes.annotate(
        f"{match.horizon}: {ratio:.2f}×",
        (max(start, end), match.loss),
        xytext=(9, 4),
        textcoords="offset points",
        ha="left",
        va="bottom",
        fontsize=11,
        color=ink,
    )


def _key(figure: "Figure", sheet: Sheet, colour: str) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    ink, card = sheet.paint.ink, sheet.paint.card
    sheet.key(
        figure,
        [
            (Line2D([], [], color=colour, marker="o", ms=5, mec=card, lw=1.8), "seeds, their mean"),
            (Patch(color=colour, alpha=0.18, lw=0), "90% interval"),
            (Line2D([], [], marker="D", ms=7, mfc=card, mec=ink, mew=1.8, color=ink, lw=2.6),
             "equal loss, times the compute"),
        ],
    )  # fmt: skip


def _approach(finding: CatchUpFinding) -> Drawing:
    """Ends of the smaller size with the power law and its band, and the exponential."""
    power, exp = (finding.forms[name].fitted for name in ("power-offset", "exp-offset"))
    mine = finding.table.subset(finding.table.params == finding.pair.small.params)

    def exponential(axes: "Axes", sheet: Sheet) -> "list[tuple[Artist, str]]":
        compute = np.geomspace(mine.budget.min(), mine.budget.max(), 160)
        line = axes.plot(compute, exp.form(compute), color=sheet.paint.accent, lw=1.8, zorder=2)
        return [(line[0], "exponential in place of the power law")]

    law = fit_curve.law(power, mine.budget, mine.loss, what="decayed end", groups=mine.params,
                        behind=exponential)  # fmt: skip

    def draw(sheet: Sheet) -> "Figure":
        figure = law.draw(sheet)
        sheet.dress(figure.axes[0], x=COMPUTE, y=LOSS if sheet.wide else "Loss (nats per token)")
        return figure

    name = finding.pair.small.name
    alt = f"Loss of {name} against compute with a power law and an exponential towards a floor."
    return Drawing(name=f"approach-{name}", alt=alt, draw=draw)
