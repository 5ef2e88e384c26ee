"""The train loop and the evaluation of a fixed set of rows.

Rows, learning rate and end of training are functions of the update; the rest is one call of a
`TrainStep`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from windtunnel.config import Segment
from windtunnel.config.segment import rows_at, rows_per_update, tokens_at
from windtunnel.model.language_model import predictions_per_counted
from windtunnel.train.step import TrainStep, Watch

UPDATES_TOGETHER = 16
"""Updates per read of rows and per read-back of losses, since a read-back waits for the device."""


class Stream(Protocol):
    """An endless stream of rows, a pure function of the row number and the seed."""

    def rows(self, first: int, count: int, *, data_seed: int) -> np.ndarray:
        """Token ids (count, context + 1) from row `first` on."""


@dataclass(frozen=True, slots=True)
class CurveRow:
    """One update of a loss curve; `step` and `tokens` include it, `loss` is in nats per token."""

    step: int
    tokens: int
    loss: float
    lr: float
    grad_norm: float
    seconds: float


class Diverged(Exception):
    """The run has diverged; the row of update `step` that showed it is already written."""

    def __init__(self, step: int) -> None:
        super().__init__(f"diverged at update {step}")
        self.step = step


def train(
    step: TrainStep,
    segment: Segment,
    stream: Stream,
    *,
    until: int,
    write: Callable[[list[CurveRow]], None],
    stop: Callable[[], bool] = lambda: False,
    watches: Sequence[Watch] = (),
) -> None:
    """Run updates until `state.step == until`, or earlier when `stop()` says so.

    Raises:
        Diverged: A loss was not finite, or far above the best smoothed loss since warmup.
    """
    state, recipe, schedule = step.state, segment.recipe, segment.schedule
    per_update = rows_per_update(segment)
    began = time.perf_counter() - state.seconds
    for first in range(state.step, until, UPDATES_TOGETHER):
        updates = range(first, min(first + UPDATES_TOGETHER, until))
        rows = stream.rows(
            rows_at(segment, first), len(updates) * per_update, data_seed=segment.data_seed
        )
        pending = []
        for update, batch in zip(updates, np.split(rows, len(updates)), strict=True):
            factor = schedule(update)
            loss, norm = step.update(batch, factor, watches)
            seconds = time.perf_counter() - began
            pending.append(Update(update, loss, norm, recipe.lr * factor, seconds))
        _record(step, pending, segment, write)
        if stop():
            return


class Update(NamedTuple):
    """One update, whose loss and gradient norm may still be on the device."""

    number: int
    loss: Tensor | float
    grad_norm: Tensor | float
    lr: float
    seconds: float


def _record(
    step: TrainStep,
    pending: list[Update],
    segment: Segment,
    write: Callable[[list[CurveRow]], None],
) -> None:
    """Read back the losses of pending updates, check each for divergence, and write their rows."""
    rows = [
        CurveRow(
            step=update.number + 1,
            tokens=tokens_at(segment, update.number + 1),
            loss=float(update.loss),
            lr=update.lr,
            grad_norm=float(update.grad_norm),
            seconds=update.seconds,
        )
        for update in pending
    ]
    step.state.seconds = rows[-1].seconds
    for number, row in enumerate(rows):
        if step.state.watch.sees(row.step - 1, row.loss):
            write(rows[: number + 1])
            raise Diverged(row.step)
    write(rows)


EVALUATION_TOKENS = 2048
"""Tokens per forward pass: fits a core's caches, and is fixed so that losses are exact."""


def evaluate(step: TrainStep, rows: np.ndarray) -> float:
    """Mean loss in nats per unmasked token over `rows` (n, context + 1).

    Batches are summed in float64 in a fixed order, so equal weights give equal losses.
    """
    batch = max(1, EVALUATION_TOKENS // (rows.shape[1] - 1))
    total = 0.0
    for first in range(0, len(rows), batch):
        chunk = rows[first : first + batch]
        total += float(step.loss(chunk, odd=len(chunk) < batch)) * len(chunk)
    return total / len(rows) * predictions_per_counted(rows)
