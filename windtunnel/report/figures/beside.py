"""Names beside dots of a plane, each where it covers least."""

from collections.abc import Sequence
from itertools import pairwise, product
from typing import TYPE_CHECKING

import numpy as np

from windtunnel.laws.table import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

Obstacle = Sequence[tuple[float, float]]
"""A path, in data."""
STEP = 3.0
"""Between the points of a path that a name may cover, in pixels."""
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
NEAR, FAR = 8, 16
"""From the dot, in points."""
ON_A_DOT, ON_A_NAME, OUTSIDE = 60.0, 400.0, 2000.0
"""What it costs beside a point of a path, which is 1 (assumed; they need only be in this order)."""


def names_beside(
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
