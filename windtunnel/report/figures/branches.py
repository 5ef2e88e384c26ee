"""Figures of branch experiments: variants by set, losses along lengths, and rankings."""

import re
from typing import TYPE_CHECKING

import numpy as np

from windtunnel.findings.adaptation import AdaptationFinding, LearningCurve
from windtunnel.findings.branches import BranchFinding
from windtunnel.findings.ranking import RankingFinding
from windtunnel.findings.variants import FinishedVariant
from windtunnel.laws import Interval
from windtunnel.report.figures.drawing import Drawing, Obstacle, label_points
from windtunnel.report.figures.fit_curve import band
from windtunnel.report.figures.style import DASHED, Style, log_ticks
from windtunnel.report.formatting import short

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 120


def adaptation_drawings(finding: AdaptationFinding) -> list[Drawing]:
    """One figure."""
    curves = finding.curves

    def draw(style: Style) -> "Figure":
        figure, panels = style.panels(len(curves), across=2, height=(320, 260), margin=30)
        for axes, curve in zip(panels, curves, strict=True):
            _adaptation_panel(axes, style, curve)
        _adaptation_key(figure, style, finding)
        return figure

    alt = (
        f"Loss on {', '.join(each.on for each in curves)} against tokens of the target, "
        f"{len(finding.variants)} lengths."
    )
    stem = re.sub(r"[^a-z0-9]+", "-",
                  f"adaptation {finding.group} {finding.size} {finding.fork}".lower())  # fmt: skip
    return [Drawing(name=stem, alt=alt, draw=draw)]


def _adaptation_panel(axes: "Axes", style: Style, curve: LearningCurve) -> None:
    paint = style.paint
    axes.set_xscale("log")
    lengths = np.unique(curve.tokens)
    means = [curve.losses[curve.tokens == each].mean() for each in lengths]
    low, high = float(lengths[0]), float(lengths[-1])
    if curve.law is None:
        axes.plot(lengths, means, color=paint.muted, lw=1.4, zorder=2)
    else:
        x = np.geomspace(low, 2 * high, POINTS)
        inside = x <= high * (1 + 1e-9)
        y, ends = curve.law.form(x), band(curve.law, x)
        if ends is not None:
            axes.fill_between(x, *ends, color=paint.ink, alpha=0.15, lw=0)
        axes.plot(x, y, color=paint.ink, lw=1.6, ls=DASHED, zorder=3)
        axes.plot(x[inside], y[inside], color=paint.ink, lw=2, zorder=3)
    axes.plot(curve.tokens, curve.losses, "o", ms=4.2, mfc=paint.accent, mec="none", alpha=0.45,
              zorder=4)  # fmt: skip
    axes.plot(lengths, means, "o", ms=7.5, mfc=paint.accent, mec=paint.card, mew=0.9, zorder=5)
    axes.margins(0.05)
    style.dress(axes, x="Tokens of the target", y=f"Loss on {curve.on} (nats per token)")
    log_ticks(axes.xaxis, counted=True, most=6 if style.wide else 5)
    axes.locator_params(axis="y", nbins=6)


def _adaptation_key(figure: "Figure", style: Style, finding: AdaptationFinding) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    paint = style.paint
    entries: list[tuple[Line2D | Patch, str]] = [
        (Line2D([], [], marker="o", ms=7.5, mfc=paint.accent, mec=paint.card, ls=""), "mean"),
        (Line2D([], [], marker="o", ms=4.2, mfc=paint.accent, mec="none", alpha=0.45, ls=""),
         "seed"),
    ]  # fmt: skip
    if any(curve.law is not None for curve in finding.curves):
        entries.append((Line2D([], [], color=paint.ink, lw=2), "law, extrapolated where dashed"))
        entries.append((Patch(color=paint.ink, alpha=0.15, lw=0), "90% interval of the law"))
    style.key(figure, entries)


def branch_drawings(finding: BranchFinding) -> list[Drawing]:
    """One figure: the frontier of two sets, or what each variant gains on each set."""
    return [_frontier(finding) if len(finding.sets) == 2 else _panels(finding)]


def _frontier(finding: BranchFinding) -> Drawing:
    """Loss on the second set over that on the first, a dot for each variant."""
    variants, (across, up) = (finding.base, *finding.others), finding.sets
    places = {
        variant.name: (_place(finding, variant, across), _place(finding, variant, up))
        for variant in variants
    }

    def draw(style: Style) -> "Figure":
        figure = style.blank(500 if style.wide else 400)
        axes = figure.add_subplot()
        for _, along in finding.mixture_axes:
            x, y = np.array([[end.value for end in places[variant.name]] for variant in along]).T
            axes.plot(x, y, color=style.paint.muted, lw=1.4, zorder=2)
        for variant in variants:
            _cross(axes, style, *places[variant.name], first=variant is finding.base)
        axes.margins(0.1)
        style.dress(axes, x=f"Loss on {across} (nats per token)",
                    y=f"Loss on {up} (nats per token)")  # fmt: skip
        axes.locator_params(nbins=8 if style.wide else 5)
        _branch_key(figure, style, finding)
        label_points(
            axes,
            [(x.value, y.value, _named(finding, variant, style))
             for variant in variants for x, y in [places[variant.name]]],
            obstacles=[
                *(_branch_bars(x, y) for x, y in places.values()),
                *([(x.value, y.value) for x, y in (places[variant.name] for variant in along)]
                  for _, along in finding.mixture_axes),
            ],
            size=11 if style.wide else 10,
        )  # fmt: skip
        return figure

    alt = f"Loss on {up} over loss on {across}, a dot for each of {len(variants)} variants."
    return Drawing(name=_stem("variants-frontier", finding), alt=alt, draw=draw)


def _panels(finding: BranchFinding) -> Drawing:
    """A panel for each set, a row for each variant but the first, which is the line at 0."""
    variants = finding.others

    def draw(style: Style) -> "Figure":
        columns = min(len(finding.sets), 3) if style.wide else 1
        height = 85 + 34 * len(variants)
        figure, panels = style.panels(
            len(finding.sets), across=3, height=(height, height), margin=40, sharey=True
        )
        figure.set_layout_engine("constrained", hspace=0.06, wspace=0.06)
        for axes, on in zip(panels, finding.sets, strict=True):
            axes.axvline(0, color=style.paint.ink, lw=1.4, ls=DASHED, zorder=1)
            for place, variant in enumerate(variants):
                gap = finding.gap(variant, on)
                if gap is not None:
                    axes.plot([gap.low, gap.high], [place, place], color=style.paint.accent,
                              lw=2.2, alpha=0.75, zorder=3)  # fmt: skip
                    axes.plot(gap.value, place, "o", ms=8, mfc=style.paint.accent,
                              mec=style.paint.card, mew=0.8, zorder=4)  # fmt: skip
            axes.set_yticks(
                range(len(variants)), [_named(finding, variant, style) for variant in variants]
            )
            axes.set_ylim(len(variants) - 0.5, -0.5)
            axes.tick_params(axis="y", labelcolor=style.paint.ink)
            axes.locator_params(axis="x", nbins=4 if columns > 1 or not style.wide else 8)
            above = f"above {finding.base.name} (nats)"
            style.dress(axes, x=above if columns > 2 else f"Loss {above}", y=on, grid="x")
        _branch_key(figure, style, finding, cross=False)
        return figure

    count = f"{len(variants)} variant{'s' * (len(variants) > 1)}"
    alt = f"Loss of {count} minus that of {finding.base.name!r}, on {', '.join(finding.sets)}."
    return Drawing(name=_stem("variants", finding), alt=alt, draw=draw)


def _place(finding: BranchFinding, variant: FinishedVariant, on: str) -> Interval:
    """Where a variant stands: the first one's mean and the difference from it, with its interval.

    So a variant that lacks a seed stands where its difference puts it, not its luck.
    """
    base, gap = finding.mean(finding.base, on).value, finding.gap(variant, on)
    if gap is None or variant is finding.base:
        return Interval(base, base, base)
    return Interval(base + gap.value, base + gap.low, base + gap.high)


def _cross(axes: "Axes", style: Style, x: Interval, y: Interval, *, first: bool) -> None:
    """A dot with a bar along each axis; a ring for the first, which has none."""
    colour, card = style.paint.accent, style.paint.card
    for line in _bars_apart(x, y):
        axes.plot(*zip(*line, strict=True), color=colour, lw=1.8, alpha=0.5, zorder=3)
    if first:
        axes.plot(x.value, y.value, "o", ms=9, mfc=card, mec=style.paint.ink, mew=2, zorder=5)
    else:
        axes.plot(x.value, y.value, "o", ms=8, mfc=colour, mec=card, mew=0.8, zorder=4)


def _bars_apart(x: Interval, y: Interval) -> list[list[tuple[float, float]]]:
    ends = [[(x.low, y.value), (x.high, y.value)], [(x.value, y.low), (x.value, y.high)]]
    return [line for line in ends if np.isfinite(line).all()]


def _branch_bars(x: Interval, y: Interval) -> Obstacle:
    """Both bars as one path, for names to stand clear of."""
    middle = (x.value, y.value)
    return [point for line in _bars_apart(x, y) for point in (*line, middle)]


def _named(finding: BranchFinding, variant: FinishedVariant, style: Style) -> str:
    """Its name, with its length where that is another than the first one's."""
    if variant.tokens == finding.base.tokens:
        return variant.name
    return f"{variant.name} ({short(variant.tokens)}{' tokens' * style.wide})"


def _branch_key(
    figure: "Figure", style: Style, finding: BranchFinding, *, cross: bool = True
) -> None:
    from matplotlib.lines import Line2D

    paint, base = style.paint, finding.base.name
    gaps = [finding.gap(variant, on) for variant in finding.others for on in finding.sets]
    sure = any(gap is not None and np.isfinite(gap.low) for gap in gaps)
    entries: list[tuple[Artist, str]] = []
    if cross:
        ring = Line2D([], [], marker="o", ms=9, mfc=paint.card, mec=paint.ink, mew=2, ls="")
        entries.append((ring, f"{base}, the first"))
    dot = Line2D([], [], marker="o", ms=8, mfc=paint.accent, mec=paint.card, ls="")
    entries.append((dot, "mean over seeds"))
    if sure:
        bar = Line2D([], [], color=paint.accent, lw=2, alpha=0.6)
        entries.append(
            (bar, f"90% interval of the difference from {base}" if style.wide else "90% interval")
        )
    if cross and finding.mixture_axes:
        sources = " or ".join(dict.fromkeys(source for source, _ in finding.mixture_axes))
        entries.append((Line2D([], [], color=paint.muted, lw=1.4), f"by share of {sources}"))
    style.key(figure, entries)


def _stem(what: str, finding: BranchFinding) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{what} {finding.size} {finding.fork}".lower())


MOST = 4
"""Panels: further sets are in the numbers alone."""


def ranking_drawings(finding: RankingFinding) -> list[Drawing]:
    """One figure."""
    shown = finding.sets[:MOST]

    def draw(style: Style) -> "Figure":
        figure, panels = style.panels(len(shown), across=2, height=(390, 320), margin=30)
        for axes, on in zip(panels, shown, strict=True):
            _ranking_panel(axes, style, finding, on)
        _ranking_key(figure, style, finding)
        for axes, on in zip(panels, shown, strict=True):
            _names(axes, style, finding, on)
        return figure

    alt = (
        f"Mean loss in {finding.dear.name} over that in {finding.cheap.name}, a dot for each of "
        f"{len(finding.variants)} variants, on {', '.join(shown)}."
    )
    stem = re.sub(r"[^a-z0-9]+", "-", f"ranking {finding.pair} {finding.size}".lower())
    return [Drawing(name=stem, alt=alt, draw=draw)]


def _ranking_panel(axes: "Axes", style: Style, finding: RankingFinding, on: str) -> None:
    paint = style.paint
    for line in _ranking_bars(finding, on):
        axes.plot(*zip(*line, strict=True), color=paint.accent, lw=1.8, alpha=0.35, zorder=2)
    for x, y, _ in _places(finding, on):
        axes.plot(x, y, "o", ms=8, mfc=paint.accent, mec=paint.card, mew=0.8, zorder=4)
    axes.margins(0.14)
    rho, known = finding.rho(on), ""
    if np.isfinite(rho.low):
        known = f" ({rho.low:.2f} to {rho.high:.2f})".replace("-", "−")
    words = f"{on}: ρ = {rho.value:.2f}".replace("-", "−") + known
    style.dress(axes, x=f"Loss in {finding.cheap.name}", y=words)
    axes.set_ylabel(f"Loss in {finding.dear.name} (nats per token)")
    axes.locator_params(nbins=5)


def _places(finding: RankingFinding, on: str) -> list[tuple[float, float, str]]:
    """Where each variant stands, with its name."""
    return [
        (finding.cheap.mean(on, place).value, finding.dear.mean(on, place).value, name)
        for place, name in enumerate(finding.variants)
    ]


def _ranking_bars(finding: RankingFinding, on: str) -> list[list[tuple[float, float]]]:
    """Both intervals of each variant, where it has them."""
    found = []
    for place in range(len(finding.variants)):
        x, y = finding.cheap.mean(on, place), finding.dear.mean(on, place)
        found.append([(x.low, y.value), (x.high, y.value)])
        found.append([(x.value, y.low), (x.value, y.high)])
    return [line for line in found if np.isfinite(line).all()]


def _names(axes: "Axes", style: Style, finding: RankingFinding, on: str) -> None:
    label_points(
        axes,
        _places(finding, on),
        obstacles=_ranking_bars(finding, on),
        size=11 if style.wide else 10,
    )


def _ranking_key(figure: "Figure", style: Style, finding: RankingFinding) -> None:
    from matplotlib.lines import Line2D

    dot = Line2D([], [], marker="o", ms=8, mfc=style.paint.accent, mec=style.paint.card, ls="")
    entries: list[tuple[Artist, str]] = [(dot, "variant, mean over seeds")]
    if any(_ranking_bars(finding, on) for on in finding.sets):
        bar = Line2D([], [], color=style.paint.accent, lw=2, alpha=0.5)
        entries.append(
            (bar, "90% interval of what is not shared by a seed" if style.wide else "90% interval")
        )
    style.key(figure, entries)
