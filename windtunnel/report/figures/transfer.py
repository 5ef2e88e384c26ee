"""Learning-rate transfer: the valley of every size, and what the smallest one's rate gives up."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from windtunnel.findings.rates.transfer import TransferFinding
from windtunnel.findings.rates.valleys import Valley, Valleys
from windtunnel.report.figures.canvas import RAMP_LIGHT, ramp_colour
from windtunnel.report.figures.sheet import Drawing, Sheet
from windtunnel.report.figures.ticks import log_ticks

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FINE = 60
OFF = 0.97
"""Height of what lies above the panel, as a share of it."""
Key = dict[str, "Artist"]


@dataclass(frozen=True, kw_only=True)
class View:
    """A way to count rates: its axis title, and the factor from the study's rate."""

    title: str
    factor: Callable[[Valley], float]


PLAIN = View(title="Learning rate", factor=lambda _: 1.0)
RAW = View(title="Learning rate of hidden matrices", factor=lambda valley: valley.hidden_scale)
RESCALED = View(
    title="The same × width / base width",
    factor=lambda valley: valley.hidden_scale * valley.width_ratio,
)


def drawings(finding: TransferFinding) -> list[Drawing]:
    """The valleys, in raw and rescaled rates where widths differ, and the loss given up."""
    found = [_valleys(finding)]
    if any(variant.carried for variant in finding.variants):
        found.append(_given_up(finding))
    return found


def views(finding: TransferFinding) -> tuple[View, ...]:
    """Raw and rescaled where the role table moves rates with width, one way for some variant."""
    scales = [
        tuple((valley.at, valley.hidden_scale) for valley in variant.valleys)
        for variant in finding.variants
    ]
    moved = any(scale != 1 for each in scales for _, scale in each)
    told_apart = len(scales) == 1 or len(set(scales)) > 1
    return (RAW, RESCALED) if finding.along == "width" and moved and told_apart else (PLAIN,)


def variant_colour(sheet: Sheet, place: int) -> str:
    """Of one of a few variants: the accent, ink, then grey."""
    return (sheet.paint.accent, sheet.paint.ink, sheet.paint.muted)[min(place, 2)]


def _valleys(finding: TransferFinding) -> Drawing:
    shown = views(finding)

    def draw(sheet: Sheet) -> "Figure":
        panels = [(variant, view) for variant in finding.variants for view in shown]
        columns = 2 if sheet.wide and len(panels) > 1 else 1
        rows = -(-len(panels) // columns)
        figure = sheet.blank((300 if sheet.wide else 270) * rows + 60)
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
        low, top = _range(finding)
        rates = [
            rate * view.factor(valley)
            for variant, view in panels
            for valley in variant.valleys
            for rate in (valley.rates[0], valley.rates[-1], *valley.diverged)
        ]
        key: Key = {}
        for place, axes in enumerate(grid.flat):
            if place >= len(panels):
                axes.set_axis_off()
                continue
            variant, view = panels[place]
            axes.set_xscale("log")
            # One scale for all, or a drift would look smaller where the rates span more.
            axes.set_xlim(min(rates) / 1.2, max(rates) * 1.2)
            axes.set_ylim(low, top)
            for valley in variant.valleys:
                colour = _colour(sheet, finding, valley)
                key |= _valley(axes, sheet, valley, factor=view.factor(valley), colour=colour)
            name = f"{variant.name}: loss" if variant.name else "Loss"
            sheet.dress(axes, x=view.title, y=f"{name} (nats per token)")
            axes.tick_params(labelleft=True)
            log_ticks(axes.xaxis, counted=False, most=5)
            if (place + 1) % columns == 0 or place + 1 == len(panels):
                _name(axes, sheet, finding, variant)
        order = ("run", "best rate, 90% interval", "off the top", "diverged")
        sheet.key(figure, [(key[words], words) for words in order if words in key])
        return figure

    of = "raw and rescaled learning rate" if len(shown) > 1 else "learning rate"
    names = " and ".join(variant.name for variant in finding.variants if variant.name)
    alt = f"Loss over {of} for every {finding.word}" + (f", {names}." if names else ".")
    return Drawing(name=f"{finding.experiment}-valleys", alt=alt, draw=draw)


def _colour(sheet: Sheet, finding: TransferFinding, valley: Valley) -> str:
    """Of its size; lengths of one size go along the ramp."""
    if finding.along != "tokens":
        return sheet.colour(valley.params)
    places = [each.at for variant in finding.variants for each in variant.valleys]
    low, reach = np.log(min(places)), np.log(max(places) / min(places))
    return ramp_colour(RAMP_LIGHT, float((np.log(valley.at) - low) / reach))


def _valley(axes: "Axes", sheet: Sheet, valley: Valley, *, factor: float, colour: str) -> Key:
    """Runs, their means, the parabola and its lowest point with its interval."""
    key: Key = {}
    _, top = axes.get_ylim()
    faint = 1.0 if valley.best is None else 0.4
    axes.plot(valley.rates * factor, valley.means, color=colour, lw=1, alpha=faint, zorder=1)
    above = valley.loss > top
    rates = valley.lr * factor
    (key["run"],) = axes.plot(rates[~above], valley.loss[~above], "o", ms=5, mfc=colour,
                              mec=sheet.paint.card, mew=0.6, zorder=3)  # fmt: skip
    edge = axes.get_xaxis_transform()
    if above.any():
        high = np.unique(rates[above])
        (key["off the top"],) = axes.plot(high, np.full(high.size, OFF), "^", ms=6, color=colour,
                                          transform=edge, zorder=3)  # fmt: skip
    if valley.diverged:
        gone = np.array(valley.diverged) * factor
        (key["diverged"],) = axes.plot(gone, np.full(gone.size, OFF - 0.06), "x", ms=7, mew=2,
                                       color=colour, transform=edge, zorder=3)  # fmt: skip
    if valley.best is None:
        return key
    best = valley.best
    fine = np.geomspace(valley.near[0], valley.near[-1], FINE)
    axes.plot(fine * factor, valley.lowest + valley.above_best(fine), color=colour, lw=1.8,
              zorder=2)  # fmt: skip
    if np.isfinite(best.low):
        axes.plot(np.array([best.low, best.high]) * factor, [valley.lowest] * 2, color=colour,
                  lw=4.5, alpha=0.45, solid_capstyle="butt", zorder=4)  # fmt: skip
    (key["best rate, 90% interval"],) = axes.plot(
        best.value * factor, valley.lowest, "D", ms=6.5, mfc=sheet.paint.card, mec=colour, mew=2,
        zorder=5,
    )  # fmt: skip
    return key


def _name(axes: "Axes", sheet: Sheet, finding: TransferFinding, variant: Valleys) -> None:
    titles = {"params": sheet.sizes, "tokens": "length"}
    plain = finding.along in {"width", "depth"}
    sheet.names(
        axes,
        [f"{valley.at:.0f}" if plain else valley.label for valley in variant.valleys],
        np.array([valley.lowest for valley in variant.valleys]),
        [_colour(sheet, finding, valley) for valley in variant.valleys],
        title=titles.get(finding.along, finding.along),
    )


def _range(finding: TransferFinding) -> tuple[float, float]:
    """Losses that are shown: the parabolas, and as much again above them."""
    valleys = [valley for variant in finding.variants for valley in variant.valleys]
    near = [valley.loss[np.isin(valley.lr, valley.near)] for valley in valleys if valley.best]
    seen = np.concatenate(near or [valley.means for valley in valleys])
    low, high = float(seen.min()), float(seen.max())
    most = max(float(valley.loss.max()) for valley in valleys)
    top = min(most, high + 0.6 * (high - low))
    margin = 0.07 * (top - low)
    return low - margin, top + margin


def _given_up(finding: TransferFinding) -> Drawing:
    def draw(sheet: Sheet) -> "Figure":
        figure = sheet.blank(350 if sheet.wide else 310)
        axes = figure.add_subplot()
        axes.set_xscale("log")
        key: list[tuple[Artist, str]] = []
        if finding.noise is not None:
            band = axes.axhspan(0, finding.noise.sigma.value, color=sheet.paint.muted, alpha=0.18,
                                lw=0, zorder=0)  # fmt: skip
            key.append((band, "noise between seeds (standard deviation)"))
        shown = [variant for variant in finding.variants if variant.carried]
        colours = [_variant(sheet, finding, place) for place in range(len(shown))]
        middle = (len(shown) - 1) / 2
        heights = [
            # Side by side, or their intervals would lie on each other.
            _costs(axes, variant, colour=colour, aside=1.015 ** (place - middle))
            for place, (variant, colour) in enumerate(zip(shown, colours, strict=True))
        ]
        places = sorted({valley.at for variant in shown for valley in variant.valleys})
        axes.margins(x=0.08, y=0.1)
        unit, of = ("", "smallest") if finding.along != "tokens" else (" (tokens)", "shortest")
        nats = " (nats per token)" if sheet.wide else ""
        sheet.dress(
            axes,
            x=f"{finding.word.capitalize()}{unit}",
            y=f"Loss given up by the rate of the {of}{nats}",
        )
        log_ticks(axes.xaxis, counted=finding.along in {"params", "tokens"}, most=6)
        if finding.along in {"width", "depth"}:
            axes.set_xticks(places, [f"{place:.0f}" for place in places])
            axes.minorticks_off()
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        if len(shown) > 1:
            sheet.names(axes, [variant.name for variant in shown], np.array(heights), colours,
                        title="")  # fmt: skip
        sheet.key(figure, key)
        return figure

    alt = f"Loss above the best of every {finding.word} when it is trained at the first one's rate."
    return Drawing(name=f"{finding.experiment}-given-up", alt=alt, draw=draw)


def _variant(sheet: Sheet, finding: TransferFinding, place: int) -> str:
    """Lengths have sizes for variants, which have their own colours."""
    if finding.along == "tokens":
        return sheet.colour(finding.variants[place].largest.params)
    return variant_colour(sheet, place)


def _costs(axes: "Axes", variant: Valleys, *, colour: str, aside: float) -> float:
    """One variant's losses with their intervals, from 0 at the source; the last one's height."""
    known = [each for each in reversed(variant.carried) if each.known]
    source = variant.carried[0].source.at
    x = aside * np.array([source, *(each.to.at for each in known)])
    y = np.array([0.0, *(each.lost.value for each in known)])
    axes.plot(x, y, color=colour, lw=1.8, zorder=2)
    for at, each in zip(x[1:], known, strict=True):
        # Without an optimum of its own a place gives up this much at least.
        marker = "o" if each.to.best else "^"
        axes.plot(at, each.lost.value, marker, ms=7, color=colour, zorder=3)
        axes.plot([at] * 2, [each.lost.low, each.lost.high], color=colour, lw=1.8, alpha=0.6,
                  zorder=2)  # fmt: skip
    gone = [aside * each.to.at for each in variant.carried if not each.known]
    axes.plot(gone, [OFF] * len(gone), "x", ms=8, mew=2, color=colour,
              transform=axes.get_xaxis_transform(), zorder=3)  # fmt: skip
    return float(y[-1])
