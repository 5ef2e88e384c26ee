"""Loss over learning rate of every variant of one size: how much a wrong rate costs each."""

from typing import TYPE_CHECKING

import numpy as np

from windtunnel.findings.rates.sensitivity import SensitivityFinding
from windtunnel.report.figures.sheet import DASHED, Drawing, Sheet
from windtunnel.report.figures.ticks import log_ticks
from windtunnel.report.figures.transfer import variant_colour

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure


def drawings(finding: SensitivityFinding) -> list[Drawing]:
    """One figure: the losses as they enter the sensitivity, capped at the loss at init."""

    def draw(sheet: Sheet) -> "Figure":
        figure = sheet.blank(400 if sheet.wide else 320)
        axes = figure.add_subplot()
        axes.set_xscale("log")
        key: list[tuple[Artist, str]] = []
        colours = [variant_colour(sheet, place) for place in range(len(finding.variants))]
        for each, colour in zip(finding.variants, colours, strict=True):
            (mean,) = axes.plot(each.rates, each.means, color=colour, lw=1.8, zorder=2)
            dots = axes.plot(np.tile(each.rates, len(each.losses)), each.losses.ravel(), "o",
                             ms=5, mfc=colour, mec=sheet.paint.card, mew=0.6,
                             zorder=3)  # fmt: skip
            key = [(dots[0], "run"), (mean, "mean over seeds")]
        if any(each.losses.max() >= finding.loss_at_init for each in finding.variants):
            line = axes.axhline(finding.loss_at_init, color=sheet.paint.muted, lw=1.2, ls=DASHED,
                                zorder=1)  # fmt: skip
            key.append((line, "loss at init, also for runs that diverged"))
        axes.margins(x=0.05)
        sheet.dress(axes, x="Learning rate", y="Loss (nats per token)")
        log_ticks(axes.xaxis, counted=False, most=8 if sheet.wide else 5)
        sheet.names(axes, [each.name for each in finding.variants],
                    np.array([each.means[-1] for each in finding.variants]), colours,
                    title="")  # fmt: skip
        sheet.key(figure, key)
        return figure

    names = " and ".join(each.name for each in finding.variants)
    alt = f"Loss over learning rate, {names}."
    return [Drawing(name=f"{finding.experiment}-sensitivity", alt=alt, draw=draw)]
