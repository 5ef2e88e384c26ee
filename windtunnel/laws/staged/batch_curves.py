"""The curve of every batch size: tokens needed to reach each loss for the first time."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from windtunnel.errors import FitError
from windtunnel.laws.staged.stages import logs, numbered, sustained_rises
from windtunnel.laws.table import Floats, Table

# A parabola through 3 batches is exact and says nothing about its own error.
MIN_BATCHES = 4
# Finished runs; rows before the decay; rows along runs, of unknown decay; last rows, likewise.
Kind = Literal["decayed", "undecayed", "mid-run", "ends"]


@dataclass(frozen=True, eq=False)
class Curve:
    """One curve's record losses.

    Attributes:
        size: params, or nan where the table has none.
        log_batch: ln tokens per update.
        log_tokens: ln tokens at each record, rising, (n,).
        log_loss: ln loss of each record, strictly falling, (n,).
    """

    size: float
    log_batch: float
    log_tokens: Floats
    log_loss: Floats

    def log_tokens_to(self, level: float) -> float:
        """Ln tokens at the first crossing of ln loss `level`, between records a line in logs."""
        return float(np.interp(-level, -self.log_loss, self.log_tokens))


def curves_of(table: Table) -> tuple[list[Curve], Kind, Floats]:
    """Curves, what their points are, and how far each curve rises.

    Rows of equal tokens on one curve (seeds) are averaged in ln loss. Where decayed points are too
    few, the undecayed rows alone are used: the two are never mixed.
    """
    log_batch, log_tokens = logs(table, "batch_tokens"), logs(table, "tokens")
    log_loss = logs(table, "loss")
    sized = "params" in table
    cell = table.cells(*["params"] * sized, "batch_tokens")
    size = table.params if sized else np.full(table.rows, np.nan)
    keep, kind, curve = _choice(table, cell)
    curve = numbered(curve[keep])
    order = np.lexsort((log_tokens[keep], curve))
    rows = np.flatnonzero(keep)[order]
    parts = np.split(rows, np.flatnonzero(np.diff(curve[order])) + 1)
    rises = sustained_rises(curve, log_tokens[keep], log_loss[keep])
    found = []
    for part in parts:
        tokens, losses = _means(log_tokens[part], log_loss[part])
        record = losses < np.minimum.accumulate(np.concatenate([[np.inf], losses[:-1]]))
        if record.sum() >= 2:
            head = float(size[part[0]]), float(log_batch[part[0]])
            found.append(Curve(*head, tokens[record], losses[record]))
    if not found:
        raise FitError(
            "batch: no curve with two points of falling loss. Give several token counts per batch "
            "size (rows along each run, or decayed branches of several lengths)"
        )
    return found, kind, rises


def _choice(
    table: Table, cell: NDArray[np.intp]
) -> tuple[NDArray[np.bool_], Kind, NDArray[np.intp]]:
    """Rows to use, what they are, and the number of every row's curve.

    Finished runs of one batch and size form one curve; otherwise each run is one.
    """
    everything = np.ones(table.rows, bool)
    run = table.labels.get("run", table.trunk if table.has_trunks else None)
    per_run = cell if run is None else cell * table.rows + numbered(run)
    decayed = table.decayed
    if decayed is not None and decayed.any():
        pairs = np.unique(np.stack([cell, table.tokens], axis=1)[decayed], axis=0)
        lengths = np.bincount(pairs[:, 0].astype(np.intp))
        if decayed.all() or np.sum(lengths >= 2) >= MIN_BATCHES:
            return decayed, "decayed", cell
    if decayed is not None:
        return ~decayed, "undecayed", per_run
    # One row per run is a table of ends, whatever is known of their decay.
    ends = run is not None and np.bincount(numbered(per_run)).max() == 1
    return everything, "ends" if ends else "mid-run", cell if ends else per_run


def _means(position: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Distinct positions, and the mean of the values at each."""
    distinct, index = np.unique(position, return_inverse=True)
    return distinct, np.bincount(index, values) / np.bincount(index)
