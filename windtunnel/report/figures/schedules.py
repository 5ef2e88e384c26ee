"""Figures of schedules (decay shares, lengths, shapes) and of a small model trained for long."""

import math
from typing import TYPE_CHECKING

import numpy as np

from windtunnel.findings.overtraining import Ends, Match, OvertrainingFinding, loss_band
from windtunnel.findings.schedules import Losses, SchedulesFinding, paired, percent, spelt
from windtunnel.report.figures import fit_curve
from windtunnel.report.figures.drawing import Drawing
from windtunnel.report.figures.style import DASHED, Style, log_ticks
from windtunnel.runs.search.noise import Difference

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COMPUTE, LOSS = "Training compute (FLOPs, 6ND)", "Loss at the end of a decay (nats per token)"


def overtraining_drawings(finding: OvertrainingFinding) -> list[Drawing]:
    """Both sizes against compute; the two forms where they were fitted."""
    return [_ends(finding), *([_approach(finding)] if finding.forms else [])]


def _ends(finding: OvertrainingFinding) -> Drawing:
    """Decayed ends of both sizes, and what equal loss takes of each."""

    def draw(style: Style) -> "Figure":
        figure = style.blank(460 if style.wide else 380)
        axes = figure.add_subplot()
        axes.set_xscale("log")
        sizes = (finding.pair.large, finding.pair.small)
        colours = [style.colour(size.params) for size in sizes]
        last = []
        for size, colour in zip(sizes, colours, strict=True):
            mine = finding.table.params == size.params
            ends = Ends.of(finding.table, size.params)
            compute, loss = 6 * size.params * ends.tokens, np.exp(ends.log_loss)
            if finding.noise is not None:
                band = loss_band(ends, finding.noise)
                axes.fill_between(compute, *band, color=colour, alpha=0.18, lw=0)
            axes.plot(compute, loss, color=colour, lw=1.8, zorder=2)
            style.dots(axes, finding.table.budget[mine], finding.table.loss[mine],
                       [colour] * int(mine.sum()), small=True)  # fmt: skip
            last.append(float(loss[-1]))
        for match in finding.matches:
            if match.found:
                _match(axes, style, finding, match)
        axes.margins(x=0.04)
        style.dress(axes, x=COMPUTE, y=LOSS if style.wide else "Loss (nats per token)")
        log_ticks(axes.xaxis, counted=False, most=9 if style.wide else 5)
        names = [size.name.replace("x", "×") for size in sizes]
        style.names(axes, names, np.array(last), colours, title="")
        _overtraining_key(figure, style, colours[1])
        return figure

    large, small = finding.pair.large.name, finding.pair.small.name
    alt = f"Loss against compute of {small} trained for long and of {large} trained for less."
    return Drawing(name=f"overtraining-{small}", alt=alt, draw=draw)


def _match(axes: "Axes", style: Style, finding: OvertrainingFinding, match: Match) -> None:
    """From a length of the larger size along its loss to the smaller one's crossing."""
    start = 6 * finding.pair.large.params * match.larger_tokens
    each = 6 * finding.pair.small.params
    end, ink = each * match.tokens.value, style.paint.ink
    axes.plot([start, end], [match.loss] * 2, color=ink, lw=1, ls=DASHED, zorder=3)
    if not math.isnan(match.tokens.low):
        axes.plot([each * match.tokens.low, each * match.tokens.high], [match.loss] * 2,
                  color=ink, lw=2.6, zorder=5)  # fmt: skip
    axes.plot(end, match.loss, "D", ms=7, mfc=style.paint.card, mec=ink, mew=1.8, zorder=6)
    ratio = finding.pair.training(match, exact=False).value
    axes.annotate(
        f"{match.horizon}: {ratio:.2f}×",
        (max(start, end), match.loss),
        xytext=(9, 4),
        textcoords="offset points",
        ha="left",
        va="bottom",
        fontsize=11,
        color=ink,
    )


def _overtraining_key(figure: "Figure", style: Style, colour: str) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    ink, card = style.paint.ink, style.paint.card
    style.key(
        figure,
        [
            (Line2D([], [], color=colour, marker="o", ms=5, mec=card, lw=1.8), "seeds, their mean"),
            (Patch(color=colour, alpha=0.18, lw=0), "90% interval"),
            (Line2D([], [], marker="D", ms=7, mfc=card, mec=ink, mew=1.8, color=ink, lw=2.6),
             "equal loss, times the compute"),
        ],
    )  # fmt: skip


def _approach(finding: OvertrainingFinding) -> Drawing:
    """Ends of the smaller size with the power law and its band, and the exponential."""
    power, exp = (finding.forms[name].fitted for name in ("power-offset", "exp-offset"))
    mine = finding.table.subset(finding.table.params == finding.pair.small.params)

    def exponential(axes: "Axes", style: Style) -> "list[tuple[Artist, str]]":
        compute = np.geomspace(mine.budget.min(), mine.budget.max(), 160)
        line = axes.plot(compute, exp.form(compute), color=style.paint.accent, lw=1.8, zorder=2)
        return [(line[0], "exponential in place of the power law")]

    law = fit_curve.law(power, mine.budget, mine.loss, what="decayed end", groups=mine.params,
                        behind=exponential)  # fmt: skip

    def draw(style: Style) -> "Figure":
        figure = law.draw(style)
        style.dress(figure.axes[0], x=COMPUTE, y=LOSS if style.wide else "Loss (nats per token)")
        return figure

    name = finding.pair.small.name
    alt = f"Loss of {name} against compute with a power law and an exponential towards a floor."
    return Drawing(name=f"approach-{name}", alt=alt, draw=draw)


SIDEWAYS = 0.06
"""Between the marks of neighbours at one length, as a share of the distance of two lengths."""
SEED_OFFSET = 1.05
"""Single seeds stand right of their mean by this factor."""


def schedule_drawings(finding: SchedulesFinding) -> list[Drawing]:
    """What there is to show: shares, lengths, shapes."""
    found = []
    if finding.by_share:
        found.append(_shares(finding))
    if finding.against_cosine(finding.usual) is not None:
        found.append(_lengths(finding))
    if finding.by_shape:
        found.append(_shapes(finding))
    return found


def _shares(finding: SchedulesFinding) -> Drawing:
    """Mean loss over all lengths of every share, minus that of cosine (or of the best share)."""
    cosine = finding.losses("cosine", 1.0)
    best = min(finding.by_share, key=lambda share: finding.by_share[share].value)
    base = cosine or finding.losses(finding.shape, best)
    against = "a full cosine" if cosine else f"a decay of {percent(best)}"

    def draw(style: Style) -> "Figure":
        figure = style.blank(420 if style.wide else 340)
        axes = figure.add_subplot()
        axes.set_xscale("log")
        shares, colour = finding.shares, style.paint.accent
        gaps = [paired(finding.losses(finding.shape, share), base) for share in shares]
        for share, gap in zip(shares, gaps, strict=True):
            if gap is not None:
                losses = finding.losses(finding.shape, share)
                _dot(axes, style, share, gap, colour=colour)
                _seeds(axes, style, share * SEED_OFFSET, _by_seed(losses, base))
        known = [(share, gap.value) for share, gap in zip(shares, gaps, strict=True) if gap]
        axes.plot(*zip(*known, strict=True), color=colour, lw=1.6, zorder=2)
        axes.axhline(0, color=style.paint.ink, lw=1.4, ls=(0, (4, 3)), zorder=1)
        if cosine:
            style.names(axes, ["full cosine"], np.zeros(1), [style.paint.ink], title="")
        axes.set_xticks(shares, [percent(share) for share in shares])
        axes.minorticks_off()
        axes.margins(x=0.08)
        style.dress(axes, x=f"Decay's share of all tokens ({spelt(finding.shape)})",
                    y=f"Loss above that of {against} of equal length (nats per token)"
                    if style.wide else f"Above {against} (nats)")  # fmt: skip
        _schedule_key(figure, style, f"{spelt(finding.shape)} decay, mean over seeds and lengths")
        return figure

    alt = f"Loss above that of {against} for decays of {', '.join(map(percent, finding.shares))}."
    return Drawing(name="decay-share", alt=alt, draw=draw)


def _lengths(finding: SchedulesFinding) -> Drawing:
    """Cosine minus WSD at each length, a line for each share."""
    shares = [share for share in finding.shares if share < 1]
    lengths = list(finding.horizons)

    def draw(style: Style) -> "Figure":
        figure = style.blank(460 if style.wide else 370)
        axes = figure.add_subplot()
        colours = [style.along(i / max(len(shares) - 1, 1)) for i in range(len(shares))]
        last = []
        for rank, (share, colour) in enumerate(zip(shares, colours, strict=True)):
            aside = SIDEWAYS * (rank - (len(shares) - 1) / 2)
            gaps = [finding.against_cosine(share, tokens) for tokens in lengths]
            known = [(i + aside, gap) for i, gap in enumerate(gaps) if gap is not None]
            axes.plot([x for x, _ in known], [gap.value for _, gap in known], color=colour, lw=1.6)
            for x, gap in known:
                _dot(axes, style, x, gap, colour=colour)
            last.append(known[-1][1].value if known else 0.0)
        axes.axhline(0, color=style.paint.ink, lw=1.4, ls=(0, (4, 3)), zorder=1)
        axes.set_xticks(range(len(lengths)), list(finding.horizons.values()))
        axes.set_xlim(-0.35, len(lengths) - 0.65)
        style.dress(axes, x="Training length", grid="y",
                    y="Cosine minus WSD of equal length (nats per token); above 0: WSD is lower"
                    if style.wide else "Cosine minus WSD (nats)")  # fmt: skip
        names = [percent(share) for share in shares]
        style.names(axes, names, np.array(last), colours, title="decay")
        _schedule_key(figure, style, "mean over seeds", seeds=False)
        return figure

    alt = f"Cosine minus WSD at {len(lengths)} lengths, for {len(shares)} decay shares."
    return Drawing(name="cosine-against-wsd", alt=alt, draw=draw)


def _shapes(finding: SchedulesFinding) -> Drawing:
    """A row for each shape, the lowest loss at the top."""
    order = sorted(finding.by_shape, key=lambda shape: finding.by_shape[shape].value)
    base = finding.losses(finding.shape, finding.shapes_share)

    def draw(style: Style) -> "Figure":
        figure = style.blank(110 + 46 * len(order))
        axes = figure.add_subplot()
        for place, shape in enumerate(order):
            gap = finding.by_shape[shape]
            seeds = _by_seed(finding.losses(shape, finding.shapes_share), base)
            _dot(axes, style, place, gap, colour=style.paint.accent, flat=True)
            _seeds(axes, style, place + 0.2, seeds, flat=True)
        axes.axvline(0, color=style.paint.ink, lw=1.4, ls=(0, (4, 3)), zorder=1)
        axes.set_yticks(range(len(order)), [spelt(shape) for shape in order])
        axes.set_ylim(len(order) - 0.5, -0.5)
        share = percent(finding.shapes_share)
        style.dress(axes, x=f"Loss minus that of {spelt(finding.shape)} (nats per token)",
                    y=f"Shape of a {share} decay", grid="x")  # fmt: skip
        axes.locator_params(axis="x", nbins=8 if style.wide else 3)
        axes.tick_params(axis="y", labelcolor=style.paint.ink)
        _schedule_key(figure, style, "mean over seeds and lengths")
        return figure

    alt = f"Loss of {len(order)} decay shapes minus that of {spelt(finding.shape)}."
    return Drawing(name="decay-shape", alt=alt, draw=draw)


def _by_seed(losses: Losses, base: Losses) -> list[float]:
    """One difference for each seed, its mean over lengths."""
    seeds = sorted({seed for seed, _ in losses})
    gaps = [paired({k: v for k, v in losses.items() if k[0] == seed}, base) for seed in seeds]
    return [gap.value for gap in gaps if gap is not None]


def _dot(
    axes: "Axes", style: Style, at: float, gap: Difference, *, colour: str, flat: bool = False
) -> None:
    """A difference at `at` with its interval; `flat`: along x."""
    if gap.low is not None and gap.high is not None:
        ends, here = [gap.low, gap.high], [at, at]
        line = (ends, here) if flat else (here, ends)
        axes.plot(*line, color=colour, lw=2.2, alpha=0.75, zorder=3)
    dot = (gap.value, at) if flat else (at, gap.value)
    axes.plot(*dot, "o", ms=8, mfc=colour, mec=style.paint.card, mew=0.8, zorder=4)


def _seeds(
    axes: "Axes", style: Style, at: float, seeds: list[float], *, flat: bool = False
) -> None:
    """Single seeds as small dots, beside their mean."""
    here = [at] * len(seeds)
    pair = (seeds, here) if flat else (here, seeds)
    axes.plot(*pair, "o", ms=4, mfc=style.paint.card, mec=style.paint.accent, mew=1, zorder=5)


def _schedule_key(figure: "Figure", style: Style, what: str, *, seeds: bool = True) -> None:
    from matplotlib.lines import Line2D

    colour, card = style.paint.accent, style.paint.card
    entries = [
        (Line2D([], [], marker="o", ms=8, mfc=colour, mec=card, ls=""), what),
        (Line2D([], [], color=colour, lw=2.2, alpha=0.75), "90% interval"),
    ]
    if seeds:
        entries.append((Line2D([], [], marker="o", ms=4, mfc=card, mec=colour, ls=""), "one seed"))
    style.key(figure, entries)
