"""Marked rows: a token whose prediction does not count is stored as its bitwise complement, ~id.

It is still read as `id`. The first token of a row is never predicted, marked or not. A row without
a negative number is a row of ids as they are.
"""

import numpy as np
import torch
from torch import Tensor


def marked(rows: np.ndarray) -> bool:
    """Whether any token of the rows is marked."""
    return bool((rows < 0).any())


def predictions_per_counted(rows: np.ndarray) -> float:
    """All predictions of (n, T + 1) rows over those that count; exactly 1 where none is marked.

    A mean over all predictions, with 0 for one that does not count, times this is the mean over
    those that do. Where none counts it stays 0.
    """
    predictions = rows[:, 1:]
    return predictions.size / max(1, int(np.count_nonzero(predictions >= 0)))


def token_ids(rows: Tensor) -> Tensor:
    """The ids to read, whether marked or not."""
    return torch.where(rows < 0, ~rows, rows)
