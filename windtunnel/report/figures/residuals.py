"""What the law leaves over: ln(measured / law) of every run in units of seed noise, by size."""

import math
from typing import TYPE_CHECKING

import numpy as np

from windtunnel.laws import Fit
from windtunnel.report.figures.canvas import (
    CARD,
    INK,
    MUTED,
    NARROW,
    Picture,
    blank,
    dress,
    picture,
    size_colour,
)
from windtunnel.report.inputs import ReportInputs, ScalingLaw
from windtunnel.report.numbers import count
from windtunnel.trials.curves import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STRIP = 0.72
"""Width of a size's strip; within it runs stand by ln(D/N), shortest horizon left."""


def unit_noise(fit: Fit) -> float:
    """Standard deviation of ln loss of one run: from seeds, or else from what the fit leaves."""
    return fit.sigma_seed or math.hypot(fit.sigma_trunk, fit.sigma_branch)


def residuals(inputs: ReportInputs, law: ScalingLaw, fit: Fit) -> Picture | None:
    """The figure; None where the noise is 0 and there is no unit to measure in."""
    sigma = unit_noise(fit)
    if not sigma > 0:
        return None
    sizes = [n for n in inputs.sizes if any(row["params"] == n for row in law.rows)]

    def draw(width: int) -> "Figure":
        wide = width > NARROW
        figure = blank(width, 330 if wide else 300)
        axes = figure.add_subplot()
        axes.axhspan(-2, 2, color=INK, alpha=0.06, linewidth=0)
        axes.axhline(0, color=MUTED, linewidth=1)
        for place, params in enumerate(sizes):
            index = list(inputs.sizes).index(params)
            for held_out in (False, True):
                rows = [r for r in law.rows if r["params"] == params and r["held_out"] is held_out]
                axes.plot(
                    place + _offsets(rows, fit),
                    [_residual(row, fit) / sigma for row in rows],
                    "o",
                    markersize=6 if wide else 4.5,
                    mfc=CARD if held_out else size_colour(index),
                    mec=size_colour(index) if held_out else CARD,
                    mew=1.6 if held_out else 0.7,
                )
        names = [
            f"{inputs.sizes[n].replace('x', '×')}" + (f"\n{count(n)}" if wide else "")
            for n in sizes
        ]
        dress(axes, x="", y="Measured above (+) or below (−) the law, in seed-noise σ"
              if wide else "Measured − law (seed-noise σ)", grid="y")  # fmt: skip
        axes.set_xticks(range(len(sizes)), names)
        axes.tick_params(axis="x", labelcolor=INK)
        axes.set_xlim(-0.6, len(sizes) - 0.4)
        reach = max(3.0, *(abs(limit) for limit in axes.get_ylim()))
        axes.set_ylim(-reach, reach)
        return figure

    return picture(
        f"residuals-{law.experiment}",
        "Residual of every run against the law, by model size, in standard deviations.",
        draw,
    )


def _residual(row: dict[str, float], fit: Fit) -> float:
    return math.log(row["loss"] / float(fit.form(row["params"], row["tokens"])))


def _offsets(rows: list[dict[str, float]], fit: Fit) -> Floats:
    if not rows:
        return np.empty(0)
    low, high = np.log(fit.domain["ratio"])
    ratio = np.log([row["tokens"] / row["params"] for row in rows])
    return np.asarray(STRIP * ((ratio - low) / max(high - low, 1e-9) - 0.5))
