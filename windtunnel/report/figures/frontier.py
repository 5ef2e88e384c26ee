"""Loss against compute: every run, the law of each size, and the compute-optimal frontier.

Over several decades every size hugs the frontier, so a second panel shows how far above it
they are.
"""

from typing import TYPE_CHECKING

import numpy as np

from windtunnel.laws import Fit
from windtunnel.laws.interval import quantiles
from windtunnel.report.figures.canvas import (
    CARD,
    INK,
    MUTED,
    NARROW,
    Picture,
    blank,
    decades,
    dress,
    picture,
    size_colour,
)
from windtunnel.report.inputs import ReportInputs, ScalingLaw
from windtunnel.trials.curves import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEYOND_HORIZONS = 4.0
"""How far past the measured D/N the law of a size is drawn in the lower panel, as a factor."""
MOST_EXCESS = 12.0
"""Per cent above the frontier where the lower panel ends at the latest."""


def frontier(inputs: ReportInputs, law: ScalingLaw) -> Picture:
    """The figure; without a fit, the runs alone."""
    fit = law.fit if law.fit is not None and law.fit.has_optimum else None
    fitted = "" if fit is None else ", with the lowest loss per budget and the excess of each size"
    alt = f"Loss against compute of {len(law.rows)} decayed runs{fitted}."

    def draw(width: int) -> "Figure":
        wide = width > NARROW
        if fit is None:
            figure = blank(width, 380 if wide else 320)
            upper = lower = figure.add_subplot()
        else:
            figure = blank(width, 640 if wide else 540)
            upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        upper.set_xscale("log")
        unit = "nats per token" if law.fit is None else law.fit.loss_unit
        if fit is not None:
            _frontier(upper, fit, wide=wide)
            _excess(lower, fit, inputs, law, wide=wide)
            words = "Above the lowest loss for the budget (%)" if wide else "Above the lowest (%)"
            dress(lower, x="", y=words)
        _dots(upper, inputs, law, [row["loss"] for row in law.rows], wide=wide)
        dress(upper, x="", y=f"Loss ({unit})")
        lower.set_xlabel("Compute 6ND (FLOPs)", loc="right")
        decades(lower, most=12 if wide else 5)
        return figure

    return picture(f"frontier-{law.experiment}", alt, draw)


def _dots(
    axes: "Axes", inputs: ReportInputs, law: ScalingLaw, heights: list[float], *, wide: bool
) -> None:
    """Every run: filled, or a ring where it was held out."""
    names = list(inputs.sizes)
    for row, height in zip(law.rows, heights, strict=True):
        colour = size_colour(names.index(row["params"]))
        axes.plot(
            row["flops_6nd"],
            height,
            "o",
            markersize=6.5 if wide else 5,
            markerfacecolor=CARD if row["held_out"] else colour,
            markeredgecolor=colour if row["held_out"] else CARD,
            markeredgewidth=1.7 if row["held_out"] else 0.6,
            zorder=4,
        )


def _frontier(axes: "Axes", fit: Fit, *, wide: bool) -> None:
    low, high = fit.domain["flops"]
    flops = np.geomspace(low, 10 * high, 60)
    best = _best(fit.form.vector[None], flops, fit)[0]
    if len(fit.draws):
        spread = _best(fit.draws, flops, fit)
        ends = np.array([quantiles(column, fit.level) for column in spread.T])
        axes.fill_between(flops, *ends.T, color=INK, alpha=0.16, linewidth=0, zorder=1)
    inside = np.append(flops[flops < high], high)
    outside = np.insert(flops[flops > high], 0, high)
    axes.plot(inside, _best(fit.form.vector[None], inside, fit)[0], color=INK, lw=1.6)
    axes.plot(
        outside,
        _best(fit.form.vector[None], outside, fit)[0],
        color=INK,
        lw=1.6,
        ls=(0, (4, 3)),
    )
    axes.axvline(high, color=MUTED, linewidth=0.9, ls=(0, (2, 3)), zorder=1)
    axes.annotate(
        "largest run" if wide else "largest",
        (high, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-6, -12),
        textcoords="offset points",
        ha="right",
        fontsize=11,
        color=MUTED,
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


def _excess(axes: "Axes", fit: Fit, inputs: ReportInputs, law: ScalingLaw, *, wide: bool) -> None:
    """How far above the frontier each run is, and each size by the law; each touches 0 once."""
    low, high = fit.domain["ratio"]
    present = [n for n in inputs.sizes if any(row["params"] == n for row in law.rows)]
    for place, params in enumerate(present):
        colour = size_colour(list(inputs.sizes).index(params))
        tokens = params * np.geomspace(low / BEYOND_HORIZONS, high * BEYOND_HORIZONS, 120)
        flops = fit.flop_factor * params * tokens
        above = _above(fit, fit.form(params, tokens), flops)
        axes.plot(flops, above, color=colour, linewidth=1.5, alpha=0.8, zorder=3)
        best = int(np.argmin(above))
        axes.annotate(
            inputs.sizes[params].replace("x", "×"),
            (flops[best], 0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 5 if wide else 4 + 13 * (place % 2)),  # neighbours would touch on a phone
            textcoords="offset points",
            ha="center",
            fontsize=11 if wide else 10,
            fontweight="bold",
            color=colour,
        )
    heights = [
        float(_above(fit, np.array([row["loss"]]), np.array([row["flops_6nd"]]))[0])
        for row in law.rows
    ]
    _dots(axes, inputs, law, heights, wide=wide)
    axes.axhline(0, color=INK, linewidth=1.6, zorder=2)
    top = min(max(heights) * 1.15 + 0.3, MOST_EXCESS)
    # Below the lowest dot there is room for the names.
    axes.set_ylim(min(0.0, *heights) - (0.2 if wide else 0.34) * top, top)
    axes.axvline(fit.domain["flops"][1], color=MUTED, linewidth=0.9, ls=(0, (2, 3)), zorder=1)


def _above(fit: Fit, loss: Floats, flops: Floats) -> Floats:
    """Per cent above the fitted frontier."""
    return np.asarray(100 * np.log(loss / _best(fit.form.vector[None], flops, fit)[0]))


def _best(coefficients: Floats, flops: Floats, fit: Fit) -> Floats:
    """Loss at the optimum of every coefficient set (rows) and budget (columns)."""
    columns = []
    e, a, b, alpha, beta = coefficients.T
    for budget in flops:
        log_n, log_d = fit.form.log_optimum(
            coefficients, float(budget), flop_factor=fit.flop_factor
        )
        # A resample without one of the terms has its optimum at infinity, where both are 0.
        with np.errstate(over="ignore", invalid="ignore"):
            size_term = np.nan_to_num(a * np.exp(-alpha * log_n))
            columns.append(e + size_term + np.nan_to_num(b * np.exp(-beta * log_d)))
    return np.stack(columns, axis=1)
