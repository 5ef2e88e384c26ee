"""Whether to believe a fit: its residuals, and its forecast of held-out runs."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from windtunnel.laws import Fit, Table
from windtunnel.laws.table import Floats
from windtunnel.report.figures.drawing import Drawing
from windtunnel.report.figures.fit_curve import counted, spell
from windtunnel.report.figures.style import Style, is_log, log_ticks, tip
from windtunnel.report.formatting import count, run_tip, significant
from windtunnel.report.inputs import ReportInputs, ScalingLaw
from windtunnel.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

STRIP = 0.72
"""Width of a size's strip; within it runs stand by ln(D/N), shortest horizon left."""


def unit_noise(fit: Fit) -> float:
    """Standard deviation of ln loss of one run: from seeds, or else from what the fit leaves."""
    return fit.sigma_seed or math.hypot(fit.sigma_trunk, fit.sigma_branch)


def residuals_by_size(inputs: ReportInputs, law: ScalingLaw, fit: Fit) -> Drawing | None:
    """The figure; None where the noise is 0 and there is no unit to measure in."""
    sigma = unit_noise(fit)
    if not sigma > 0:
        return None
    sizes = [n for n in inputs.sizes if any(run.params == n for run in law.runs)]

    def draw(style: Style) -> "Figure":
        paint, wide = style.paint, style.wide
        figure = style.blank(330 if wide else 300)
        axes = figure.add_subplot()
        axes.axhspan(-2, 2, color=paint.ink, alpha=0.06, linewidth=0)
        axes.axhline(0, color=paint.muted, linewidth=1)
        for place, params in enumerate(sizes):
            colour = style.colour(params)
            for held_out in (False, True):
                runs = [r for r in law.runs if r.params == params and r.held_out is held_out]
                (dots,) = axes.plot(
                    place + _offsets(runs, fit),
                    [residual(run, fit) / sigma for run in runs],
                    "o",
                    markersize=6 if wide else 4.5,
                    mfc=paint.card if held_out else colour,
                    mec=colour if held_out else paint.card,
                    mew=1.6 if held_out else 0.7,
                )
                tip(dots, [run_tip(run) for run in runs])
        names = [style.name(n) + (f"\n{count(n)}" if wide else "") for n in sizes]
        style.dress(axes, x="", y="Measured above (+) or below (−) the law, in seed-noise σ"
              if wide else "Measured − law (seed-noise σ)", grid="y")  # fmt: skip
        axes.set_xticks(range(len(sizes)), names)
        axes.tick_params(axis="x", labelcolor=paint.ink)
        axes.set_xlim(-0.6, len(sizes) - 0.4)
        reach = max(3.0, *(abs(limit) for limit in axes.get_ylim()))
        axes.set_ylim(-reach, reach)
        return figure

    alt = "Residual of every run against the law, by model size, in standard deviations."
    return Drawing(name="residuals", alt=alt, draw=draw)


def residual(run: Run, fit: Fit) -> float:
    """Ln(measured / law) of a run."""
    assert run.loss is not None
    return math.log(run.loss / float(fit(run.params, run.tokens)))


def _offsets(runs: Sequence[Run], fit: Fit) -> Floats:
    if not runs:
        return np.empty(0)
    low, high = np.log(fit.domain["ratio"])
    ratio = np.log([run.tokens / run.params for run in runs])
    return np.asarray(STRIP * ((ratio - low) / max(high - low, 1e-9) - 0.5))


def residuals(fitted: Fit, table: Table) -> Drawing:
    """Measured against law, a panel an input; with noise that multiplies, in per cent."""
    names = [name for name in fitted.form.inputs if name in table]
    inputs = [table[name] for name in fitted.form.inputs]
    predicted, measured = fitted(*inputs), table[fitted.form.output]
    relative = fitted.form.multiplicative
    left = 100 * np.log(measured / predicted) if relative else measured - predicted
    sigma = unit_noise(fitted) * (100 if relative else 1)

    def draw(style: Style) -> "Figure":
        figure = style.blank(330 if style.wide else 520)
        shape = (1, len(names)) if style.wide else (len(names), 1)
        panels = list(figure.subplots(*shape, sharey=True, squeeze=False).flat)
        colours = style.colours(table)
        what = "Measured above (+) or below (−) the law"
        for axes, name in zip(panels, names, strict=True):
            x = table[name]
            if is_log(x):
                axes.set_xscale("log")
            band = axes.axhspan(-2 * sigma, 2 * sigma, color=style.paint.ink, alpha=0.07, lw=0)
            axes.axhline(0, color=style.paint.muted, lw=1)
            style.dots(axes, x, left, colours, small=True)
            title = (f"{what} (%)" if relative else what) if axes is panels[0] else ""
            style.dress(axes, x=spell(fitted, name), y=title)
            if is_log(x):
                log_ticks(axes.xaxis, counted=counted(fitted, name), most=6)
        reach = 1.12 * max(float(np.abs(left).max()), 2.2 * sigma, 1e-12)
        panels[0].set_ylim(-reach, reach)
        source = "between seeds" if fitted.sigma_seed else "left by the fit"
        unit = "%" if relative else ""
        style.key(figure, [(band, f"±2 σ, σ = {significant(sigma)}{unit} {source}")])
        return figure

    alt = f"What the law leaves over at {table.rows} rows, against {' and '.join(names)}."
    return Drawing(name="residuals", alt=alt, draw=draw)


def against_law(fitted: Fit, table: Table) -> Drawing:
    """Measured against the law at every row, for a law of several inputs."""
    inputs = [table[name] for name in fitted.form.inputs]
    predicted, measured = fitted(*inputs), table[fitted.form.output]

    def draw(style: Style) -> "Figure":
        figure = style.blank(460 if style.wide else 350)
        axes = figure.add_subplot()
        both = np.concatenate([measured, predicted])
        name, limits = fitted.form.output, _padded(both)
        if is_log(both):
            axes.set_xscale("log")
            axes.set_yscale("log")
        (same,) = axes.plot(limits, limits, color=style.paint.ink, lw=1.6, zorder=2)
        style.dots(axes, predicted, measured, style.colours(table))
        axes.set_xlim(*limits)
        axes.set_ylim(*limits)
        spelt = spell(fitted, name)
        style.dress(axes, x=f"{spelt} by the law", y=f"{spelt}, measured")
        if is_log(both):
            log_ticks(axes.xaxis, counted=counted(fitted, name), most=8 if style.wide else 5)
            log_ticks(axes.yaxis, counted=counted(fitted, name), most=8)
        style.key(figure, [(same, "measured = law")])
        return figure

    return Drawing(name="law", alt=f"Measured {fitted.form.output} against the law.", draw=draw)


def holdout(fitted: Fit) -> Drawing | None:
    """Measured against forecast for the rows held out, and in per cent; None without any."""
    if fitted.holdout is None or not fitted.holdout.points:
        return None
    measured, forecast, low, high = np.array(fitted.holdout.points, np.float64).T
    what, covered = fitted.holdout.what, fitted.holdout.covered
    relative, name = fitted.form.multiplicative, spell(fitted, fitted.form.output)

    def off(values: Floats) -> Floats:
        """How far the forecast lies above these, the sign of every error of a forecast."""
        return np.asarray(100 * np.log(forecast / values) if relative else forecast - values)

    def draw(style: Style) -> "Figure":
        figure = style.blank(370 if style.wide else 560)
        shape = (1, 2) if style.wide else (2, 1)
        panels = list(figure.subplots(*shape, squeeze=False).flat)
        titles = (f"Measured {name.lower()}", f"Forecast above the measured{' (%)' * relative}")
        logs = is_log(np.concatenate([measured, forecast]))
        key: list[tuple[Artist, str]] = []
        for axes, change, title in zip(panels, (_same, off), titles, strict=True):
            y, ends, centre = change(measured), (change(low), change(high)), change(forecast)
            if logs:
                axes.set_xscale("log")
            if logs and axes is panels[0]:
                axes.set_yscale("log")
            order = np.argsort(forecast)
            (same,) = axes.plot(forecast[order], centre[order], color=style.paint.ink, lw=1.4,
                                zorder=2)  # fmt: skip
            key = [(same, "measured = forecast")]
            if not np.isnan(ends).any():
                known = np.concatenate([y, *ends])
                known = known[np.isfinite(known)]
                ends = np.clip(ends, known.min(), known.max())  # an end may be infinite
                once = np.unique(forecast, return_index=True)[1]  # seeds share a forecast
                bars = axes.vlines(
                    forecast[once],
                    ends[0][once],
                    ends[1][once],
                    color=style.paint.accent,
                    lw=7,
                    alpha=0.25,
                )
                share = f", {covered:.0%} of runs inside" if covered is not None else ""
                key.append((bars, f"{fitted.level:.0%} interval of one new run{share}"))
            style.dots(axes, forecast, y, [style.paint.accent] * y.size, small=y.size > 40)
            axes.set_xlim(*_padded(forecast))
            at_foot = style.wide or axes is panels[-1]
            style.dress(axes, x=f"Forecast, {what} held out" if at_foot else "", y=title)
            if logs:
                log_ticks(axes.xaxis, counted=counted(fitted, fitted.form.output), most=6)
            else:
                axes.locator_params(axis="x", nbins=5)
            if axes.get_yscale() == "log":
                log_ticks(axes.yaxis, counted=counted(fitted, fitted.form.output), most=8)
        style.key(figure, key)
        return figure

    alt = f"Measured against forecast {name.lower()} of {measured.size} held-out rows."
    return Drawing(name="holdout", alt=alt, draw=draw)


def _padded(values: Floats) -> tuple[float, float]:
    """Lowest and highest with a margin, in logs where `is_log`."""
    low, high = float(values.min()), float(values.max())
    if is_log(values):
        margin = (high / low) ** 0.06
        return low / margin, high * margin
    margin = 0.06 * (high - low) or 0.05 * abs(low) or 1.0
    return low - margin, high + margin


def _same(values: Floats) -> Floats:
    return values
