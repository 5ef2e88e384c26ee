"""Routing of mixtures of experts, small enough to commit: means over bins of updates, by layer."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.store import Store

SERIES = ("load_entropy", "largest_share", "router_entropy", "similarity")
"""As of train/routing.py."""
BINS = 4
"""Of one segment."""


@dataclass(frozen=True, kw_only=True)
class RoutingBin:
    """Means of one layer over the updates after `after` up to `step`.

    Attributes:
        segment: Its id.
        layer: From 1.
        load_entropy: Of the experts' shares of the tokens, over ln E: 1 is a balanced load.
        largest_share: Of the tokens, by the expert that has most; at balance 1 / E.
        router_entropy: Of a token's probabilities, over ln E.
        similarity: Mean cosine between the matrices of two experts.
    """

    segment: str
    layer: int
    after: int
    step: int
    load_entropy: float | None
    largest_share: float | None
    router_entropy: float | None
    similarity: float | None


def read_routing(store: Store, planned: Iterable[PlannedSegment]) -> tuple[RoutingBin, ...]:
    """The routing of a plan's segments up to their planned ends."""
    return tuple(each for one in planned for each in _bins(store, one))


def as_rows(found: Iterable[RoutingBin]) -> Iterator[dict[str, Any]]:
    """One row per bin and layer, of four digits."""
    for each in found:
        values = {name: _short(getattr(each, name)) for name in SERIES}
        place = {"segment": each.segment, "layer": each.layer}
        yield place | {"after": each.after, "step": each.step} | values


def from_rows(rows: Iterable[Mapping[str, Any]]) -> tuple[RoutingBin, ...]:
    """The inverse of `as_rows`."""
    return tuple(
        RoutingBin(
            segment=row["segment"],
            layer=int(row["layer"]),
            after=int(row["after"]),
            step=int(row["step"]),
            **{name: row[name] for name in SERIES},
        )
        for row in rows
    )


def _bins(store: Store, planned: PlannedSegment) -> Iterator[RoutingBin]:
    folder = store.segment(planned.id)
    if not folder.routing.exists():
        return
    rows = [row for row in folder.routing_rows() if row["step"] <= planned.end]
    after = planned.segment.fork_step
    for part in np.array_split(np.arange(len(rows)), min(BINS, len(rows))) if rows else ():
        mine = [rows[place] for place in part]
        end = mine[-1]["step"]
        for layer in range(planned.segment.model.depth):
            means = {name: _mean(row[name][layer] for row in mine) for name in SERIES}
            yield RoutingBin(segment=planned.id, layer=layer + 1, after=after, step=end, **means)
        after = end


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
