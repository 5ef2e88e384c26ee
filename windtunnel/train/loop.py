"""The train loop: rows, rate and end are functions of the update; everything else is one call."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from windtunnel.spec import Segment
from windtunnel.train.step import TrainStep

ROWS_TOGETHER = 16
"""Losses are read back from the device in groups: a read waits for everything before it."""


class Stream(Protocol):
    """An endless stream of rows, a pure function of the row number and the seed."""

    def rows(self, first: int, count: int, *, data_seed: int) -> np.ndarray:
        """Token ids (count, context + 1) from row `first` on."""


@dataclass(frozen=True, slots=True)
class CurveRow:
    """What one update left behind; `step` and `tokens` count it in."""

    step: int
    tokens: int
    loss: float
    lr: float
    grad_norm: float
    seconds: float


class Diverged(Exception):
    """The run has left its path; the row of the update that showed it has been written."""

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
) -> None:
    """Run updates until `state.step == until`, or earlier when `stop()` says so.

    Raises:
        Diverged: A loss was not finite, or far above the best smoothed loss since warmup.
    """
    state, recipe, schedule = step.state, segment.recipe, segment.schedule
    rows_per_update = recipe.batch_tokens // segment.model.context
    pending: list[tuple[int, Tensor | float, Tensor | float, float, float]] = []
    began = time.perf_counter() - state.seconds
    for update in range(state.step, until):
        rows = stream.rows(update * rows_per_update, rows_per_update, data_seed=segment.data_seed)
        factor = schedule(update)
        loss, norm = step.update(rows, factor)
        pending.append((update, loss, norm, recipe.lr * factor, time.perf_counter() - began))
        if len(pending) == ROWS_TOGETHER or update + 1 == until:
            _settle(step, pending, recipe.batch_tokens, write)
            if stop():
                return


def _settle(
    step: TrainStep,
    pending: list[tuple[int, Tensor | float, Tensor | float, float, float]],
    batch_tokens: int,
    write: Callable[[list[CurveRow]], None],
) -> None:
    """Read the pending losses, write their rows, and judge each in turn."""
    rows = [
        CurveRow(
            step=update + 1,
            tokens=(update + 1) * batch_tokens,
            loss=float(loss),
            lr=lr,
            grad_norm=float(norm),
            seconds=seconds,
        )
        for update, loss, norm, lr, seconds in pending
    ]
    pending.clear()
    step.state.seconds = rows[-1].seconds
    for number, row in enumerate(rows):
        if step.state.watch.sees(row.step - 1, row.loss):
            write(rows[: number + 1])
            raise Diverged(row.step)
    write(rows)
