"""Figures of learning-rate grids: LR curves and transfer, rate and batch together, sensitivity."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from windtunnel.findings.lr_batch import RULES, JointFinding, StepLaw
from windtunnel.findings.lr_curves import RATE, LRCurve, LRCurves
from windtunnel.findings.lr_sensitivity import SensitivityFinding
from windtunnel.findings.lr_transfer import TransferFinding
from windtunnel.report.figures.drawing import Drawing
from windtunnel.report.figures.style import (
    DASHED,
    Style,
    grid_place,
    log_ticks,
    tip,
)
from windtunnel.report.formatting import run_tip, short, typeset

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STRONGEST = 0.55
"""Opacity of the lowest cell: its number stays readable."""
FADED = 0.25
"""Share of the lowest loss at which a cell is blank; the shape of the curve lies below."""
DOTTED = (0, (1, 2))
RULE_LINES = {"none": DOTTED, "sqrt": DASHED}
Key = dict[str, "Artist"]


def lr_batch_drawings(finding: JointFinding) -> list[Drawing]:
    """One figure with a panel a size."""

    def draw(style: Style) -> "Figure":
        figure, panels = style.panels(len(finding.sizes), across=3, height=(260, 330), margin=50)
        key: Key = {}
        for place, axes in enumerate(panels):
            key |= _surface(axes, style, finding, place)
        style.key(figure, [(mark, words) for words, mark in key.items()])
        return figure

    names = ", ".join(size.name for size in finding.sizes if size.name)
    alt = "Loss above the best over batch and learning rate" + (f" at {names}." if names else ".")
    return [Drawing(name=f"{finding.experiment}-surface", alt=alt, draw=draw)]


def _surface(axes: "Axes", style: Style, finding: JointFinding, place: int) -> Key:
    size, law = finding.sizes[place], finding.steplaw[place]
    axes.set_xscale("log")
    axes.set_yscale("log")
    tried = sorted({float(rate) for v in size.curves for rate in (*v.rates, *v.diverged)})
    batches = [curve.at for curve in size.curves]
    across, up = _edges(batches), _edges(tried)
    axes.set_xlim(across[0], across[-1])
    axes.set_ylim(up[0], up[-1])
    key = _cells(axes, style, size, tried=tried, across=across, up=up)
    key |= _rules(axes, style, finding, size)
    key |= _bests(axes, style, size)
    key |= _published(axes, style, law)
    name = f"{size.name}: l" if size.name else "L"
    style.dress(axes, x="Batch (tokens per update)", y=f"{name}earning rate")
    axes.grid(visible=False)
    log_ticks(axes.xaxis, counted=True, most=5)
    axes.set_xticks(batches, [f"{batch:.0f}" if batch < 1e4 else short(batch) for batch in batches])
    axes.set_yticks(tried, [f"{rate:.3g}" for rate in tried])
    axes.minorticks_off()
    return key


def _edges(centres: list[float]) -> list[float]:
    """Borders between cells, evenly in logs."""
    logs = np.log(centres)
    middle = (logs[1:] + logs[:-1]) / 2
    ends = [logs[0] - (middle[0] - logs[0]), *middle, logs[-1] + (logs[-1] - middle[-1])]
    return [float(edge) for edge in np.exp(ends)]


def _cells(
    axes: "Axes", style: Style, size: LRCurves, *, tried: list[float], across: list[float],
    up: list[float],
) -> Key:  # fmt: skip
    """Mean loss above the lowest cell of the size, strongest where it is lowest."""
    from matplotlib.patches import Rectangle

    lowest = min(float(curve.means.min()) for curve in size.curves)
    most = max(float(curve.means.max()) for curve in size.curves) - lowest
    blank = min(FADED * lowest, most) or 1.0
    for column, curve in enumerate(size.curves):
        for row, rate in enumerate(tried):
            known = curve.means[curve.rates == rate]
            words, strength = ("×" if rate in curve.diverged else ""), 0.0
            if known.size:
                above = float(known[0]) - lowest
                words = f"{above:.2f}"
                strength = STRONGEST * max(0.0, 1 - (above / blank) ** 0.5)
            corner = (across[column], up[row])
            cell = Rectangle(
                corner, across[column + 1] - corner[0], up[row + 1] - corner[1],
                facecolor=style.paint.accent, alpha=strength, lw=0, zorder=0.5,
            )  # fmt: skip
            axes.add_patch(cell)
            axes.text(corner[0] * 1.06, up[row + 1] / 1.04, words, ha="left", va="top", fontsize=9,
                      color=style.paint.muted, zorder=1)  # fmt: skip
    swatch = Rectangle((0, 0), 1, 1, facecolor=style.paint.accent, alpha=STRONGEST, lw=0)
    return {"nats above the lowest": swatch}


def _rules(axes: "Axes", style: Style, finding: JointFinding, size: LRCurves) -> Key:
    """`none` and `sqrt` from the middle batch's best rate."""
    anchor = finding.rule_costs["none"].anchor
    start = next((v.best for v in size.curves if v.at == anchor and v.best), None)
    if start is None:
        return {}
    x = np.geomspace(*axes.get_xlim(), 2)
    return {
        f"rule: {rule}": axes.plot(
            x, start.value * (x / anchor) ** RULES[rule], color=style.paint.ink, lw=1.4, ls=dashes,
            zorder=2,
        )[0]
        for rule, dashes in RULE_LINES.items()
    }  # fmt: skip


def _bests(axes: "Axes", style: Style, size: LRCurves) -> Key:
    key: Key = {}
    for curve in size.curves:
        if curve.best is None:
            continue
        best, colour = curve.best, style.paint.accent
        if np.isfinite(best.low):
            axes.plot([curve.at] * 2, [best.low, best.high], color=colour, lw=2.2, zorder=3)
        (key["best rate, 90%"],) = axes.plot(
            curve.at, best.value, "D", ms=6.5, mfc=style.paint.card, mec=colour, mew=2, zorder=4
        )
    return key


def _published(axes: "Axes", style: Style, law: StepLaw) -> Key:
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
    (mark,) = axes.plot(*inside, marker, ms=11 if marker == "*" else 9, mfc=style.paint.ink,
                        mec=style.paint.card, mew=0.8, ls="", zorder=5)  # fmt: skip
    return {"StepLaw" if marker == "*" else "StepLaw, beyond the panel": mark}


def sensitivity_drawings(finding: SensitivityFinding) -> list[Drawing]:
    """One figure: the losses as they enter the sensitivity, capped at the loss at init."""

    def draw(style: Style) -> "Figure":
        figure = style.blank(400 if style.wide else 320)
        axes = figure.add_subplot()
        axes.set_xscale("log")
        key: list[tuple[Artist, str]] = []
        colours = [variant_colour(style, place) for place in range(len(finding.variants))]
        for each, colour in zip(finding.variants, colours, strict=True):
            (mean,) = axes.plot(each.rates, each.means, color=colour, lw=1.8, zorder=2)
            dots = axes.plot(np.tile(each.rates, len(each.losses)), each.losses.ravel(), "o",
                             ms=5, mfc=colour, mec=style.paint.card, mew=0.6,
                             zorder=3)  # fmt: skip
            key = [(dots[0], "run"), (mean, "mean over seeds")]
        if any(each.losses.max() >= finding.loss_at_init for each in finding.variants):
            line = axes.axhline(finding.loss_at_init, color=style.paint.muted, lw=1.2, ls=DASHED,
                                zorder=1)  # fmt: skip
            key.append((line, "loss at init, also for runs that diverged"))
        axes.margins(x=0.05)
        style.dress(axes, x="Learning rate", y="Loss (nats per token)")
        log_ticks(axes.xaxis, counted=False, most=8 if style.wide else 5)
        style.names(axes, [each.name for each in finding.variants],
                    np.array([each.means[-1] for each in finding.variants]), colours,
                    title="")  # fmt: skip
        style.key(figure, key)
        return figure

    names = " and ".join(each.name for each in finding.variants)
    alt = f"Loss over learning rate, {names}."
    return [Drawing(name=f"{finding.experiment}-sensitivity", alt=alt, draw=draw)]


FINE = 60
OFF = 0.97
"""Height of what lies above the panel, as a share of it."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A way to count rates: its axis title, and the factor from the study's rate."""

    title: str
    factor: Callable[[LRCurve], float]


PLAIN = View(title="Learning rate", factor=lambda _: 1.0)
RAW = View(title="Learning rate of hidden matrices", factor=lambda curve: curve.hidden_scale)
RESCALED = View(
    title="The same × width / base width",
    factor=lambda curve: curve.hidden_scale * curve.width_ratio,
)


def transfer_drawings(finding: TransferFinding) -> list[Drawing]:
    """The LR curves, in raw and rescaled rates where widths differ, and the loss given up."""
    found = [_curves(finding)]
    if any(variant.transferred for variant in finding.variants):
        found.append(_given_up(finding))
    return found


def views(finding: TransferFinding) -> tuple[View, ...]:
    """Raw and rescaled where the role table moves rates with width, one way for some variant."""
    scales = [
        tuple((curve.at, curve.hidden_scale) for curve in variant.curves)
        for variant in finding.variants
    ]
    moved = any(scale != 1 for each in scales for _, scale in each)
    told_apart = len(scales) == 1 or len(set(scales)) > 1
    if finding.along == "width" and moved and told_apart:
        return RAW, RESCALED
    return (
        PLAIN
        if finding.setting == RATE
        else View(title=finding.noun.capitalize(), factor=PLAIN.factor),
    )


def variant_colour(style: Style, place: int) -> str:
    """Of one of a few variants: the accent, ink, then grey."""
    return (style.paint.accent, style.paint.ink, style.paint.muted)[min(place, 2)]


def _curves(finding: TransferFinding) -> Drawing:
    shown = views(finding)

    def draw(style: Style) -> "Figure":
        drawn = [(variant, view) for variant in finding.variants for view in shown]
        figure, panels = style.panels(
            len(drawn), across=2, height=(220, 270), margin=50, sharey=True
        )
        low, top = _range(finding)
        rates = [
            rate * view.factor(curve)
            for variant, view in drawn
            for curve in variant.curves
            for rate in (curve.rates[0], curve.rates[-1], *curve.diverged)
        ]
        key: Key = {}
        for axes, (variant, view) in zip(panels, drawn, strict=True):
            axes.set_xscale("log")
            # One scale for all, or a drift would look smaller where the rates span more.
            axes.set_xlim(min(rates) / 1.2, max(rates) * 1.2)
            axes.set_ylim(low, top)
            for curve in variant.curves:
                colour = _colour(style, finding, curve)
                key |= _curve(axes, style, curve, factor=view.factor(curve), colour=colour)
            name = f"{variant.name}: loss" if variant.name else "Loss"
            style.dress(axes, x=view.title, y=f"{name} (nats per token)")
            axes.tick_params(labelleft=True)
            log_ticks(axes.xaxis, counted=False, most=5)
            if axes is panels[-1] or grid_place(axes).is_last_col():
                _name(axes, style, finding, variant)
        order = ("run", "lowest, 90% interval", "off the top", "diverged")
        style.key(figure, [(key[words], words) for words in order if words in key])
        return figure

    noun = "learning rate" if finding.setting == RATE else finding.noun
    of = f"raw and rescaled {noun}" if len(shown) > 1 else noun
    names = " and ".join(variant.name for variant in finding.variants if variant.name)
    alt = f"Loss over {of} for every {finding.word}" + (f", {names}." if names else ".")
    return Drawing(name=f"{finding.experiment}-lr-curves", alt=alt, draw=draw)


def _colour(style: Style, finding: TransferFinding, curve: LRCurve) -> str:
    """Of its size; lengths of one size go along the ramp."""
    if finding.along != "tokens":
        return style.colour(curve.params)
    places = [each.at for variant in finding.variants for each in variant.curves]
    low, reach = np.log(min(places)), np.log(max(places) / min(places))
    return style.along(float((np.log(curve.at) - low) / reach))


def _curve(axes: "Axes", style: Style, curve: LRCurve, *, factor: float, colour: str) -> Key:
    """Runs, their means, the parabola and its lowest point with its interval."""
    key: Key = {}
    _, top = axes.get_ylim()
    faint = 1.0 if curve.best is None else 0.4
    axes.plot(curve.rates * factor, curve.means, color=colour, lw=1, alpha=faint, zorder=1)
    above = curve.loss > top
    rates = curve.lr * factor
    (key["run"],) = axes.plot(rates[~above], curve.loss[~above], "o", ms=5, mfc=colour,
                              mec=style.paint.card, mew=0.6, zorder=3)  # fmt: skip
    tip(key["run"], [run_tip(run) for run, off in zip(curve.runs, above, strict=True) if not off])
    edge = axes.get_xaxis_transform()
    if above.any():
        high = np.unique(rates[above])
        (key["off the top"],) = axes.plot(high, np.full(high.size, OFF), "^", ms=6, color=colour,
                                          transform=edge, zorder=3)  # fmt: skip
    if curve.diverged:
        gone = np.array(curve.diverged) * factor
        (key["diverged"],) = axes.plot(gone, np.full(gone.size, OFF - 0.06), "x", ms=7, mew=2,
                                       color=colour, transform=edge, zorder=3)  # fmt: skip
    if curve.best is None:
        return key
    best = curve.best
    fine = np.geomspace(curve.near[0], curve.near[-1], FINE)
    axes.plot(fine * factor, curve.lowest + curve.above_best(fine), color=colour, lw=1.8,
              zorder=2)  # fmt: skip
    if np.isfinite(best.low):
        axes.plot(np.array([best.low, best.high]) * factor, [curve.lowest] * 2, color=colour,
                  lw=4.5, alpha=0.45, solid_capstyle="butt", zorder=4)  # fmt: skip
    (key["lowest, 90% interval"],) = axes.plot(
        best.value * factor, curve.lowest, "D", ms=6.5, mfc=style.paint.card, mec=colour, mew=2,
        zorder=5,
    )  # fmt: skip
    return key


def _name(axes: "Axes", style: Style, finding: TransferFinding, variant: LRCurves) -> None:
    titles = {"params": style.sizes, "tokens": "length"}
    plain = finding.along in {"width", "depth"}
    style.names(
        axes,
        [f"{curve.at:.0f}" if plain else typeset(curve.label) for curve in variant.curves],
        np.array([curve.lowest for curve in variant.curves]),
        [_colour(style, finding, curve) for curve in variant.curves],
        title=titles.get(finding.along, finding.along),
    )


def _range(finding: TransferFinding) -> tuple[float, float]:
    """Losses that are shown: the parabolas, and as much again above them."""
    curves = [curve for variant in finding.variants for curve in variant.curves]
    near = [curve.loss[np.isin(curve.lr, curve.near)] for curve in curves if curve.best]
    seen = np.concatenate(near or [curve.means for curve in curves])
    low, high = float(seen.min()), float(seen.max())
    most = max(float(curve.loss.max()) for curve in curves)
    top = min(most, high + 0.6 * (high - low))
    margin = 0.07 * (top - low)
    return low - margin, top + margin


def _given_up(finding: TransferFinding) -> Drawing:
    def draw(style: Style) -> "Figure":
        figure = style.blank(350 if style.wide else 310)
        axes = figure.add_subplot()
        axes.set_xscale("log")
        key: list[tuple[Artist, str]] = []
        if finding.noise is not None:
            band = axes.axhspan(0, finding.noise.sigma.value, color=style.paint.muted, alpha=0.18,
                                lw=0, zorder=0)  # fmt: skip
            key.append((band, "noise between seeds (standard deviation)"))
        shown = [variant for variant in finding.variants if variant.transferred]
        colours = [_variant(style, finding, place) for place in range(len(shown))]
        middle = (len(shown) - 1) / 2
        heights = [
            # Side by side, or their intervals would lie on each other.
            _costs(axes, variant, colour=colour, aside=1.015 ** (place - middle))
            for place, (variant, colour) in enumerate(zip(shown, colours, strict=True))
        ]
        places = sorted({curve.at for variant in shown for curve in variant.curves})
        axes.margins(x=0.08, y=0.1)
        unit, of = ("", "smallest") if finding.along != "tokens" else (" (tokens)", "shortest")
        nats = " (nats per token)" if style.wide else ""
        style.dress(
            axes,
            x=f"{finding.word.capitalize()}{unit}",
            y=f"Loss given up by the {finding.noun} of the {of}{nats}",
        )
        log_ticks(axes.xaxis, counted=finding.along in {"params", "tokens"}, most=6)
        if finding.along in {"width", "depth"}:
            axes.set_xticks(places, [f"{place:.0f}" for place in places])
            axes.minorticks_off()
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        if len(shown) > 1:
            style.names(axes, [variant.name for variant in shown], np.array(heights), colours,
                        title="")  # fmt: skip
        style.key(figure, key)
        return figure

    alt = f"Loss above the best of every {finding.word} at the {finding.noun} of the first one."
    return Drawing(name=f"{finding.experiment}-given-up", alt=alt, draw=draw)


def _variant(style: Style, finding: TransferFinding, place: int) -> str:
    """Lengths have sizes for variants, which have their own colours."""
    if finding.along == "tokens":
        return style.colour(finding.variants[place].largest.params)
    return variant_colour(style, place)


def _costs(axes: "Axes", variant: LRCurves, *, colour: str, aside: float) -> float:
    """One variant's losses with their intervals, from 0 at the source; the last one's height."""
    known = [each for each in reversed(variant.transferred) if each.known]
    source = variant.transferred[0].source.at
    x = aside * np.array([source, *(each.to.at for each in known)])
    y = np.array([0.0, *(each.lost.value for each in known)])
    axes.plot(x, y, color=colour, lw=1.8, zorder=2)
    for at, each in zip(x[1:], known, strict=True):
        # Without an optimum of its own a place gives up this much at least.
        marker = "o" if each.to.best else "^"
        axes.plot(at, each.lost.value, marker, ms=7, color=colour, zorder=3)
        axes.plot([at] * 2, [each.lost.low, each.lost.high], color=colour, lw=1.8, alpha=0.6,
                  zorder=2)  # fmt: skip
    gone = [aside * each.to.at for each in variant.transferred if not each.known]
    axes.plot(gone, [OFF] * len(gone), "x", ms=8, mew=2, color=colour,
              transform=axes.get_xaxis_transform(), zorder=3)  # fmt: skip
    return float(y[-1])
