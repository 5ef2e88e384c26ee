"""The coordinate check: changes of activations and layers against width, and against depth."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from windtunnel.findings.coordcheck import CoordinateFinding, beyond, parametrization_name
from windtunnel.laws.table import Floats
from windtunnel.report.figures.drawing import Drawing
from windtunnel.report.figures.style import Style, log_ticks
from windtunnel.runs.coordcheck import CoordinateCheck, SiteResult, steepest_by_kind

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST_SPAN = 8
"""Least factor between the ends of a change's axis, so that a flat line looks flat."""

TICKS = (0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)

Sites = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Changes of some sites, relative to those at the smallest size."""

    title: str
    axis: str
    sizes: Sequence[int]
    sites: Sites
    label: str = "name"

    @property
    def ratios(self) -> list[Floats]:
        """Of every site, the change after the last update over that at the smallest size."""
        last = [np.array(site["changes"][-1]) for site in self.sites]
        return [np.asarray(changes / changes[0]) for changes in last]


def drawings(finding: CoordinateFinding) -> list[Drawing]:
    """Figures of the last update: activations, layers, and both against depth."""
    checks = finding.checks
    found = [
        _drawing(
            "coordinate-check",
            "Change of each activation from initialisation against width, as a multiple of the "
            "change at the smallest width: flat lines do not depend on width.",
            [_over_width(check, check["sites"], parametrization_name(check)) for check in checks],
            across=len(checks),
        )
    ]
    layers = [panel for check in checks for panel in _layer_panels(check)]
    if layers:
        found.append(
            _drawing(
                "coordinate-check-layers",
                "Change of the output of each kind of layer against width, by its own update and "
                "by those of earlier layers, as a multiple of that at the smallest width.",
                layers,
                across=2,
            )
        )
    depths = [panel for check in checks for panel in _depth_panels(check)]
    if depths:
        found.append(
            _drawing(
                "coordinate-check-depth",
                "Change of activations, and of the output of each kind of layer by its own update, "
                "against depth, as a multiple of that at the smallest depth.",
                depths,
                across=2,
            )
        )
    return found


def _signed(slope: float) -> str:
    return f"{slope:+.2f}".replace("-0.00", "+0.00").replace("-", "−")


def by_update(check: CoordinateCheck) -> Drawing:
    """One panel per site, one line per update, later ones lighter; then one per kind of layer.

    Panels against depth follow where depths were checked.
    """

    def draw(style: Style) -> "Figure":
        panels = list(_update_panels(check))
        figure, grid = style.panels(len(panels), across=3, height=(240, 240), margin=80)
        key: dict[str, Artist] = {}
        for axes, panel in zip(grid, panels, strict=True):
            key |= panel(style, axes)
        style.key(figure, [(mark, words) for words, mark in key.items()])
        return figure

    alt = "Rms change of each activation from initialisation against width, one line per update."
    return Drawing(name="coordinate-check-updates", alt=alt, draw=draw)


def _over_width(check: Mapping[str, Any], sites: Sites, title: str) -> Panel:
    return Panel(title=title, axis="Width", sizes=check["widths"], sites=sites)


def _layer_panels(check: Mapping[str, Any]) -> Iterator[Panel]:
    name = parametrization_name(dict(check))
    for part, words in (("effective", "own update"), ("propagated", "earlier layers")):
        if part in check:
            sites = _worst_of_kinds(check[part])
            yield replace(_over_width(check, sites, f"{name}, {words}"), label="kind")


def _depth_panels(check: Mapping[str, Any]) -> Iterator[Panel]:
    depth, name = check.get("depth"), parametrization_name(dict(check))
    if depth:
        for part, words in (("sites", "activations"), ("effective", "own update")):
            yield Panel(
                title=f"{name}, {words}", axis="Depth", sizes=depth["depths"], sites=depth[part]
            )


def _worst_of_kinds(sites: Sites) -> Sites:
    """Of each kind of layer the one furthest outside what passes, or nearest to its edge."""
    kinds = dict.fromkeys(site["kind"] for site in sites)
    return [max((s for s in sites if s["kind"] == kind), key=beyond) for kind in kinds]


def _drawing(name: str, alt: str, panels: Sequence[Panel], *, across: int) -> Drawing:
    def draw(style: Style) -> "Figure":
        figure, grid = style.panels(len(panels), across=across, height=(275, 300), margin=0)
        for axes, panel in zip(grid, panels, strict=True):
            _draw_panel(style, axes, panel, _heights(panels))
        return figure

    return Drawing(name=name, alt=alt, draw=draw)


def _heights(panels: Sequence[Panel]) -> tuple[float, float]:
    """One scale for all panels: how flat is flat shows only beside what is not."""
    every = np.concatenate([ratios for panel in panels for ratios in panel.ratios])
    return 0.8 * min(float(every.min()), 0.5), 1.25 * max(float(every.max()), 2.0)


def _draw_panel(style: Style, axes: "Axes", panel: Panel, heights: tuple[float, float]) -> None:
    sites, sizes, ratios = panel.sites, np.array(panel.sizes, float), panel.ratios
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(*heights)
    order = np.argsort([each[-1] for each in ratios])[::-1]
    colours = [style.along(k / max(len(sites) - 1, 1)) for k in range(len(sites))]
    axes.axhline(1.0, color=style.paint.muted, lw=1, zorder=1)
    for each, colour in zip(ratios, colours, strict=True):
        axes.plot(sizes, each, "o-", ms=4, lw=1.6, color=colour)
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    ticks = [tick for tick in TICKS if heights[0] <= tick <= heights[1]]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    style.dress(
        axes,
        x=panel.axis,
        y=f"{panel.title}: change / that at {panel.axis.lower()} {sizes[0]:g}",
    )
    style.names(
        axes,
        [f"{sites[n][panel.label]} {_signed(sites[n]['slope'])}" for n in order],
        np.array([ratios[n][-1] for n in order]),
        [colours[n] for n in order],
        title="",
    )


UpdatePanel = Callable[[Style, "Axes"], "dict[str, Artist]"]


def _update_panels(check: CoordinateCheck) -> Iterator[UpdatePanel]:
    for site in check.sites:
        yield _of_site("Width", check.widths, site)
    earlier = {each.name: each for each in check.propagated}
    for own in steepest_by_kind(check.effective, check.propagated):
        yield _of_layer("Width", check.widths, own, earlier.get(own.name))
    if check.depth is not None:
        for site in check.depth.sites:
            yield _of_site("Depth", check.depth.depths, site)
        earlier = {each.name: each for each in check.depth.propagated}
        for own in check.depth.effective:
            yield _of_layer("Depth", check.depth.depths, own, earlier.get(own.name))


def _of_site(axis: str, sizes: Sequence[int], site: SiteResult) -> UpdatePanel:
    def draw(style: Style, axes: "Axes") -> "dict[str, Artist]":
        key: dict[str, Artist] = {}
        steps = len(site.changes)
        for step, changes in enumerate(site.changes):
            colour = style.along(step / max(steps - 1, 1))
            (line,) = axes.plot(sizes, changes, "o-", ms=3, lw=1.2, color=colour)
            if step in {0, steps - 1}:
                key[f"change after update {step + 1} (rms)"] = line
        _dress(style, axes, axis, sizes, f"{site.name}\nslope {_slope(site)}")
        return key

    return draw


def _of_layer(
    axis: str, sizes: Sequence[int], own: SiteResult, earlier: SiteResult | None
) -> UpdatePanel:
    def draw(style: Style, axes: "Axes") -> "dict[str, Artist]":
        key: dict[str, Artist] = {}
        title = own.name
        for part, colour, name, words in (
            (own, style.paint.accent, "own", "by the layer's own update"),
            (earlier, style.paint.muted, "earlier", "by earlier layers"),
        ):
            if part is not None:
                (key[words],) = axes.plot(sizes, part.changes[-1], "o-", ms=3, lw=1.6, color=colour)
                title += f"\n{name} {_slope(part)}"
        _dress(style, axes, axis, sizes, title)
        return key

    return draw


def _slope(result: SiteResult) -> str:
    return f"{result.slope:+.2f}, {'pass' if result.passed else 'FAIL'}"


def _dress(style: Style, axes: "Axes", axis: str, sizes: Sequence[int], title: str) -> None:
    axes.set(xscale="log", yscale="log")
    low, high = axes.get_ylim()
    wider = max(1.0, (LEAST_SPAN * low / high) ** 0.5)
    axes.set_ylim(low / wider, high * wider)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.xaxis.minorticks_off()
    log_ticks(axes.yaxis, counted=False, most=4)
    style.dress(axes, x=axis, y=title)
