"""The coordinate check: change of every activation against width, one panel per parametrization."""

from typing import TYPE_CHECKING, Any

import numpy as np

from windtunnel.findings.coordcheck import CoordinateFinding, parametrization_name
from windtunnel.laws.table import Floats
from windtunnel.report.figures.drawing import Drawing
from windtunnel.report.figures.style import RAMP_LIGHT, Style, ramp_colour
from windtunnel.runs.coordcheck import CoordinateCheck

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TICKS = (0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)


def drawings(finding: CoordinateFinding) -> list[Drawing]:
    """One figure, of the last update."""
    alt = (
        "Change of each activation from initialisation against width, as a multiple of the change "
        "at the smallest width: flat lines do not depend on width."
    )

    def draw(style: Style) -> "Figure":
        checks = finding.checks
        figure, panels = style.panels(len(checks), across=len(checks), height=(350, 300), margin=0)
        for axes, check in zip(panels, checks, strict=True):
            _panel(style, axes, check, _heights(checks))
        return figure

    return [Drawing(name="coordinate-check", alt=alt, draw=draw)]


def by_update(check: CoordinateCheck) -> Drawing:
    """One panel per site, one line per update; later updates are lighter."""

    def draw(style: Style) -> "Figure":
        figure, panels = style.panels(len(check.sites), across=3, height=(240, 240), margin=80)
        key: dict[str, Artist] = {}
        for axes, site in zip(panels, check.sites, strict=True):
            steps = len(site.changes)
            for step, changes in enumerate(site.changes):
                colour = ramp_colour(RAMP_LIGHT, step / max(steps - 1, 1))
                (line,) = axes.plot(check.widths, changes, "o-", ms=3, lw=1.2, color=colour)
                if step in {0, steps - 1}:
                    key[f"change after update {step + 1} (rms)"] = line
            axes.set(xscale="log", yscale="log")
            axes.set_xticks(check.widths, [str(width) for width in check.widths])
            axes.xaxis.minorticks_off()
            outcome = "pass" if site.passed else "FAIL"
            style.dress(axes, x="Width", y=f"{site.name}\nslope {site.slope:+.2f}, {outcome}")
        style.key(figure, [(mark, words) for words, mark in key.items()])
        return figure

    alt = "Rms change of each activation from initialisation against width, one line per update."
    return Drawing(name="coordinate-check-updates", alt=alt, draw=draw)


def _ratios(site: dict[str, Any]) -> Floats:
    """Change after the last update at every width, over that at the smallest."""
    changes = np.array(site["changes"][-1])
    return np.asarray(changes / changes[0])


def _heights(checks: tuple[dict[str, Any], ...]) -> tuple[float, float]:
    """One scale for all panels: how flat is flat shows only beside what is not."""
    every = np.concatenate([_ratios(site) for check in checks for site in check["sites"]])
    return 0.8 * min(float(every.min()), 0.5), 1.25 * max(float(every.max()), 2.0)


def _panel(style: Style, axes: "Axes", check: dict[str, Any], heights: tuple[float, float]) -> None:
    sites, widths = check["sites"], np.array(check["widths"], float)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(*heights)
    order = np.argsort([_ratios(site)[-1] for site in sites])[::-1]
    colours = [ramp_colour(RAMP_LIGHT, k / max(len(sites) - 1, 1)) for k in range(len(sites))]
    axes.axhline(1.0, color=style.paint.muted, lw=1, zorder=1)
    for site, colour in zip(sites, colours, strict=True):
        axes.plot(widths, _ratios(site), "o-", ms=4, lw=1.6, color=colour)
    axes.set_xticks(widths, [f"{width:g}" for width in widths])
    ticks = [tick for tick in TICKS if heights[0] <= tick <= heights[1]]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    style.dress(
        axes, x="Width", y=f"{parametrization_name(check)}: change / that at width {widths[0]:g}"
    )
    style.names(
        axes,
        [f"{sites[n]['name']} {sites[n]['slope']:+.2f}".replace("-0.00", "+0.00") for n in order],
        np.array([_ratios(sites[n])[-1] for n in order]),
        [colours[n] for n in order],
        title="",
    )
