"""The coordinate check as a figure: one panel a site, one line an update."""

import math
from pathlib import Path

from windtunnel.errors import ConfigError
from windtunnel.runs.coordcheck import CoordinateCheck


def draw(found: CoordinateCheck, path: Path) -> None:
    """Write the figure to `path`; its ending names the format.

    Raises:
        ConfigError: The format is unknown or the file cannot be written.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    columns = 3
    rows = math.ceil(len(found.sites) / columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    shades = colormaps["viridis"]
    for site, panel in zip(found.sites, panels, strict=False):
        steps = len(site.changes)
        for step, changes in enumerate(site.changes):
            panel.plot(found.widths, changes, marker="o", ms=3, color=shades(step / steps))
        panel.set(xscale="log", yscale="log", xticks=found.widths)
        panel.set_xticks(found.widths, [str(width) for width in found.widths])
        panel.minorticks_off()
        word = "pass" if site.passed else "FAIL"
        panel.set_title(f"{site.name}: {site.slope:+.2f} {word}", fontsize=9)
    for panel in list(panels):
        panel.set_visible(False)
    figure.supxlabel("width")
    figure.supylabel("rms change from initialisation; a line an update, later is lighter")
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as refused:
        raise ConfigError(
            "cannot-write",
            f"--plot {path}: cannot be written: {refused}",
            option="--plot",
            path=path,
            cause=str(refused),
        ) from None
