"""Training dynamics: every series against updates, through the stable phase and the decay."""

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from windtunnel.findings.dynamics import TrainingDynamics, TrunkAndDecay, mean_of_known
from windtunnel.laws.table import Floats
from windtunnel.report.figures.drawing import Drawing
from windtunnel.report.figures.style import DASHED, Style, grid_place, log_ticks
from windtunnel.runs.dynamics import SegmentDynamics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = Callable[[SegmentDynamics], Floats]

POINTS = 20
"""Of a decay; the stable phase has points as far from each other."""
SHOWN_BEFORE = 2.0
"""How much of the stable phase is shown, in lengths of the decay."""


def _series(name: str) -> Values:
    return lambda segment: segment.series[name]


def _change(segment: SegmentDynamics) -> Floats:
    """Mean over the matrices, where a window ended."""
    every = np.array(list(segment.changes.values()))
    return every.mean(axis=0) if every.size else np.full(segment.step.size, math.nan)


PANELS: tuple[tuple[str, Values, bool, Values | None], ...] = (
    ("Learning rate", _series("lr"), True, None),
    ("Training loss (nats per token)", _series("loss"), False, None),
    ("Largest change of a weight in a window", _change, True, None),
    ("Gradient norm", _series("grad_norm"), False, None),
    ("Share of positive cosines", _series("cosine_positive"), False, None),
    ("Slope along the last step, |D1|, and dashed D1", _series("d1_size"), False, _series("d1")),
    ("Change of slope, |D2|", _series("d2_size"), True, None),
    ("Curvature", _series("curvature"), True, None),
)
"""Title, what of a segment, whether its axis is logarithmic, and what is dashed beside it."""


def drawings(finding: TrainingDynamics) -> list[Drawing]:
    """Small multiples; none where there is nothing to compare."""
    if not finding.pairs:
        return []

    def draw(style: Style) -> "Figure":
        from matplotlib.lines import Line2D

        figure, panels = style.panels(
            len(PANELS), across=2, height=(190, 165), margin=40, sharex=True
        )
        figure.set_layout_engine("constrained", hspace=0.06, wspace=0.06)
        for axes, (title, values, is_log, dashed) in zip(panels, PANELS, strict=True):
            _panel(axes, style, finding.pairs, values)
            if dashed is not None:
                _panel(axes, style, finding.pairs, dashed, dashed=True)
            if is_log:
                axes.set_yscale("log")
            style.dress(axes, x="Updates" if grid_place(axes).is_last_row() else "", y=title)
            if is_log:
                log_ticks(axes.yaxis, counted=False, most=4)
            else:
                axes.locator_params(axis="y", nbins=4)
            axes.locator_params(axis="x", nbins=6 if style.wide else 4)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        colour, muted = style.colour(finding.pairs[0].branch.params), style.paint.muted
        key = [
            (Line2D([], [], color=muted, lw=2), "stable"),
            (Line2D([], [], color=colour, lw=2), "decay"),
            (Line2D([], [], color=muted, lw=0.8, alpha=0.5), "one seed"),
            (Line2D([], [], color=style.paint.ink, lw=1, ls=":"), "decay begins"),
        ]
        style.key(figure, key)
        return figure

    alt = (
        f"{finding.what}: eight series against updates, grey in the stable phase, coloured in the "
        "decay, which begins at the dotted line; thin lines are single seeds."
    )
    name = re.sub(r"[^a-z0-9]+", "-", f"training dynamics {finding.what}".lower())
    return [Drawing(name=name, alt=alt, draw=draw)]


def _panel(
    axes: "Axes",
    style: Style,
    pairs: tuple[TrunkAndDecay, ...],
    values: Values,
    *,
    dashed: bool = False,
) -> None:
    """One series: each seed thin, the mean of all thick; dashed without the seeds."""
    first = pairs[0]
    width = first.decay / POINTS
    for is_decay in (False, True):
        colour = style.colour(first.branch.params) if is_decay else style.paint.muted
        begin, end = (
            (first.fork, first.fork + first.decay)
            if is_decay
            else (max(0.0, first.fork - SHOWN_BEFORE * first.decay), first.fork)
        )
        edges = np.linspace(begin, end, max(2, round((end - begin) / width) + 1))
        middles = (edges[1:] + edges[:-1]) / 2
        lines = [_binned(pair.branch if is_decay else pair.trunk, values, edges) for pair in pairs]
        for line in lines if len(lines) > 1 and not dashed else ():
            known = np.isfinite(line)
            axes.plot(middles[known], line[known], color=colour, lw=0.8, alpha=0.45, zorder=2)
        mean = np.array([mean_of_known(column) for column in np.array(lines).T])
        known = np.isfinite(mean)
        axes.plot(middles[known], mean[known], color=colour, lw=2, zorder=3,
                  ls=DASHED if dashed else "-")  # fmt: skip
    axes.axvline(first.fork, color=style.paint.ink, lw=1, ls=":", zorder=1)


def _binned(segment: SegmentDynamics, values: Values, edges: Floats) -> Floats:
    """Means between the edges; nan where nothing was seen."""
    found = values(segment)
    index = np.searchsorted(edges, (segment.after + segment.step) / 2, side="right") - 1
    return np.array([mean_of_known(found[index == place]) for place in range(edges.size - 1)])
