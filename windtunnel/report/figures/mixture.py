"""A mixture law: the target over mixtures or each loss along a share, and mixtures left out."""

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from windtunnel.laws.interval import quantiles
from windtunnel.laws.mixture import MixtureFit
from windtunnel.laws.mixture.runs import without_noise_of_trunks
from windtunnel.laws.table import Floats
from windtunnel.report.figures.drawing import Drawing, save_all
from windtunnel.report.figures.style import DASHED, Style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
LINES, LINES_NARROW = 9, 6
GRID, CURVE = 70, 101
MOST_DRAWN = 400
"""Best mixtures of resamples: more dots only make one blot."""
MOST_ACROSS = 3


def write_figures(fitted: MixtureFit, folder: Path) -> list[Path]:
    """Write every figure as a PNG into `folder`; their paths.

    Raises:
        ConfigError: the folder or a file in it cannot be written.
    """
    return save_all(drawings(fitted), folder)


def drawings(fitted: MixtureFit) -> list[Drawing]:
    """The surface of the target, or of two sources each loss along the share; the hold-out."""
    several = len(fitted.runs.sources) > 2
    return [_triangle(fitted) if several else _along_share(fitted), _left_out(fitted)]


def _triangle(fitted: MixtureFit) -> Drawing:
    """The target over three sources, with the mixtures measured, the best one and its resamples.

    Of more sources, the three of which the best mixture reads most; the others stay at its shares.
    """
    sources = fitted.runs.sources
    best = np.array([fitted.best.mixture[name] for name in sources])
    three = np.sort(np.argsort(-best, kind="stable")[:3])
    rest = float(1 - best[three].sum())

    def draw(style: Style) -> "Figure":
        from matplotlib.lines import Line2D

        figure = style.blank(600 if style.wide else 390)
        axes = figure.add_subplot()
        axes.set_aspect("equal")
        axes.set_axis_off()
        shares = _grid(GRID)
        mixtures = np.tile(best, (len(shares), 1))
        mixtures[:, three] = shares * (1 - rest)
        _levels(axes, style, shares @ CORNERS, fitted.target_at(mixtures))
        _frame(axes, style, [sources[k] for k in three])
        paint, key = style.paint, []
        drawn = _within(fitted.best.draws[:MOST_DRAWN], three) if fitted.best.draws.size else None
        if drawn is not None:
            axes.plot(*drawn.T, "o", ms=4, mfc=paint.ink, mec="none", alpha=0.15, zorder=4)
            dot = Line2D([], [], marker="o", ms=5, mfc=paint.ink, mec="none", alpha=0.35, ls="")
            key = [(dot, "best of each resample")]
        measured = _within(fitted.points.weights, three)
        ring = axes.plot(*measured.T, "o", ms=6.5 if style.wide else 5, mfc=paint.card,
                         mec=paint.ink, mew=1.4, zorder=5)[0]  # fmt: skip
        star = axes.plot(*_within(best[None], three).T, "*", ms=17 if style.wide else 14,
                         mfc=paint.ink, mec=paint.card, mew=1.2, zorder=6)[0]  # fmt: skip
        ring_words = "measured" if rest < 0.005 else "measured, by shares of these three"
        entries: list[tuple[Artist, str]] = [(star, "best"), *key, (ring, ring_words)]
        style.key(figure, entries)
        title = f"{_target_words(fitted)} ({_unit(fitted)})"
        if rest >= 0.005:
            others = (f"{sources[k]} {best[k]:.2f}" for k in range(len(sources)) if k not in three)
            title += f", with {', '.join(others)}"
        axes.set_title(title, loc="left", fontsize=12, color=paint.muted, pad=10, wrap=True)
        return figure

    names = ", ".join(sources[k] for k in three)
    alt = f"{_target_words(fitted)} over mixtures of {names}, the mixtures measured, the best one."
    return Drawing(name="mixture", alt=alt, draw=draw)


def _along_share(fitted: MixtureFit) -> Drawing:
    """Of two sources: a panel for each set and the target, over the share of the second."""
    first, second = fitted.runs.sources
    share = np.linspace(
        float(fitted.points.weights[:, 1].min()), float(fitted.points.weights[:, 1].max()), CURVE
    )
    mixtures = np.stack([1 - share, share], axis=1)
    sets, weights = fitted.runs.sets, fitted.target_weights
    titles = [f"{name} ({_unit(fitted)})" for name in sets]
    runs = without_noise_of_trunks(fitted.runs, fitted.points)
    curves, drawn = fitted.losses(mixtures), fitted.drawn_losses(mixtures)
    if len(sets) > 1:
        titles.append(_target_words(fitted))
        runs, curves, drawn = (
            np.concatenate([each, (each @ weights)[..., None]], axis=-1)
            for each in (runs, curves, drawn)
        )
    best = fitted.best.shares[second]

    def draw(style: Style) -> "Figure":
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        figure, panels = _panels(style, len(titles))
        paint, sure = style.paint, bool(len(drawn))
        for k, axes in enumerate(panels):
            if sure:
                ends = np.array([quantiles(each, fitted.level) for each in drawn[..., k].T]).T
                axes.fill_between(share, *ends, color=paint.ink, alpha=0.15, lw=0, zorder=1)
                if k == len(titles) - 1:
                    axes.axvspan(best.low, best.high, color=paint.accent, alpha=0.12, lw=0)
            axes.plot(share, curves[:, k], color=paint.ink, lw=2, zorder=3)
            if k == len(titles) - 1:
                axes.axvline(best.value, color=paint.accent, lw=1.6, ls=DASHED, zorder=2)
            style.dots(axes, fitted.runs.weights[:, 1], runs[:, k],
                       [paint.accent] * fitted.runs.rows, small=fitted.runs.rows > 40)  # fmt: skip
            _dress(style, axes, panels, x=f"Share of {second}, the rest {first}", y=titles[k])
        dot = Line2D([], [], marker="o", ms=6, mfc=paint.accent, mec=paint.card, ls="")
        trunks = fitted.points.trunk_effects.size
        key: list[tuple[Artist, str]] = [
            (dot, "runs, less what their trunk adds" if trunks else "runs"),
            (Line2D([], [], color=paint.ink, lw=2), "law"),
        ]
        if sure:
            words = f"{fitted.level:.0%} interval"
            key.append((Patch(facecolor=paint.ink, alpha=0.15), f"{words} of the law"))
        key.append((Line2D([], [], color=paint.accent, lw=1.6, ls=DASHED), "best"))
        style.key(figure, key)
        return figure

    alt = f"Loss on {', '.join(sets)} against the share of {second}: the runs and the law."
    return Drawing(name="mixture", alt=alt, draw=draw)


def _left_out(fitted: MixtureFit) -> Drawing:
    """Measured against predicted loss of every mixture, by a law that has not seen it."""
    choices = fitted.choices

    def draw(style: Style) -> "Figure":
        from matplotlib.lines import Line2D

        figure, panels = _panels(style, len(choices))
        for s, (axes, (name, choice)) in enumerate(zip(panels, choices.items(), strict=True)):
            predicted = np.exp(choice.taken.predicted)
            measured = np.exp(fitted.points.log_loss[:, s])
            both = np.concatenate([predicted, measured])
            margin = 0.06 * float(np.ptp(both)) or 0.01
            ends = (float(both.min()) - margin, float(both.max()) + margin)
            axes.plot(ends, ends, color=style.paint.ink, lw=1.4, zorder=2)
            style.dots(axes, predicted, measured, [style.paint.accent] * measured.size)
            axes.set_xlim(*ends)
            axes.set_ylim(*ends)
            words = f"{name}: rank {choice.taken.rank.value:.2f}"
            _dress(style, axes, panels, x="Predicted without it", y=words)
        line = Line2D([], [], color=style.paint.ink, lw=1.4)
        dot = Line2D([], [], marker="o", ms=6, mfc=style.paint.accent, mec=style.paint.card, ls="")
        style.key(figure, [(dot, "a mixture, measured"), (line, "measured = predicted")])
        return figure

    alt = f"Measured against predicted loss of {len(fitted.points.weights)} mixtures left out."
    return Drawing(name="mixture-left-out", alt=alt, draw=draw)


def _grid(steps: int) -> Floats:
    """Shares of three sources, evenly over the triangle, shape (P, 3)."""
    first, second = np.meshgrid(np.arange(steps + 1), np.arange(steps + 1))
    inside = first + second <= steps
    two = np.stack([first[inside], second[inside]], axis=1) / steps
    return np.concatenate([two, 1 - two.sum(axis=1, keepdims=True)], axis=1)


def _within(mixtures: Floats, three: Any) -> Floats:
    """Places in the triangle: shares among the three, of mixtures that read any of them."""
    shares = mixtures[:, three]
    total = shares.sum(axis=1, keepdims=True)
    read = total[:, 0] > 1e-6
    return np.asarray(shares[read] / total[read] @ CORNERS)


def _levels(axes: "Axes", style: Style, places: Floats, loss: Floats) -> None:
    """Shades, darker where lower, and named lines of equal loss; as many on both sides of half."""
    low, high = float(loss.min()), float(loss.max())
    if high - low < 1e-9:
        return
    wanted = LINES if style.wide else LINES_NARROW
    # Even in the root: lines gather at the lowest, which is what the picture is of.
    levels = low + (high - low) * np.linspace(0, 1, wanted + 2) ** 2
    x, y = places.T
    for k, (start, end) in enumerate(pairwise(levels.tolist())):
        axes.tricontourf(x, y, loss, levels=[start, end], colors=[style.paint.accent],
                         alpha=0.42 * (1 - k / (wanted + 1)) + 0.02, zorder=1)  # fmt: skip
    lines = axes.tricontour(x, y, loss, levels=levels[1:-1], colors=[style.paint.muted],
                            linewidths=0.8, alpha=0.7, zorder=2)  # fmt: skip
    digits = 2 if levels[2] - levels[1] > 0.015 else 3
    for text in axes.clabel(lines, fontsize=10, fmt=f"%.{digits}f", inline_spacing=3):
        text.set_color(style.paint.ink)


def _frame(axes: "Axes", style: Style, names: list[str]) -> None:
    """The triangle, its quarters, and the source at each corner with its shares on the way."""
    paint = style.paint
    axes.plot(*CORNERS[[0, 1, 2, 0]].T, color=paint.muted, lw=1, zorder=3)
    for k in range(3):
        one, two = (k + 1) % 3, (k + 2) % 3
        for share in (0.25, 0.5, 0.75):
            ends = [share * CORNERS[k] + (1 - share) * CORNERS[other] for other in (one, two)]
            axes.plot(*np.transpose(ends), color=paint.muted, lw=0.5, alpha=0.4, zorder=2)
            out = ends[0] - CORNERS.mean(axis=0)
            axes.annotate(f"{share:.0%}", ends[0], xytext=11 * out / np.hypot(*out),
                          textcoords="offset points", ha="center", va="center", fontsize=9,
                          color=paint.muted)  # fmt: skip
        down = k < 2
        axes.annotate(names[k], CORNERS[k], xytext=(0, -9 if down else 8),
                      textcoords="offset points", ha="center", va="top" if down else "bottom",
                      fontsize=12, fontweight="bold", color=paint.ink)  # fmt: skip
    axes.set_xlim(-0.12, 1.12)
    axes.set_ylim(-0.09, float(CORNERS[2, 1]) + 0.07)


def _panels(style: Style, count: int) -> "tuple[Figure, list[Axes]]":
    height = (330 if count > 1 else 400, 300)
    figure, panels = style.panels(count, across=MOST_ACROSS, height=height, margin=40)
    figure.set_layout_engine("constrained", hspace=0.06, wspace=0.06)
    return figure, panels


def _dress(style: Style, axes: "Axes", panels: "list[Axes]", *, x: str, y: str) -> None:
    at_foot = style.wide or axes is panels[-1]
    style.dress(axes, x=x if at_foot else "", y=y)
    axes.locator_params(nbins=6)


def _target_words(fitted: MixtureFit) -> str:
    names = list(fitted.target)
    if len(names) == 1:
        return f"Loss on {names[0]}"
    even = max(fitted.target.values()) - min(fitted.target.values()) < 1e-9
    words = f"{', '.join(names[:-1])} and {names[-1]}"
    return f"Mean loss on {words}" if even else f"Weighted loss on {words}"


def _unit(fitted: MixtureFit) -> str:
    """The loss unit; a phrase that tells where it was taken from does not fit above an axis."""
    return fitted.runs.loss_unit if len(fitted.runs.loss_unit) <= 16 else "nats"
