"""Training curves small enough for a page: means over log-spaced bins of updates."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from windtunnel.trials.lines import undamaged_rows
from windtunnel.trials.plan import PlannedSegment
from windtunnel.trials.store import Store
from windtunnel.trials.store_files import CURVE_ROW

Floats = NDArray[np.float64]

MOST_POINTS = 400


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Training loss of one segment, averaged over bins of updates; nats per token."""

    segment: str
    trunk: str
    kind: Literal["trunk", "branch"]
    params: int
    seed: int
    tokens: Floats
    loss: Floats


def read_curve(store: Store, planned: PlannedSegment, *, points: int = MOST_POINTS) -> Curve | None:
    """The segment's curve up to the plan's end of it; None where nothing has been written.

    Lines that are damaged are left out; `curve_damage.curve_cautions` tells of them.
    """
    written = undamaged_rows(store.segment(planned.id).curve, CURVE_ROW)
    rows = (row for row in written if row["step"] <= planned.end)
    tokens, loss = downsample(rows, points=points)
    if not tokens.size:
        return None
    segment = planned.segment
    return Curve(
        segment=planned.id,
        trunk=segment.root.id,
        kind=segment.kind,
        params=segment.model.params,
        seed=segment.root.init_seed,
        tokens=tokens,
        loss=loss,
    )


def downsample(
    rows: Iterable[dict[str, Any]], *, points: int = MOST_POINTS
) -> tuple[Floats, Floats]:
    """Tokens and loss, at most `points` of each; a loss that was not finite is left out.

    Means, not every k-th row: one batch's loss is noisier than the trend that it shows.
    """
    kept = [(row["tokens"], row["loss"]) for row in rows if row["loss"] is not None]
    if not kept:
        return np.empty(0), np.empty(0)
    tokens, loss = np.array(kept, np.float64).T
    if tokens.size > points:
        edges = np.geomspace(tokens[0], tokens[-1], points + 1)[1:-1]
        return bin_means(tokens, loss, edges)
    return tokens, loss


def bin_means(tokens: Floats, loss: Floats, edges: Floats) -> tuple[Floats, Floats]:
    """Means of both columns over the bins between `edges`; empty bins are left out."""
    index = np.searchsorted(edges, tokens, side="right")
    sizes = np.bincount(index, minlength=edges.size + 1)
    full = sizes > 0
    means = (np.bincount(index, column, edges.size + 1)[full] for column in (tokens, loss))
    mean_tokens, mean_loss = (mean / sizes[full] for mean in means)
    return mean_tokens, mean_loss
