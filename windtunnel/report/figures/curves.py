"""Training loss against tokens, one panel per size: the trunk, and the decays that leave it."""

import math
from typing import TYPE_CHECKING

import numpy as np

from windtunnel.laws.table import Floats
from windtunnel.report.figures.drawing import Drawing
from windtunnel.report.figures.style import Style, counts, tip
from windtunnel.report.formatting import count, run_tip
from windtunnel.report.inputs import ReportInputs
from windtunnel.runs.curves import Curve, bin_means
from windtunnel.runs.forecast import law_runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRUNK_BINS, BRANCH_BINS = 110, 12
MOST_TRUNKS = 8
"""Of one size; of more, those whose decayed runs end lowest: hundreds of lines show nothing."""
SKIPPED = 0.03
"""Share of a size's longest run that is not shown: the first fall would set the scale."""


def curves(inputs: ReportInputs) -> Drawing | None:
    """The figure; None before a curve has been written."""
    sizes = [n for n in inputs.sizes if any(curve.params == n for curve in inputs.curves)]
    if not sizes:
        return None

    def draw(style: Style) -> "Figure":
        figure, panels = style.panels(len(sizes), across=3, height=(250, 215), margin=20)
        figure.set_layout_engine("constrained", hspace=0.1)
        for axes, params in zip(panels, sizes, strict=True):
            _panel(axes, style, inputs, params)
        return figure

    several = "a size" if len(sizes) == 1 else f"{len(sizes)} sizes"
    alt = f"Training loss against tokens for {several}: trunks and the branches that leave them."
    return Drawing(name="curves", alt=alt, draw=draw)


def _panel(axes: "Axes", style: Style, inputs: ReportInputs, params: int) -> None:
    """One size on axes of its own: sizes lie decades apart, and a decay is a few per cent."""
    colour, paint = style.colour(params), style.paint
    axes.set_xscale("log")
    shown = _shown_trunks(inputs, params)
    mine = [curve for curve in inputs.curves if curve.trunk in shown and curve.params == params]
    trunks = {curve.trunk: _smooth(curve) for curve in mine if curve.kind == "trunk"}
    first_seed = min(curve.seed for curve in mine)
    for curve in mine:
        is_trunk = curve.kind == "trunk"
        x, y = trunks[curve.trunk] if is_trunk else _smooth(curve)
        if not is_trunk and curve.trunk in trunks:  # let the branch begin on its trunk
            x, y = (np.insert(v, 0, start) for v, start in zip(
                (x, y), (curve.tokens[0], np.interp(curve.tokens[0], *trunks[curve.trunk])),
                strict=True))  # fmt: skip
        axes.plot(
            x,
            y,
            color=paint.muted if is_trunk else colour,
            linewidth=1.2 if is_trunk else 1.8,
            alpha=1 if curve.seed == first_seed else 0.4,
            zorder=2 if is_trunk else 3,
        )
    ends = [run for run in law_runs(inputs.runs) if run.trunk in shown]
    losses = [run.loss for run in ends if run.loss is not None]
    (dots,) = axes.plot(
        [run.tokens for run in ends],
        losses,
        "o",
        markersize=5.5,
        markerfacecolor=colour,
        markeredgecolor=paint.card,
        markeredgewidth=0.7,
        zorder=4,
    )
    tip(dots, [run_tip(run) for run in ends])
    axes.set_xlim(left=_first_shown(mine))
    axes.set_ylim(*_heights(mine, losses))
    _crosses(axes, style, inputs, mine)
    style.dress(axes, x="Tokens", y="")
    title = f"{style.name(params)}, {count(params)} params"
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=paint.ink)
    counts(axes)


def _shown_trunks(inputs: ReportInputs, params: int) -> set[str]:
    """Trunks of a size: all of them, or of many the best; a trunk without an end comes last."""
    lowest: dict[str, float] = {}
    for curve in inputs.curves:
        if curve.params == params:
            lowest.setdefault(curve.trunk, math.inf)
    for run in law_runs(inputs.runs):
        if run.trunk in lowest and run.loss is not None:
            lowest[run.trunk] = min(lowest[run.trunk], run.loss)
    return set(sorted(lowest, key=lambda trunk: lowest[trunk])[:MOST_TRUNKS])


def _crosses(axes: "Axes", style: Style, inputs: ReportInputs, mine: list[Curve]) -> None:
    """Where a run left its path."""
    diverged = {each.segment for each in inputs.states if each.state == "diverged"}
    low, high = axes.get_ylim()
    for curve in mine:
        if curve.segment in diverged:
            height = min(float(curve.loss[-1]), high - 0.05 * (high - low))
            axes.plot(curve.tokens[-1], height, "x", color=style.paint.ink, ms=8, mew=2, zorder=6)


def _smooth(curve: Curve) -> tuple[Floats, Floats]:
    """Means over log-spaced bins, so that the eye sees the trend and not the batches."""
    bins = TRUNK_BINS if curve.kind == "trunk" else BRANCH_BINS
    if curve.tokens.size <= bins:
        return curve.tokens, curve.loss
    edges = np.geomspace(curve.tokens[0], curve.tokens[-1], bins + 1)[1:-1]
    return bin_means(curve.tokens, curve.loss, edges)


def _first_shown(mine: list[Curve]) -> float:
    longest = max(float(curve.tokens[-1]) for curve in mine)
    forks = [float(curve.tokens[0]) for curve in mine if curve.kind == "branch"]
    left = min([SKIPPED * longest, *(0.6 * fork for fork in forks)])
    return max(left, min(float(curve.tokens[0]) for curve in mine))


def _heights(mine: list[Curve], ends: list[float]) -> tuple[float, float]:
    """Range of what is shown, with a margin; a divergence does not set the scale."""
    left = _first_shown(mine)
    shown = [_smooth(curve) for curve in mine]
    values = np.concatenate([np.array(ends), *(loss[tokens >= left] for tokens, loss in shown)])
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(np.quantile(values, 0.99))
    margin = 0.08 * max(high - low, 0.01)
    return low - margin, high + margin
