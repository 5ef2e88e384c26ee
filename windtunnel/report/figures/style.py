"""The style of every figure: colours, axes, ticks, and SVG for the page.

Matplotlib only knows literal colours, so each role is drawn in a colour that nobody would choose
and exchanged for a CSS variable in the SVG. One figure is then right in light, in dark and on
paper. A figure is drawn once for desktops and once for phones: scaled down, its text would be too
small.
"""

import html
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from windtunnel.laws.table import Floats, Table
from windtunnel.report.formatting import TIMES, power_of_ten, short

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.gridspec import SubplotSpec

COUNTED = ("params", "tokens", "batch_tokens", "unique_tokens", "sunk_tokens")
"""Columns that read as 100k, 1M, 10M."""
PLAINLY = (0.0009, 99_999.0)
"""Log axes between these are labelled with plain numbers, others with powers of ten."""


def log_ticks(
    axis: "Axis", *, counted: bool, most: int, within: tuple[float, float] | None = None
) -> None:
    """At most `most` labels on a log axis, or `within` a part of it: 100k and 1M where `counted`.

    Others are powers of ten, or plain numbers where those are short.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = within or sorted(axis.get_view_interval())
    axis.set_major_locator(FixedLocator(list(nice_logs(low, high, most=most))))
    axis.set_minor_locator(NullLocator())
    plain = PLAINLY[0] <= low and high <= PLAINLY[1]
    write = short if counted else "{:g}".format if plain else tick_label
    axis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))


def nice_logs(low: float, high: float, *, most: int) -> tuple[float, ...]:
    """Round values from `low` to `high` that are evenly spaced in logs, or nearly; at most `most`.

    Powers of ten, or every other one of them; in less than two decades 1, 2, 5, or finer.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    fine = (1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8, 9)
    ladders = [fine, (1, 1.5, 2, 3, 4, 5, 7), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)]
    found: tuple[float, ...] = ()
    for mantissas in ladders:
        values = (m * 10.0**e for e in range(first, last + 1) for m in mantissas)
        found = tuple(v for v in values if low * (1 - 1e-9) <= v <= high * (1 + 1e-9))
        if len(found) <= most:
            return found
    return found[:: math.ceil(len(found) / most)]


def is_log(values: Floats) -> bool:
    """Whether values span enough to be shown in logs: a factor of 4, all above 0."""
    low, high = float(np.min(values)), float(np.max(values))
    return low > 0 and high / low >= 4


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """The heights moved apart until neighbours are `gap` from each other; their order stays."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    groups: list[list[int]] = []
    centres: list[float] = []
    for i in order:  # merge whatever overlaps, and centre it on the mean of what it stands for
        groups.append([i])
        centres.append(heights[i])
        while len(groups) > 1 and (
            centres[-1] - centres[-2] < gap * (len(groups[-1]) + len(groups[-2])) / 2
        ):
            groups[-2:] = [groups[-2] + groups[-1]]
            centres[-2:] = [sum(heights[j] for j in groups[-1]) / len(groups[-1])]
    placed = [0.0] * len(heights)
    for group, centre in zip(groups, centres, strict=True):
        for place, i in enumerate(group):
            placed[i] = centre + gap * (place - (len(group) - 1) / 2)
    return placed


INK, MUTED, RULE, CARD, ACCENT = "#010101", "#010102", "#010103", "#010104", "#010105"
VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", CARD: "card", ACCENT: "accent"}


@dataclass(frozen=True, kw_only=True)
class Paint:
    """The five colours of a figure, apart from those of sizes."""

    ink: str
    muted: str
    rule: str
    card: str
    accent: str


DASHED = (0, (4, 3))
"""Of every line beyond what was measured."""

STAND_INS = Paint(ink=INK, muted=MUTED, rule=RULE, card=CARD, accent=ACCENT)

WIDE, NARROW = 920, 350
"""Widths in CSS pixels: the page's column, and a phone of 390 less its margins."""

RAMP_LIGHT = ("#5b2a86", "#2f6fb7", "#168f93", "#4aa33a", "#cc8400")
RAMP_DARK = ("#a991f2", "#6fb1ff", "#45cfc4", "#8fdc6a", "#ffd257")
"""Sizes from small to large: ordered in lightness, readable on white and on near black."""


def size_colour(index: int) -> str:
    """Stand-in for the colour of the index-th size."""
    return f"#01{0x0200 + index:04x}"


RAMP_STEPS = 32
"""A page has the ramp in so many steps, for what goes along it and is no size."""


def size_variables(sizes: int, ramp: tuple[str, ...]) -> list[str]:
    """Colours `--size-0` and on: `sizes` of them, evenly spaced along the ramp."""
    return [ramp_colour(ramp, i / max(sizes - 1, 1)) for i in range(sizes)]


def ramp_colour(ramp: tuple[str, ...], share: float) -> str:
    """The colour at a share of the ramp's length, from 0 to 1."""
    return _between(ramp, min(max(share, 0.0), 1.0) * (len(ramp) - 1))


@dataclass(frozen=True, kw_only=True)
class Style:
    """Width in CSS pixels, colours, and the colour and name of a model size.

    Where a caption explains the marks (`captioned`), the figure has no key. `sizes` says what the
    names are: params, or width and depth.
    """

    width: int
    paint: Paint
    captioned: bool
    sizes: str
    colour: Callable[[float], str]
    name: Callable[[float], str]

    def along(self, share: float) -> str:
        """The colour at a share of the ramp's length; on a page the stand-in of its variable."""
        if self.paint is not STAND_INS:
            return ramp_colour(RAMP_LIGHT, share)
        return f"#01{0x0400 + round(min(max(share, 0.0), 1.0) * RAMP_STEPS):04x}"

    @property
    def wide(self) -> bool:
        """Whether this is more than a phone."""
        return self.width > NARROW

    def blank(self, height: int) -> "Figure":
        """A figure of so many CSS pixels."""
        from matplotlib.figure import Figure

        return Figure(figsize=(self.width / 72, height / 72), dpi=72, layout="constrained")

    def panels(
        self, count: int, *, across: int, height: tuple[int, int], margin: int, **options: Any
    ) -> "tuple[Figure, list[Axes]]":
        """A figure with `count` panels, side by side where the style is wide.

        Args:
            count: Number of panels.
            across: Most panels in a row; a narrow style has one.
            height: CSS pixels of a row, wide and narrow.
            margin: CSS pixels besides the rows.
            options: `sharex` and `sharey` of matplotlib's subplots.
        """
        columns = min(count, across) if self.wide else 1
        rows = -(-count // columns)
        figure = self.blank(margin + rows * height[not self.wide])
        grid = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
        for axes in grid[count:]:
            axes.set_visible(False)
        return figure, grid[:count]

    def dress(self, axes: "Axes", *, x: str, y: str, grid: str = "both") -> None:
        """Titles at the ends of the axes, faint rules, no box; the y title is above its axis."""
        axes.set_xlabel(x, loc="right")
        axes.set_title(y, loc="left", fontsize=12, color=self.paint.muted, pad=10)
        axes.grid(visible=True, axis=grid, color=self.paint.rule, linewidth=0.8)  # type: ignore[arg-type]
        axes.set_axisbelow(True)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(self.paint.muted)
        axes.tick_params(length=0, pad=5)

    def colours(self, table: Table) -> list[str]:
        """Of every row: by size, where the table has sizes."""
        if "params" not in table:
            return [self.paint.accent] * table.rows
        return [self.colour(params) for params in table.params]

    def dots(
        self, axes: "Axes", x: Floats, y: Floats, colours: Sequence[str], *, small: bool = False
    ) -> None:
        """Measurements, one colour each."""
        size = 4.6 if small or not self.wide else 6.0
        for colour in dict.fromkeys(colours):
            mine = [each == colour for each in colours]
            axes.plot(x[mine], y[mine], "o", ms=size, mfc=colour, mec=self.paint.card, mew=0.6,
                      zorder=4)  # fmt: skip

    def names(
        self,
        axes: "Axes",
        names: Sequence[str],
        heights: Floats,
        colours: Sequence[str],
        *,
        title: str,
    ) -> None:
        """Names right of the axes, each near its height (in data) and clear of its neighbours."""
        to_share = axes.transData + axes.transAxes.inverted()
        middle = sum(axes.get_xlim()) / 2
        shares = [float(to_share.transform((middle, y))[1]) for y in heights]
        places = np.clip(shares, 0.0, 1.0).tolist()
        size = 11 if self.wide else 10
        places = spread(places, max(0.042, LINE * size / axes.bbox.height))
        for words, place, colour in zip(names, places, colours, strict=True):
            axes.annotate(
                words,
                (1, place),
                xycoords="axes fraction",
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=size,
                fontweight="bold",
                color=colour,
                annotation_clip=False,
            )
        axes.annotate(
            title,
            (1, 1),
            xycoords="axes fraction",
            xytext=(6, 10),
            textcoords="offset points",
            fontsize=size,
            color=self.paint.muted,
            annotation_clip=False,
        )

    def key(self, figure: "Figure", entries: "Sequence[tuple[Artist, str]]") -> None:
        """What the marks mean, above the axes."""
        if self.captioned:
            return
        figure.legend(
            [mark for mark, _ in entries],
            [words for _, words in entries],
            loc="outside upper left",
            ncols=len(entries) if self.wide else 2,
            borderaxespad=0,
            frameon=False,
            fontsize=11,
            handlelength=1.6,
            columnspacing=1.6,
        )


LINE = 1.45
"""Between names under each other, in font sizes."""
TIPS = "tips:"
"""Before the tooltips in the id of a line's group; they become titles of its marks."""


def tip(marks: "Artist", texts: Sequence[str]) -> None:
    """Give each mark of a line its tooltip, in the order of its points."""
    if texts:
        marks.set_gid(TIPS + "\n".join(texts))


def _titled(group: re.Match[str]) -> str:
    """A line's group with a title in each of its marks."""
    texts = iter(group[1].split("\n"))
    return re.sub(
        r"<use ([^>]*)/>", lambda m: f"<use {m[1]}><title>{next(texts, '')}</title></use>", group[2]
    )


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One figure for both widths, with the sentence that stands for it where it cannot be seen."""

    name: str
    alt: str
    wide: str
    narrow: str


def grid_place(axes: "Axes") -> "SubplotSpec":
    """The row and column of a panel."""
    place = axes.get_subplotspec()
    assert place is not None
    return place


def decades(axes: "Axes", *, most: int) -> None:
    """Log x axis with at most `most` powers of ten, or 1, 2, 5 where that gives too few."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axes.get_xlim()
    few = high / low < 10**2
    axes.xaxis.set_major_locator(
        LogLocator(base=10, subs=(1, 2, 5) if few else (1,), numticks=None if few else most)
    )
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_label(value)))


def counts(axes: "Axes") -> None:
    """Log x axis labelled 100k, 1M, 10M."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 3) if high / low < 10**2 else (1,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def tick_label(value: float) -> str:
    """`10¹⁵`, or `2 × 10¹⁵`."""
    mantissa, exponent = f"{value:.0e}".split("e")
    power = power_of_ten(int(exponent))
    return power if mantissa == "1" else f"{mantissa}{TIMES}{power}"


def _between(ramp: tuple[str, ...], place: float) -> str:
    first = min(int(place), len(ramp) - 2)
    part = place - first
    ends = ([int(ramp[first + k][i : i + 2], 16) for i in (1, 3, 5)] for k in (0, 1))
    return "#" + "".join(f"{round(a + part * (b - a)):02x}" for a, b in zip(*ends, strict=True))


@contextmanager
def house_style(paint: Paint) -> Iterator[None]:
    """Matplotlib's settings for every figure here."""
    import matplotlib

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "font.size": 12,
        "text.color": paint.ink,
        "axes.labelcolor": paint.muted,
        "xtick.color": paint.muted,
        "ytick.color": paint.muted,
        "axes.edgecolor": paint.muted,
        "lines.solid_capstyle": "round",
        "path.simplify": True,
        "path.simplify_threshold": 0.2,
    }
    with matplotlib.rc_context(style):
        yield


def svg(figure: "Figure", name: str, alt: str) -> str:
    """SVG for an HTML page: no prologue, no foreign addresses, ids of its own, colours by name."""
    import matplotlib

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box is not None
    body = text[text.index(">") + 1 :]
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL)
    body = re.sub(rf'(?<=<g) id="{TIPS}([^"]*)"(>.*?</g>)', _titled, body, flags=re.DOTALL)
    body = re.sub(r"font-family: [^;\"]*", "font-family: inherit", body)
    used = set(re.findall(r'(?:url\(#|href="#)([\w.-]+)', body))
    body = re.sub(
        r' id="([\w.-]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", body
    )
    body = body.replace("url(#", f"url(#{name}-").replace('xlink:href="#', f'href="#{name}-')
    for literal, variable in VARIABLES.items():
        body = body.replace(literal, f"var(--{variable})")
    body = re.sub(r"#01(04[0-9a-f]{2})", lambda m: f"var(--ramp-{int(m[1], 16) - 0x0400})", body)
    body = re.sub(
        r"#01((?!0[01])[0-9a-f]{4})", lambda m: f"var(--size-{int(m[1], 16) - 0x0200})", body
    )
    body = re.sub(r"\s*\n\s*", " ", body)
    # A hundredth of a pixel is enough, and half of the page's weight.
    body = re.sub(r' (?:d|x|y)="[^"]+"', lambda m: re.sub(r"(\.\d\d)\d+", r"\1", m[0]), body)
    head = f'<svg viewBox="{box[1]}" role="img" aria-label="{html.escape(alt, quote=True)}">'
    return head + body.strip()
