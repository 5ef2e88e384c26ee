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
from windtunnel.laws.table import Floats
from windtunnel.report.figures.style import (
    NARROW,
    RAMP_LIGHT,
    STAND_INS,
    WIDE,
    Paint,
    Picture,
    Style,
    house_style,
    ramp_colour,
    svg,
)
from windtunnel.report.formatting import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

PLAIN = Paint(ink="#1c2128", muted="#5c6570", rule="#e2e0da", card="#ffffff", accent="#1f5fa8")
FILE_WIDTH, FILE_DPI = 760, 144
"""A file is 760 CSS pixels wide, twice as many in truth."""

NO_SIZES: Floats = np.empty(0)
"""Of a figure in which no colour stands for a model size."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure that can be drawn in any style: its file's stem, and its text alternative."""

    name: str
    alt: str
    draw: "Callable[[Style], Figure]"

    def plain(self, sizes: Floats = NO_SIZES) -> "Figure":
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

    def save(self, folder: Path, sizes: Floats = NO_SIZES) -> Path:
        """Write the PNG and return its path.

        Args:
            folder: Where it is written, as NAME.png.
            sizes: The model sizes that have a colour each, perhaps none.

        Raises:
            ConfigError: The file cannot be written.
        """
        path = folder / f"{self.name}.png"
        self.write(path, sizes)
        return path

    def write(self, path: Path, sizes: Floats = NO_SIZES) -> None:
        """Write the figure in the format that the ending of `path` names.

        Raises:
            ConfigError: The file cannot be written.
        """
        figure = self.plain(sizes)
        try:
            with house_style(PLAIN):
                figure.savefig(path, dpi=FILE_DPI, facecolor=PLAIN.card)
        except (OSError, ValueError) as refused:
            cause = getattr(refused, "strerror", None) or str(refused)
            message = f"{path}: cannot be written: {cause}"
            raise ConfigError("cannot-write", message, path=path, cause=cause) from None

    def picture(
        self,
        suffix: str,
        colour: Callable[[float], str],
        name: Callable[[float], str],
        *,
        captioned: bool = True,
    ) -> Picture:
        """The figure for a page, in both widths; with a key where no caption explains the marks.

        `suffix` tells its ids from those of the same figure elsewhere on the page.
        """
        stem = "-".join(filter(None, (self.name, suffix)))

        def drawn(width: int) -> str:
            style = Style(
                width=width,
                paint=STAND_INS,
                captioned=captioned,
                sizes="size",
                colour=colour,
                name=name,
            )
            return svg(self.draw(style), f"{stem}-{width}", self.alt)

        with house_style(STAND_INS):
            return Picture(name=stem, alt=self.alt, wide=drawn(WIDE), narrow=drawn(NARROW))


def save_all(drawings: Sequence[Drawing], folder: Path, sizes: Floats = NO_SIZES) -> list[Path]:
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
