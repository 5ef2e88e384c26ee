"""Dynamics small enough to commit: means of every series over bins of equally many updates."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from windtunnel.laws.table import Floats
from windtunnel.runs.files import undamaged_rows
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.run import Run
from windtunnel.runs.schemas import CURVE_ROW
from windtunnel.runs.store import Store

MOST_BYTES = 280_000
"""Limit for all segments together, as text."""
BYTES_OF_NUMBER, BYTES_OF_ROW = 9, 32
"""Bytes with four digits and a comma (measured: 8.6), and of a row's segment and bounds."""
FEWEST_BINS, MOST_BINS = 8, 200
"""Bins of one segment."""

SERIES = (
    "lr", "loss", "cosine", "cosine_positive", "d1", "d1_size", "d2", "d2_size", "curvature",
    "grad_norm",
)  # fmt: skip
"""Series of every bin: the rate, the training loss, the series of train/dynamics.py, the share of
updates whose cosine is positive, and the means of |d1| and |d2|."""
CHANGE = "change:"
"""Prefix of a matrix's name: the mean of `max_change` over the windows that ended in a bin."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentDynamics:
    """Means over bins of the updates after `after` up to `step`; nan where there is no value.

    `series` holds those of `SERIES`, `changes` the largest change of each hidden matrix.
    """

    segment: str
    trunk: str
    kind: Literal["trunk", "branch"]
    params: int
    seed: int
    after: Floats
    step: Floats
    series: Mapping[str, Floats]
    changes: Mapping[str, Floats]


def read_dynamics(
    store: Store, planned: Iterable[PlannedSegment], *, most_bytes: int = MOST_BYTES
) -> tuple[SegmentDynamics, ...]:
    """Dynamics of a plan's segments, in so few bins that all fit into `most_bytes`."""
    those = [each for each in planned if store.segment(each.id).dynamics.exists()]
    if not those:
        return ()
    matrices = max(4 * each.segment.model.depth for each in those)
    a_row = BYTES_OF_ROW + BYTES_OF_NUMBER * (len(SERIES) + matrices)
    bins = int(np.clip(most_bytes // a_row // len(those), FEWEST_BINS, MOST_BINS))
    recorded = (_read(store, each, bins) for each in those)
    return tuple(each for each in recorded if each is not None)


def as_rows(found: Iterable[SegmentDynamics]) -> Iterator[dict[str, Any]]:
    """One row per bin: segment, bounds, series, and changes by name; four digits."""
    for each in found:
        columns = {**each.series, **{CHANGE + name: v for name, v in each.changes.items()}}
        for place, (after, step) in enumerate(zip(each.after, each.step, strict=True)):
            numbers = {name: _short(values[place]) for name, values in columns.items()}
            yield {"segment": each.segment, "after": int(after), "step": int(step)} | numbers


def from_rows(
    rows: Iterable[Mapping[str, Any]], runs: Mapping[str, Run]
) -> tuple[SegmentDynamics, ...]:
    """The inverse of `as_rows`; segments without a row in `runs` are unfinished and skipped."""
    by_segment: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_segment[row["segment"]].append(row)
    segments = []
    for segment, bins in by_segment.items():
        if segment not in runs:
            continue
        run = runs[segment]
        columns = {
            name: np.array([math.nan if each[name] is None else each[name] for each in bins], float)
            for name in bins[0]
            if name != "segment"
        }
        changes = {n.removeprefix(CHANGE): v for n, v in columns.items() if n.startswith(CHANGE)}
        segments.append(
            SegmentDynamics(
                segment=segment,
                trunk=run.trunk,
                kind="trunk" if run.kind == "trunk" else "branch",
                params=run.params,
                seed=run.init_seed,
                after=columns["after"],
                step=columns["step"],
                series={name: columns[name] for name in SERIES},
                changes={n: v for n, v in changes.items() if np.isfinite(v).any()},
            )
        )
    return tuple(segments)


def _read(store: Store, planned: PlannedSegment, bins: int) -> SegmentDynamics | None:
    """Dynamics of one segment up to its planned end; None where no row has been written."""
    folder, segment = store.segment(planned.id), planned.segment
    rows = [row for row in folder.dynamics_rows() if row["step"] <= planned.end]
    if not rows:
        return None
    steps = np.array([row["step"] for row in rows])
    losses = {row["step"]: row["loss"] for row in undamaged_rows(folder.curve, CURVE_ROW)}
    seen = {
        name: _numbers(row[name] for row in rows)
        for name in ("cosine", "d1", "d2", "curvature", "grad_norm")
    }
    of_update = {
        "lr": np.array([segment.recipe.lr * segment.schedule(step - 1) for step in steps.tolist()]),
        "loss": _numbers(losses.get(step) for step in steps.tolist()),
        "cosine_positive": np.where(np.isnan(seen["cosine"]), np.nan, seen["cosine"] > 0),
        "d1_size": np.abs(seen["d1"]),
        "d2_size": np.abs(seen["d2"]),
        **seen,
    }
    changes = [row["max_change"] or {} for row in rows]
    names = dict.fromkeys(name for change in changes for name in change)
    bins = min(bins, planned.steps)
    index = (steps - segment.fork_step - 1) * bins // planned.steps
    filled = np.unique(index)
    edges = segment.fork_step + np.ceil(np.arange(bins + 1) * planned.steps / bins)
    return SegmentDynamics(
        segment=planned.id,
        trunk=segment.root.id,
        kind=segment.kind,
        params=segment.model.params,
        seed=segment.root.init_seed,
        after=edges[filled],
        step=edges[filled + 1],
        series={name: _means(of_update[name], index)[filled] for name in SERIES},
        changes={
            name: _means(_numbers(change.get(name) for change in changes), index)[filled]
            for name in names
        },
    )


def _numbers(values: Iterable[float | None]) -> Floats:
    """The values with nan for None, which stands for a missing or non-finite one."""
    return np.array([math.nan if value is None else value for value in values])


def _means(values: Floats, index: Floats) -> Floats:
    """Mean of each bin over its known values; nan where there are none."""
    known = np.isfinite(values)
    bins = int(index.max()) + 1
    count = np.bincount(index[known], minlength=bins)
    total = np.bincount(index[known], values[known], bins)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _short(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else ""
