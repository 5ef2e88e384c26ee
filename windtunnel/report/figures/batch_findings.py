"""Best batch against loss, and the equal-loss curves of every size that it was read from."""

from typing import TYPE_CHECKING

import numpy as np

from windtunnel.findings.batch import MINICPM_EXPONENT, BatchFinding
from windtunnel.laws import Fit
from windtunnel.report.figures import fit_curve, fit_stages
from windtunnel.report.figures.sheet import Drawing, Sheet

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def drawings(finding: BatchFinding) -> list[Drawing]:
    """The law, then a figure of equal-loss curves for each size; none without a law."""
    if finding.fitted is None:
        return []
    minima = finding.fitted.details["minima"]
    sizes = sorted(set(minima["params"]))
    curves = [_of_size(finding.fitted, params, finding.sizes[params]) for params in sizes]
    return [_law(finding.fitted), *curves]


def _law(fitted: Fit) -> Drawing:
    """All minima, the law through them, and MiniCPM's exponent through their middle."""
    minima = fitted.details["minima"]
    loss, batch, params = (
        np.array(minima[name], np.float64) for name in ("loss", "batch_tokens", "params")
    )

    def theirs(axes: "Axes", sheet: Sheet) -> "list[tuple[Artist, str]]":
        middle = float(np.exp(np.log(loss).mean()))
        reach = np.geomspace(loss.min(), loss.max(), 60)
        law = np.exp(np.log(batch).mean()) * (reach / middle) ** -MINICPM_EXPONENT
        line = axes.plot(reach, law, color=sheet.paint.accent, lw=1.8, ls=":", zorder=2)
        return [(line[0], f"MiniCPM's exponent, {MINICPM_EXPONENT}")]

    law = fit_curve.law(
        fitted, loss, batch, what="best batch at a loss", groups=params, behind=theirs
    )

    def draw(sheet: Sheet) -> "Figure":
        figure = law.draw(sheet)
        axes, sizes = figure.axes[0], np.unique(params)
        axes.set_xlabel(f"Loss ({fitted.loss_unit})", loc="right")
        sheet.names(
            axes,
            [sheet.name(size) for size in sizes],
            np.array([np.exp(np.log(batch[params == size]).mean()) for size in sizes]),
            [sheet.colour(size) for size in sizes],
            title=sheet.sizes,
        )
        return figure

    alt = "Best batch against loss of every size, the law, and MiniCPM's exponent beside it."
    return Drawing(name="batch-law", alt=alt, draw=draw)


def _of_size(fitted: Fit, params: float, name: str) -> Drawing:
    """Equal-loss curves of one size: curves of several would cross each other."""
    levels = [each for each in fitted.details["levels"] if each["params"] == params]
    curves = fit_stages.batch(fitted.detailed({"levels": levels}))[0]

    def draw(sheet: Sheet) -> "Figure":
        figure = curves.draw(sheet)
        axes = figure.axes[0]
        axes.set_title(name.replace("x", "×"), fontsize=12, fontweight="bold", pad=10)
        return figure

    return Drawing(name=f"batch-levels-{name}", alt=f"Size {name}: {curves.alt}", draw=draw)
