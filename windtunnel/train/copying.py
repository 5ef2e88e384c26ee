"""The copy gain: how much better a model predicts a chunk of text that it has just read.

A row holds one chunk twice. A model with a copying circuit (induction heads, Olsson et al. 2022,
arXiv 2209.11895) predicts the second by the first. Such a circuit forms abruptly, the loss then
falls faster than before, and no law that was fitted before it can know. Chunks are of the
validation set: random tokens, as in that paper, are far from what a small model has seen.

The control row is the same but for its first chunk, whose tokens are shuffled. Both rows predict
the same tokens at the same positions from the same set of tokens before them, so that neither more
context nor the frequencies of its tokens count as copying: only their order does.
"""

from dataclasses import dataclass

import numpy as np

from windtunnel.data import ValidationSet
from windtunnel.model.language_model import predictions_per_counted
from windtunnel.train.step import TrainStep

CHUNKS = 32
"""Rows of each kind: 0.8% of the time of the quickstart's runs, and a standard error of 0.001 to
0.03 nats (measured, docs/fit.md)."""

SHORTEST = 32
"""Shortest context with a chunk that has a middle."""

INNER = (20 / 63, 60 / 63)
"""Part of the second chunk that counts, of its length (assumed): its first tokens serve to find
the copy, and its last ones lie near the end of the row."""


CopyRows = tuple[np.ndarray, np.ndarray]
"""Ids with a loss mask (`model.language_model`), twice (n, context + 1): copied chunks, then
controls."""


@dataclass(frozen=True, kw_only=True)
class CopyGain:
    """Nats per token gained by having read the same chunk, over the control.

    Attributes:
        gain: Mean over the chunks.
        standard_error: Of that mean, from the scatter between chunks; None of a single chunk.
        chunks: How many there are.
    """

    gain: float
    standard_error: float | None
    chunks: int


def copy_rows(validation: ValidationSet, context: int) -> CopyRows | None:
    """Rows with a chunk twice and their controls; only inner tokens of the second chunk count.

    The chunks are the first of the set's rows in their fixed shuffled order, and the shuffles have
    a fixed seed, so that every run of a study is measured on the same rows.

    Returns:
        Up to `CHUNKS` rows of each kind; None where the context is shorter than `SHORTEST`.

    Raises:
        DataError: The set is too short for one row.
    """
    if context < SHORTEST:
        return None
    rows = validation.rows(context, CHUNKS * context)
    length = context // 2 - 1
    chunk = np.where(rows < 0, ~rows, rows)[:, :length]
    shuffled = np.random.default_rng(0).permuted(chunk, axis=1)
    first, last = (length + round(share * length) for share in INNER)

    def row(before: np.ndarray) -> np.ndarray:
        whole = np.concatenate([before, chunk, chunk[:, : context + 1 - 2 * length]], axis=1)
        whole[:, :first], whole[:, last:] = ~whole[:, :first], ~whole[:, last:]
        return whole

    return row(chunk), row(shuffled)


def copy_gain(step: TrainStep, rows: CopyRows) -> CopyGain:
    """The copy gain of a state on `copy_rows`, one forward pass per row."""
    copied, control = (np.array([_nats(step, row[None]) for row in each]) for each in rows)
    gains = control - copied
    error = float(gains.std(ddof=1) / np.sqrt(gains.size)) if gains.size > 1 else None
    return CopyGain(gain=float(gains.mean()), standard_error=error, chunks=gains.size)


def _nats(step: TrainStep, row: np.ndarray) -> float:
    """Mean nats per counted token of one row (1, context + 1), which is not worth compiling for."""
    return float(step.loss(row, odd=True)) * predictions_per_counted(row)
