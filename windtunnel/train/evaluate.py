"""Loss on fixed rows: the mean over every prediction that counts, in nats."""

import numpy as np

from windtunnel.model.marks import predictions_per_counted
from windtunnel.train.step import TrainStep

EVALUATION_TOKENS = 2048
"""Tokens a forward pass: small enough for a core's caches, the same everywhere for exactness."""


def evaluate(step: TrainStep, rows: np.ndarray) -> float:
    """Nats per counted token over `rows` of (n, context + 1) token ids, marked or not.

    Rows are summed in float64 in a fixed order, so the same weights give the same number.
    """
    batch = max(1, EVALUATION_TOKENS // (rows.shape[1] - 1))
    total = 0.0
    for first in range(0, len(rows), batch):
        piece = rows[first : first + batch]
        total += float(step.loss(piece, odd=len(piece) < batch)) * len(piece)
    return total / len(rows) * predictions_per_counted(rows)
