"""Drawings: figures for a page and for a file, from one function.

A `Drawing` is drawn in a `Style`: a width, colours, and how model sizes look and are called. On a
page the colours are the stand-ins of style.py, exchanged for CSS variables; in a file they are
plain colours on white.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from windtunnel.errors import ConfigError
from windtunnel.laws.table import Floats, Table
from windtunnel.report.figures.style import (
    NARROW,
    RAMP_LIGHT,
    STAND_INS,
    Paint,
    Picture,
    blank,
    dress,
    house_style,
    picture,
    ramp_colour,
    short,
    spread,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

PLAIN = Paint(ink="#1c2128", muted="#5c6570", rule="#e2e0da", card="#ffffff", accent="#1f5fa8")
FILE_WIDTH, FILE_DPI = 760, 144
"""A file is 760 CSS pixels wide, twice as many in truth."""
DASHED = (0, (4, 3))
"""Of every line beyond what was measured."""


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

    @property
    def wide(self) -> bool:
        """Whether this is more than a phone."""
        return self.width > NARROW

    def blank(self, height: int) -> "Figure":
        """A figure of so many CSS pixels."""
        return blank(self.width, height)

    def dress(self, axes: "Axes", *, x: str, y: str, grid: str = "both") -> None:
        """Titles, faint rules, no box."""
        dress(axes, x=x, y=y, grid=grid, paint=self.paint)

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
        places = spread(np.clip(shares, 0.0, 1.0).tolist(), 0.042 if self.wide else 0.058)
        size = 11 if self.wide else 10
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


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure that can be drawn in any style: its file's stem, and its text alternative."""

    name: str
    alt: str
    draw: "Callable[[Style], Figure]"

    def plain(self, sizes: Floats) -> "Figure":
        """The figure on white, for a notebook; `sizes` are the model sizes to be told apart."""
        log = np.log(sizes)
        low, reach = (float(log.min()), float(np.ptp(log))) if log.size else (0.0, 0.0)

        def colour(params: float) -> str:
            return ramp_colour(RAMP_LIGHT, (math.log(params) - low) / reach if reach else 0.0)

        style = Style(
            width=FILE_WIDTH,
            paint=PLAIN,
            captioned=False,
            sizes="params",
            colour=colour,
            name=short,
        )
        with house_style(PLAIN):
            return self.draw(style)

    def save(self, folder: Path, sizes: Floats) -> Path:
        """Write the PNG; `sizes` are the model sizes to be told apart, perhaps none.

        Raises:
            ConfigError: the file cannot be written.
        """
        path = folder / f"{self.name}.png"
        figure = self.plain(sizes)
        try:
            with house_style(PLAIN):
                figure.savefig(path, dpi=FILE_DPI, facecolor=PLAIN.card)
        except OSError as refused:
            raise ConfigError(
                "cannot-write",
                f"{path}: cannot be written: {refused.strerror}",
                path=path,
                cause=refused.strerror,
            ) from None
        return path

    def picture(
        self,
        suffix: str,
        colour: Callable[[float], str],
        name: Callable[[float], str],
        *,
        captioned: bool = True,
    ) -> Picture:
        """The same for a page, in both widths; with a key where no caption explains the marks."""

        def draw(width: int) -> "Figure":
            return self.draw(
                Style(
                    width=width,
                    paint=STAND_INS,
                    captioned=captioned,
                    sizes="size",
                    colour=colour,
                    name=name,
                )
            )

        return picture(f"{self.name}-{suffix}", self.alt, draw)


def save_all(drawings: Sequence[Drawing], folder: Path, sizes: Floats) -> list[Path]:
    """Write drawings as PNGs into a folder, made if it is not there; their paths.

    Raises:
        ConfigError: the folder or a file in it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as refused:
        raise ConfigError(
            "cannot-write",
            f"figures folder {folder}: cannot be made: {refused.strerror}; give a folder that can "
            "be written",
            path=folder,
            cause=refused.strerror,
        ) from None
    return [drawing.save(folder, sizes) for drawing in drawings]


Obstacle = Sequence[tuple[float, float]]
"""A path, in data."""
STEP = 3.0
"""Between the points of a path that a name may cover, in pixels."""
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
NEAR, FAR = 8, 16
"""From the dot, in points."""
ON_A_DOT, ON_A_NAME, OUTSIDE = 60.0, 400.0, 2000.0
"""What it costs beside a point of a path, which is 1 (assumed; they need only be in this order)."""


def label_points(
    axes: "Axes",
    dots: Sequence[tuple[float, float, str]],
    *,
    obstacles: Sequence[Obstacle],
    size: float,
) -> None:
    """Write each name at its (x, y): beside, above or below, clear of dots, paths and names.

    Call it last: it needs to know where everything is.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    axes.autoscale(enable=False)
    pixels = axes.transData.transform(np.array([(x, y) for x, y, _ in dots]))
    paths = [_points(axes.transData.transform(np.array(path))) for path in obstacles if len(path)]
    points = np.concatenate(paths) if paths else np.empty((0, 2))
    taken: list[Bbox] = []
    for x, y, words in dots:
        best, least = None, np.inf
        for distance, (right, up) in product((NEAR, FAR), SIDES):
            name = axes.annotate(
                words,
                (x, y),
                xytext=(right * distance, up * distance),
                textcoords="offset points",
                ha=("right", "center", "left")[right + 1],
                va=("top", "center", "bottom")[up + 1],
                fontsize=size,
                fontweight="bold",
                zorder=6,
                annotation_clip=False,
            )
            name.set_in_layout(False)
            box = name.get_window_extent()
            cost = (
                _inside(points, box)
                + ON_A_DOT * _inside(pixels, box.padded(5))
                + ON_A_NAME * sum(box.overlaps(other) for other in taken)
                + OUTSIDE * (not _holds(axes, box))
                + distance / FAR
            )
            if cost < least:
                if best is not None:
                    best.remove()
                best, least = name, cost
            else:
                name.remove()
        assert best is not None
        taken.append(best.get_window_extent())


def _points(path: Floats) -> Floats:
    """A path as points close to each other."""
    found = [path[:1]]
    for begin, end in pairwise(path):
        count = max(2, int(np.hypot(*(end - begin)) / STEP))
        found.append(begin + np.linspace(0, 1, count)[:, None] * (end - begin))
    return np.concatenate(found)


def _inside(points: Floats, box: "Bbox") -> int:
    x, y = points.T
    return int(((x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1)).sum())


def _holds(axes: "Axes", box: "Bbox") -> bool:
    whole = axes.bbox
    return bool(
        whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1
    )
