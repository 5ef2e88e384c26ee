"""Loss against the tokens of the target after a trunk was left, a panel for each set."""

import re
from typing import TYPE_CHECKING

import numpy as np

from windtunnel.findings.adaptation import AdaptationFinding
from windtunnel.findings.course import Course
from windtunnel.report.figures.fit_curve import band
from windtunnel.report.figures.sheet import DASHED, Drawing, Sheet
from windtunnel.report.figures.ticks import log_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 120


def drawings(finding: AdaptationFinding) -> list[Drawing]:
    """One figure."""
    courses = finding.courses

    def draw(sheet: Sheet) -> "Figure":
        columns = min(len(courses), 2) if sheet.wide else 1
        lines = -(-len(courses) // columns)
        figure = sheet.blank(30 + lines * (320 if sheet.wide else 260))
        panels = figure.subplots(lines, columns, squeeze=False)
        for axes in panels.flat[len(courses) :]:
            axes.set_visible(False)
        for axes, course in zip(panels.flat, courses, strict=False):
            _panel(axes, sheet, course)
        _key(figure, sheet, finding)
        return figure

    alt = (
        f"Loss on {', '.join(each.on for each in courses)} against tokens of the target, "
        f"{len(finding.variants)} lengths."
    )
    stem = re.sub(r"[^a-z0-9]+", "-",
                  f"adaptation {finding.group} {finding.size} {finding.fork}".lower())  # fmt: skip
    return [Drawing(name=stem, alt=alt, draw=draw)]


def _panel(axes: "Axes", sheet: Sheet, course: Course) -> None:
    paint = sheet.paint
    axes.set_xscale("log")
    lengths = np.unique(course.tokens)
    means = [course.losses[course.tokens == each].mean() for each in lengths]
    low, high = float(lengths[0]), float(lengths[-1])
    if course.law is None:
        axes.plot(lengths, means, color=paint.muted, lw=1.4, zorder=2)
    else:
        x = np.geomspace(low, 2 * high, POINTS)
        inside = x <= high * (1 + 1e-9)
        y, ends = course.law.form(x), band(course.law, x)
        if ends is not None:
            axes.fill_between(x, *ends, color=paint.ink, alpha=0.15, lw=0)
        axes.plot(x, y, color=paint.ink, lw=1.6, ls=DASHED, zorder=3)
        axes.plot(x[inside], y[inside], color=paint.ink, lw=2, zorder=3)
    axes.plot(course.tokens, course.losses, "o", ms=4.2, mfc=paint.accent, mec="none", alpha=0.45,
              zorder=4)  # fmt: skip
    axes.plot(lengths, means, "o", ms=7.5, mfc=paint.accent, mec=paint.card, mew=0.9, zorder=5)
    axes.margins(0.05)
    sheet.dress(axes, x="Tokens of the target", y=f"Loss on {course.on} (nats per token)")
    log_ticks(axes.xaxis, counted=True, most=6 if sheet.wide else 5)
    axes.locator_params(axis="y", nbins=6)


def _key(figure: "Figure", sheet: Sheet, finding: AdaptationFinding) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    paint = sheet.paint
    entries: list[tuple[Line2D | Patch, str]] = [
        (Line2D([], [], marker="o", ms=7.5, mfc=paint.accent, mec=paint.card, ls=""), "mean"),
        (Line2D([], [], marker="o", ms=4.2, mfc=paint.accent, mec="none", alpha=0.45, ls=""),
         "seed"),
    ]  # fmt: skip
    if any(course.law is not None for course in finding.courses):
        entries.append((Line2D([], [], color=paint.ink, lw=2), "law, extrapolated where dashed"))
        entries.append((Patch(color=paint.ink, alpha=0.15, lw=0), "90% interval of the law"))
    sheet.key(figure, entries)
