"""Loss against compute: training curves, decayed ends, and the lowest loss that a law finds."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from windtunnel.laws import Fit
from windtunnel.laws.table import Floats
from windtunnel.report.figures.sheet import DASHED, Drawing, Sheet
from windtunnel.report.figures.ticks import log_ticks
from windtunnel.trials.curves import Curve, bin_means
from windtunnel.trials.gather import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

BEFORE, BEYOND = 8.0, 10.0
"""How far before the first decayed end and past the last one the axis goes, in compute."""
FRONTIER_POINTS = 60
HIGHEST = 1.25
"""Times the highest decayed end: above it lies only the first fall."""
BRANCH_POINTS = 5
"""Of a decay: the loss of single batches is noisier than a decay is deep."""


def loss_against_compute(
    curves: Sequence[Curve], rows: Sequence[Row], fitted: Fit | None = None
) -> Drawing:
    """The figure of some curves and the decayed `rows` among them; with a fit, its frontier.

    Curves of other segments are left out. Compute is 6ND for both.
    """
    ends = [row for row in rows if row["decayed"] and row["loss"] is not None]
    wanted = {row["trunk"] for row in ends} | {row["segment"] for row in ends}
    mine = [curve for curve in curves if curve.segment in wanted]
    sizes = sorted({float(row["params"]) for row in ends})

    def draw(sheet: Sheet) -> "Figure":
        figure = sheet.blank(500 if sheet.wide else 380)
        axes = figure.add_subplot()
        axes.set_xscale("log")
        flops = np.array([row["flops_6nd"] for row in ends], np.float64)
        left, right = float(flops.min()) / BEFORE, float(flops.max())
        key = [
            (line, "training loss of a trunk and its decays") for line in _draw(axes, sheet, mine)
        ]
        colours = [sheet.colour(float(row["params"])) for row in ends]
        losses = np.array([row["loss"] for row in ends], np.float64)
        sheet.dots(axes, flops, losses, colours, small=len(ends) > 60)
        (dot,) = axes.plot([], [], "o", ms=5, color=sheet.colour(sizes[-1]))
        key.append((dot, "validation loss of a decayed end"))
        lowest = float(losses.min())
        if fitted is not None and fitted.has_optimum:
            (line,), lowest = _frontier(axes, sheet, fitted, left=float(flops.min()), right=right)
            key.append((line, f"lowest by the law, {fitted.level:.0%} interval"))
            right *= BEYOND
        started = [curve.loss[_compute(curve) >= left] for curve in mine]
        top = max([losses.max(), *(each.max() for each in started if each.size)])
        top = min(top, HIGHEST * losses.max())
        margin = 0.04 * (float(top) - lowest)
        axes.set_xlim(left, right * 1.15)
        axes.set_ylim(lowest - margin, float(top) + margin)
        unit = "nats per token" if fitted is None else fitted.loss_unit
        sheet.dress(axes, x="Compute 6ND (FLOPs)", y=f"Loss ({unit})")
        log_ticks(axes.xaxis, counted=False, most=9 if sheet.wide else 4)
        best = [min(row["loss"] for row in ends if row["params"] == size) for size in sizes]
        sheet.names(axes, [sheet.name(size) for size in sizes], np.array(best),
                    [sheet.colour(size) for size in sizes], title=sheet.sizes)  # fmt: skip
        sheet.key(figure, key)
        return figure

    alt = f"Loss against compute of {len(mine)} training curves and {len(ends)} decayed ends"
    alt += "." if fitted is None else ", with the lowest loss that the law finds for every budget."
    return Drawing(name="loss-against-compute", alt=alt, draw=draw)


def _compute(curve: Curve) -> Floats:
    return 6.0 * curve.params * curve.tokens


def _draw(axes: "Axes", sheet: Sheet, curves: Sequence[Curve]) -> "list[Line2D]":
    """Trunks, and the decays that leave them, in their size's colour; one line for the key."""
    line = None
    for curve in curves:
        thin = curve.kind == "trunk"
        tokens, loss = (curve.tokens, curve.loss) if thin else _smooth(curve)
        (line,) = axes.plot(
            6.0 * curve.params * tokens,
            loss,
            color=sheet.colour(float(curve.params)),
            lw=0.9 if thin else 1.3,
            alpha=0.45 if thin else 0.8,
            zorder=2,
        )
    return [] if line is None else [line]


def _smooth(curve: Curve) -> tuple[Floats, Floats]:
    edges = np.linspace(curve.tokens[0], curve.tokens[-1], BRANCH_POINTS + 1)[1:-1]
    return bin_means(curve.tokens, curve.loss, edges)


def _frontier(
    axes: "Axes", sheet: Sheet, fitted: Fit, *, left: float, right: float
) -> "tuple[list[Line2D], float]":
    """The law's loss at the best split of every budget, and the lowest that it reaches."""
    flops = np.unique(np.append(np.geomspace(left, right * BEYOND, FRONTIER_POINTS), right))
    params, tokens = np.exp(
        fitted.form.log_optimum(fitted.form.vector, flops, flop_factor=fitted.flop_factor)
    )
    best = [fitted.predict(n, d, trunks=math.inf)
            for n, d in zip(params.tolist(), tokens.tolist(), strict=True)]  # fmt: skip
    loss, low, high = np.array([(each.value, each.low, each.high) for each in best]).T
    ink, inside = sheet.paint.ink, flops <= right
    if np.isfinite([low, high]).all():
        axes.fill_between(flops, low, high, color=ink, alpha=0.18, lw=0, zorder=3)
    axes.plot(flops, loss, color=ink, lw=1.6, ls=DASHED, zorder=5)
    return axes.plot(flops[inside], loss[inside], color=ink, lw=2, zorder=5), float(loss.min())
