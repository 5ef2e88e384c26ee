"""Loss against compute: runs, the law of each size, and the compute-optimal frontier.

Over several decades every size hugs the frontier, so the page's figure has a second panel that
shows how far above it each run lies.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from windtunnel.laws import Fit
from windtunnel.laws.interval import quantiles
from windtunnel.laws.table import Floats
from windtunnel.report.figures.drawing import Drawing
from windtunnel.report.figures.style import DASHED, Style, decades, log_ticks, tip
from windtunnel.report.formatting import run_tip
from windtunnel.report.inputs import ReportInputs, ScalingLaw
from windtunnel.runs.curves import Curve, bin_means
from windtunnel.runs.forecast import law_runs
from windtunnel.runs.run import Run

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
    curves: Sequence[Curve], runs: Sequence[Run], fitted: Fit | None = None
) -> Drawing:
    """The figure of some curves and the decayed `runs` among them; with a fit, its frontier.

    Curves of other segments are left out. Compute is 6ND for both.
    """
    ends = law_runs(runs)
    wanted = {run.trunk for run in ends} | {run.segment for run in ends}
    mine = [curve for curve in curves if curve.segment in wanted]
    sizes = sorted({float(run.params) for run in ends})

    def draw(style: Style) -> "Figure":
        figure = style.blank(500 if style.wide else 380)
        axes = figure.add_subplot()
        axes.set_xscale("log")
        flops = np.array([run.flops_6nd for run in ends], np.float64)
        left, right = float(flops.min()) / BEFORE, float(flops.max())
        key = [
            (line, "training loss of a trunk and its decays") for line in _draw(axes, style, mine)
        ]
        colours = [style.colour(float(run.params)) for run in ends]
        losses = np.array([run.loss for run in ends], np.float64)
        style.dots(axes, flops, losses, colours, small=len(ends) > 60)
        (dot,) = axes.plot([], [], "o", ms=5, color=style.colour(sizes[-1]))
        key.append((dot, "validation loss of a decayed end"))
        lowest = float(losses.min())
        if fitted is not None and fitted.has_optimum:
            (line,), lowest = _frontier_line(
                axes, style, fitted, left=float(flops.min()), right=right
            )
            key.append((line, f"lowest by the law, {fitted.level:.0%} interval"))
            right *= BEYOND
        started = [curve.loss[_compute(curve) >= left] for curve in mine]
        top = max([losses.max(), *(each.max() for each in started if each.size)])
        top = min(top, HIGHEST * losses.max())
        margin = 0.04 * (float(top) - lowest)
        axes.set_xlim(left, right * 1.15)
        axes.set_ylim(lowest - margin, float(top) + margin)
        unit = "nats per token" if fitted is None else fitted.loss_unit
        style.dress(axes, x="Compute 6ND (FLOPs)", y=f"Loss ({unit})")
        log_ticks(axes.xaxis, counted=False, most=9 if style.wide else 4)
        params = np.array([run.params for run in ends], np.float64)
        best = [losses[params == size].min() for size in sizes]
        style.names(axes, [style.name(size) for size in sizes], np.array(best),
                    [style.colour(size) for size in sizes], title=style.sizes)  # fmt: skip
        style.key(figure, key)
        return figure

    alt = f"Loss against compute of {len(mine)} training curves and {len(ends)} decayed ends"
    alt += "." if fitted is None else ", with the lowest loss that the law finds for every budget."
    return Drawing(name="loss-against-compute", alt=alt, draw=draw)


def _compute(curve: Curve) -> Floats:
    return 6.0 * curve.params * curve.tokens


def _draw(axes: "Axes", style: Style, curves: Sequence[Curve]) -> "list[Line2D]":
    """Trunks, and the decays that leave them, in their size's colour; one line for the key."""
    line = None
    for curve in curves:
        thin = curve.kind == "trunk"
        tokens, loss = (curve.tokens, curve.loss) if thin else _smooth(curve)
        (line,) = axes.plot(
            6.0 * curve.params * tokens,
            loss,
            color=style.colour(float(curve.params)),
            lw=0.9 if thin else 1.3,
            alpha=0.45 if thin else 0.8,
            zorder=2,
        )
    return [] if line is None else [line]


def _smooth(curve: Curve) -> tuple[Floats, Floats]:
    edges = np.linspace(curve.tokens[0], curve.tokens[-1], BRANCH_POINTS + 1)[1:-1]
    return bin_means(curve.tokens, curve.loss, edges)


def _frontier_line(
    axes: "Axes", style: Style, fitted: Fit, *, left: float, right: float
) -> "tuple[list[Line2D], float]":
    """The law's loss at the best split of every budget, and the lowest that it reaches."""
    flops = np.unique(np.append(np.geomspace(left, right * BEYOND, FRONTIER_POINTS), right))
    params, tokens = _split(fitted, flops)
    best = [fitted.predict(n, d, trunks=math.inf)
            for n, d in zip(params.tolist(), tokens.tolist(), strict=True)]  # fmt: skip
    loss, low, high = np.array([(each.value, each.low, each.high) for each in best]).T
    ink, inside = style.paint.ink, flops <= right
    if np.isfinite([low, high]).all():
        axes.fill_between(flops, low, high, color=ink, alpha=0.18, lw=0, zorder=3)
    axes.plot(flops, loss, color=ink, lw=1.6, ls=DASHED, zorder=5)
    return axes.plot(flops[inside], loss[inside], color=ink, lw=2, zorder=5), float(loss.min())


BEYOND_HORIZONS = 4.0
"""How far past the measured D/N the law of a size is drawn in the lower panel, as a factor."""
GRID = 81
"""Budgets at which the lowest loss is found."""
MOST_EXCESS = 12.0
"""Per cent above the frontier where the lower panel ends at the latest."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Lowest:
    """The lowest loss for every budget, on a grid of ln C: its ln (F,), and its interval (2, F)."""

    fit: Fit
    log_flops: Floats
    log_loss: Floats
    band: Floats | None

    @classmethod
    def of(cls, fit: Fit) -> Self:
        """Over all budgets of the lower panel."""
        sizes, ratios = fit.domain["params"], fit.domain["ratio"]
        low = fit.flop_factor * sizes[0] ** 2 * ratios[0] / BEYOND_HORIZONS
        high = fit.flop_factor * sizes[1] ** 2 * ratios[1] * BEYOND_HORIZONS
        flops = np.geomspace(low, max(high, BEYOND * fit.domain["flops"][1]), GRID)
        split = _split(fit, flops)
        band = None
        if len(fit.draws):
            spread = fit.curves(*split)
            band = np.array([quantiles(column, fit.level) for column in spread.T]).T
        return cls(fit=fit, log_flops=np.log(flops), log_loss=np.log(fit(*split)), band=band)

    def loss(self, flops: Floats) -> Floats:
        """At budgets (B,)."""
        return np.exp(np.interp(np.log(flops), self.log_flops, self.log_loss))

    def above(self, loss: Floats, flops: Floats) -> Floats:
        """Losses of so many FLOPs, in per cent above the lowest."""
        return np.asarray(100 * np.log(loss / self.loss(flops)))


def _split(fit: Fit, flops: Floats) -> tuple[Floats, Floats]:
    """N and D of the optimum of every budget."""
    log_params, log_tokens = fit.splits(flops)
    return np.exp(log_params[0]), np.exp(log_tokens[0])


def frontier(inputs: ReportInputs, law: ScalingLaw) -> Drawing:
    """The figure; without a fit, the runs alone."""
    fit = law.fit if law.fit is not None and law.fit.has_optimum else None
    line = None if fit is None else _Lowest.of(fit)
    fitted = "" if fit is None else ", with the lowest loss per budget and the excess of each size"
    alt = f"Loss against compute of {len(law.runs)} decayed runs{fitted}."

    def draw(style: Style) -> "Figure":
        wide = style.wide
        if fit is None:
            figure = style.blank(380 if wide else 320)
            upper = lower = figure.add_subplot()
        else:
            figure = style.blank(480 if wide else 540)
            upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        upper.set_xscale("log")
        unit = "nats per token" if law.fit is None else law.fit.loss_unit
        if line is not None:
            _frontier(upper, style, line)
            _excess(lower, style, line, list(inputs.sizes), law)
            words = "Above the lowest loss for the budget (%)" if wide else "Above the lowest (%)"
            style.dress(lower, x="", y=words)
        _dots(upper, style, law, _losses(law).tolist())
        style.dress(upper, x="", y=f"Loss ({unit})")
        lower.set_xlabel("Compute 6ND (FLOPs)", loc="right")
        decades(lower, most=12 if wide else 5)
        return figure

    return Drawing(name="frontier", alt=alt, draw=draw)


def _losses(law: ScalingLaw) -> Floats:
    return np.array([run.loss for run in law.runs], np.float64)


def _dots(axes: "Axes", style: Style, law: ScalingLaw, heights: list[float]) -> None:
    """Every run: filled, or a ring where it was held out."""
    card = style.paint.card
    for run, height in zip(law.runs, heights, strict=True):
        colour = style.colour(run.params)
        (dot,) = axes.plot(
            run.flops_6nd,
            height,
            "o",
            markersize=6.5 if style.wide else 5,
            markerfacecolor=card if run.held_out else colour,
            markeredgecolor=colour if run.held_out else card,
            markeredgewidth=1.7 if run.held_out else 0.6,
            zorder=4,
        )
        tip(dot, [run_tip(run)])


def _frontier(axes: "Axes", style: Style, line: _Lowest) -> None:
    paint, wide = style.paint, style.wide
    low, high = line.fit.domain["flops"]
    flops = np.unique(np.append(np.geomspace(low, 10 * high, 60), high))
    best = line.loss(flops)
    if line.band is not None:
        ends = (np.interp(np.log(flops), line.log_flops, each) for each in line.band)
        axes.fill_between(flops, *ends, color=paint.ink, alpha=0.16, linewidth=0, zorder=1)
    inside, outside = flops <= high, flops >= high
    axes.plot(flops[inside], best[inside], color=paint.ink, lw=1.6)
    axes.plot(flops[outside], best[outside], color=paint.ink, lw=1.6, ls=DASHED)
    axes.axvline(high, color=paint.muted, linewidth=0.9, ls=(0, (2, 3)), zorder=1)
    axes.annotate(
        "largest run" if wide else "largest",
        (high, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-6, -12),
        textcoords="offset points",
        ha="right",
        fontsize=11,
        color=paint.muted,
    )
    if not wide:
        return  # no room; the caption names the line
    axes.set_ymargin(0.1)  # for the name below the line, where a falling curve leaves room
    axes.annotate(
        "compute-optimal",
        (flops[-1], best[-1]),
        xytext=(0, -18),
        textcoords="offset points",
        ha="right",
        fontsize=11,
        fontweight="bold",
    )


def _excess(
    axes: "Axes", style: Style, line: _Lowest, sizes: Sequence[int], law: ScalingLaw
) -> None:
    """How far above the frontier each run is, and each size by the law; each touches 0 once."""
    paint, wide, fit = style.paint, style.wide, line.fit
    low, high = fit.domain["ratio"]
    present = [n for n in sizes if any(run.params == n for run in law.runs)]
    for place, params in enumerate(present):
        colour = style.colour(params)
        tokens = params * np.geomspace(low / BEYOND_HORIZONS, high * BEYOND_HORIZONS, 120)
        flops = fit.flop_factor * params * tokens
        above = line.above(fit(params, tokens), flops)
        axes.plot(flops, above, color=colour, linewidth=1.5, alpha=0.8, zorder=3)
        best = int(np.argmin(above))
        axes.annotate(
            style.name(params),
            (flops[best], 0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 5 if wide else 4 + 13 * (place % 2)),  # neighbours would touch on a phone
            textcoords="offset points",
            ha="center",
            fontsize=11 if wide else 10,
            fontweight="bold",
            color=colour,
        )
    flops = np.array([run.flops_6nd for run in law.runs])
    heights = line.above(_losses(law), flops).tolist()
    _dots(axes, style, law, heights)
    axes.axhline(0, color=paint.ink, linewidth=1.6, zorder=2)
    top = min(max(heights) * 1.15 + 0.3, MOST_EXCESS)
    # Below the lowest dot there is room for the names.
    axes.set_ylim(min(0.0, *heights) - (0.2 if wide else 0.34) * top, top)
    axes.axvline(fit.domain["flops"][1], color=paint.muted, linewidth=0.9, ls=(0, (2, 3)), zorder=1)
