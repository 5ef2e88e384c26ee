"""Best batch against loss, and the equal-loss curves of every size that it was read from.

The data-model law's answers: the best ratio against compute, and what each fit makes of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from windtunnel.findings.batch import MINICPM_EXPONENT, BatchFinding
from windtunnel.findings.scaling_law import PUBLISHED, DataModelLaw, Laws
from windtunnel.laws import Fit
from windtunnel.laws.interval import quantiles
from windtunnel.laws.table import Floats
from windtunnel.report.figures import fit_curve, fit_two_step
from windtunnel.report.figures.drawing import Drawing
from windtunnel.report.figures.style import DASHED, Style, is_log, log_ticks

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def _along(number: int, style: Style) -> str:
    """The colour of a validation set."""
    return style.along(SET_SHARES[number])


def batch_drawings(finding: BatchFinding) -> list[Drawing]:
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

    def theirs(axes: "Axes", style: Style) -> "list[tuple[Artist, str]]":
        middle = float(np.exp(np.log(loss).mean()))
        reach = np.geomspace(loss.min(), loss.max(), 60)
        law = np.exp(np.log(batch).mean()) * (reach / middle) ** -MINICPM_EXPONENT
        line = axes.plot(reach, law, color=style.paint.accent, lw=1.8, ls=":", zorder=2)
        return [(line[0], f"MiniCPM's exponent, {MINICPM_EXPONENT}")]

    law = fit_curve.law(
        fitted, loss, batch, what="best batch at a loss", groups=params, behind=theirs
    )

    def draw(style: Style) -> "Figure":
        figure = law.draw(style)
        axes, sizes = figure.axes[0], np.unique(params)
        axes.set_xlabel(f"Loss ({fitted.loss_unit})", loc="right")
        style.names(
            axes,
            [style.name(size) for size in sizes],
            np.array([np.exp(np.log(batch[params == size]).mean()) for size in sizes]),
            [style.colour(size) for size in sizes],
            title=style.sizes,
        )
        return figure

    alt = "Best batch against loss of every size, the law, and MiniCPM's exponent beside it."
    return Drawing(name="batch-law", alt=alt, draw=draw)


def _of_size(fitted: Fit, params: float, name: str) -> Drawing:
    """Equal-loss curves of one size: curves of several would cross each other."""
    levels = [each for each in fitted.details["levels"] if each["params"] == params]
    curves = fit_two_step.batch(fitted.detailed({"levels": levels}))[0]

    def draw(style: Style) -> "Figure":
        figure = curves.draw(style)
        axes = figure.axes[0]
        axes.set_title(name.replace("x", "×"), fontsize=12, fontweight="bold", pad=10)
        return figure

    return Drawing(name=f"batch-levels-{name}", alt=f"Size {name}: {curves.alt}", draw=draw)


BEYOND = 100.0
"""How far past the largest run the ratio is drawn, as a factor in compute."""
POINTS = 17
WINDOW = 30.0
"""The D/N axis ends at the latest at this factor beyond what was measured and what was found."""
SET_SHARES = (0.25, 1.0, 0.5, 0.0, 0.75)
"""Places on the ramp of validation sets, told apart by colour-blind eyes in this order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Band:
    """The best D/N against compute, with the ends of its interval, shape (3, POINTS)."""

    label: str
    colour: Callable[[Style], str]
    ends: Floats


def scaling_drawings(finding: DataModelLaw) -> list[Drawing]:
    """Ratio against compute where there is an optimum; exponents and ratio of every fit."""
    ratio = [_by_compute(finding)] if finding.fit.has_optimum else []
    return [*ratio, _fits(finding)]


def _by_compute(finding: DataModelLaw) -> Drawing:
    low, high = finding.fit.domain["flops"]
    flops = np.unique(np.append(np.geomspace(low, high * BEYOND, POINTS - 1), high))
    mean = _Band(label="6ND", colour=lambda style: style.paint.ink, ends=_best(finding.fit, flops))
    rules = [mean]
    if finding.fit.exact is not None:
        rules.append(_Band(label="every FLOP", colour=lambda style: style.paint.accent,
                           ends=_best_exact(finding.fit, flops)))  # fmt: skip
    sets = [
        _Band(
            label=name,
            colour=partial(_along, i),
            ends=_best(laws.auto, flops),
        )
        for i, (name, laws) in enumerate(list(finding.by_set.items())[: len(SET_SHARES)])
        if laws.auto.has_optimum
    ]
    panels = [("by FLOP rule", rules), ("by validation set", sets)] if sets else [("", rules)]

    def draw(style: Style) -> "Figure":
        figure = style.blank(420 if style.wide else 320 * len(panels))
        across = (1, len(panels)) if style.wide else (len(panels), 1)
        grid = figure.subplots(*across, sharex=True, sharey=True, squeeze=False).flat
        key: dict[str, Artist] = {}
        for axes, (what, bands) in zip(grid, panels, strict=True):
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_ylim(*_window(finding.fit, [b for _, each in panels for b in each]))
            axes.set_xlim(flops[0], flops[-1])
            # Hatched: a second shade would be taken for a band.
            sampled = axes.axhspan(*finding.fit.domain["ratio"], facecolor="none", hatch="...",
                                   edgecolor=style.paint.muted, alpha=0.45, lw=0.8,
                                   zorder=0)  # fmt: skip
            edge = axes.axvline(high, color=style.paint.muted, lw=0.9, ls=(0, (2, 3)), zorder=1)
            for band in bands:
                drawn = _draw_band(axes, style, band, flops, high)
                key |= drawn | {"line": key.get("line", drawn["line"])}
            title = "Best tokens per param" + (f", {what}" if what else "")
            style.dress(axes, x="Compute 6ND (FLOPs)", y=title)
            log_ticks(axes.xaxis, counted=False, most=6 if style.wide else 4)
            log_ticks(axes.yaxis, counted=False, most=7)
            style.names(axes, [b.label for b in bands], np.array([b.ends[0, -1] for b in bands]),
                        [b.colour(style) for b in bands], title="")  # fmt: skip
        level = f"{finding.fit.level:.0%} interval"
        entries = [(key["line"], "best ratio, extrapolated where dashed")]
        entries += [(key["band"], level)] if "band" in key else []
        style.key(figure, [*entries, (sampled, "measured"), (edge, "largest run")])
        return figure

    alt = (
        "Best tokens per param against compute, with and without every FLOP counted, and for each "
        f"validation set; bands are {finding.fit.level:.0%} intervals, lines are dashed beyond the "
        "largest run, and the dotted strip is what was measured."
    )
    return Drawing(name="ratio-by-compute", alt=alt, draw=draw)


def _draw_band(
    axes: "Axes", style: Style, band: _Band, flops: Floats, high: float
) -> "dict[str, Artist]":
    colour, (value, low, top) = band.colour(style), band.ends
    key: dict[str, Artist] = {}
    if not np.isnan(low).any():
        shown = np.clip([low, top], *axes.get_ylim())
        key["band"] = axes.fill_between(flops, *shown, color=colour, alpha=0.15, lw=0, zorder=2)
    axes.plot(flops, value, color=colour, lw=1.6, ls=DASHED, zorder=3)
    inside = flops <= high
    (key["line"],) = axes.plot(flops[inside], value[inside], color=colour, lw=2, zorder=3)
    return key


def _best(fitted: Fit, flops: Floats) -> Floats:
    """Best D/N by 6ND and its ends at every budget, shape (3, F)."""
    log_params, log_tokens = fitted.splits(flops)
    with np.errstate(over="ignore"):
        ratio = np.exp(log_tokens - log_params)
    ends = [quantiles(column, fitted.level) for column in ratio[1:].T]
    return np.vstack([ratio[:1], np.array(ends).T])


def _best_exact(fitted: Fit, flops: Floats) -> Floats:
    """The same with every FLOP counted, at the cost of the run that is best by 6ND."""
    found = [fitted.ratio_exact(budget) for budget in flops.tolist()]
    return np.array([(each.value, each.low, each.high) for each in found if each]).T


def _window(fitted: Fit, bands: list[_Band]) -> tuple[float, float]:
    """Ends of the D/N axis: all that is measured and found, but no interval without end."""
    known = np.concatenate([fitted.domain["ratio"], *(band.ends[0] for band in bands)])
    known = known[np.isfinite(known) & (known > 0)]  # an optimum may lie at infinity
    found = np.concatenate([band.ends.ravel() for band in bands])
    found = np.append(found[np.isfinite(found) & (found > 0)], known)
    low = max(min(known.min(), found.min()), known.min() / WINDOW)
    high = min(max(known.max(), found.max()), known.max() * WINDOW)
    return low / 1.15, high * 1.15


def _fits(finding: DataModelLaw) -> Drawing:
    """Exponents and ratio of every fit as dots with intervals, published exponents beside them."""
    fits = {"all horizons": finding.mean}
    if finding.short is not None:
        fits["without the long ones"] = finding.short
    fits |= {f"{name} alone": laws for name, laws in finding.by_set.items()}

    def draw(style: Style) -> "Figure":
        rows = 40 * len(fits) + 120
        figure = style.blank(rows if style.wide else 3 * rows)
        shape = (1, 3) if style.wide else (3, 1)
        panels = figure.subplots(*shape, sharey=True, squeeze=False).flat
        key: dict[str, Artist] = {}
        for axes, quantity in zip(panels, ("alpha", "beta", "ratio"), strict=True):
            values = np.array([_ends(laws, quantity, finding.largest_budget)
                               for laws in fits.values()])  # fmt: skip
            for place, (value, low, high) in enumerate(values):
                colour = style.paint.ink if place == 0 else style.paint.accent
                if np.isfinite(value):
                    dot = axes.plot(value, place, "o", ms=7.5, mfc=colour, mec=style.paint.card,
                                    mew=0.8, ls="", zorder=4)[0]  # fmt: skip
                    key.setdefault("fit", dot)
                if np.isfinite([low, high]).all():
                    bar = axes.plot([low, high], [place] * 2, color=colour, lw=2.4, alpha=0.55,
                                    zorder=3)[0]  # fmt: skip
                    key.setdefault("interval", bar)
            title = "Best tokens per param"
            if quantity == "ratio":
                finite = values[np.isfinite(values) & (values > 0)]
                if finite.size and is_log(finite):
                    axes.set_xscale("log")
                    log_ticks(axes.xaxis, counted=False, most=5)
            else:
                title = f"{quantity.capitalize()}, exponent of {'ND'[quantity == 'beta']}"
                for other, mark in zip(PUBLISHED, ("--", ":"), strict=True):
                    key[other.name] = axes.axvline(getattr(other, quantity), ls=mark, lw=1.4,
                                                   color=style.paint.muted, zorder=1)  # fmt: skip
            axes.set_ylim(len(fits) - 0.5, -0.5)
            axes.set_yticks(range(len(fits)), list(fits))
            axes.margins(x=0.08)
            style.dress(axes, x="", y=title, grid="x")
            axes.tick_params(axis="y", labelcolor=style.paint.ink)
        names = {"fit": "fit", "interval": f"{finding.fit.level:.0%} interval"}
        style.key(figure, [(mark, names.get(name, name)) for name, mark in key.items()])
        return figure

    alt = (
        "Alpha, beta and the best tokens per param at the largest budget by 6ND of every fit: all "
        "horizons, without the long ones, each validation set alone. MiniCPM's exponents are "
        "dashed, Chinchilla's dotted."
    )
    return Drawing(name="exponents-by-fit", alt=alt, draw=draw)


def _ends(laws: Laws, quantity: str, flops: float) -> tuple[float, float, float]:
    """Value and ends of an exponent or of the ratio at `flops`; nan where there is none."""
    nothing = (np.nan, np.nan)
    if quantity != "ratio":
        of = laws.chinchilla
        return (of.coefficients[quantity], *of.intervals.get(quantity, nothing))
    fitted = laws.auto
    if not fitted.has_optimum:
        return (np.nan, *nothing)
    found = fitted.optimum(flops).ratio
    return (found.value, found.low, found.high)
