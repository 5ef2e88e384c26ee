"""One update: loss and gradient over the micro-batches, then clip and AdamW.

A step may be refilled with the next segment of its shape, so a worker prepares a shape once.

The other devices of a data-parallel trial: they do what rank 0 says until it is done.
"""

import json
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from windtunnel.config import ModelSpec, Recipe
from windtunnel.model.decoder import marked, predictions_per_counted
from windtunnel.train.distributed import LEADER, Order, Peers, fill, leads, receive, share_of
from windtunnel.train.execution import NATIVE, Execution, apply, subnormals
from windtunnel.train.state import TrainState, new_state


class Backend(Protocol):
    """How a state's loss, gradient and update are computed; numbers may still be on the device.

    With `marked`, ids may be marked (`model/marks.py`): a prediction that does not count has 0
    nats in the mean.
    """

    def backward(self, rows: Tensor, share: float, *, marked: bool, last: bool) -> Tensor | float:
        """Mean nats per token of (B, T + 1) token ids, `share` of whose gradient is added up.

        `last`: no other piece of this update follows.
        """

    def apply(self, clip: float) -> Tensor | float:
        """Clip the gradient, update weights and moments, start from zero; the norm before."""

    def loss(self, rows: Tensor, *, marked: bool, odd: bool) -> Tensor | float:
        """Mean nats per token; `odd` marks a batch shape that is not worth preparing for."""


class Watch(Protocol):
    """Looks at a state around each update, and changes nothing."""

    def before(self) -> None:
        """The gradient is whole and not yet clipped; the weights have not moved."""

    def after(self) -> None:
        """The weights have moved, and the update is counted."""


class TrainStep:
    """A state and the functions that move it; `state` may be refilled for the next segment.

    Attributes:
        work_done: Updates and pieces of evaluation so far; a step that hangs shows by it.
    """

    def __init__(self, model: ModelSpec, recipe: Recipe, execution: Execution) -> None:
        self.execution = execution
        self.clip = recipe.clip
        self.work_done = 0
        self.state: TrainState = new_state(model, recipe, execution)
        self.peers = Peers(model, recipe, execution) if execution.devices > 1 and leads() else None
        self.backend = _backend(self.state, execution)

    def to_device(self, rows: np.ndarray) -> Tensor:
        """Token ids (n, context + 1) as a tensor where the weights are."""
        return torch.from_numpy(rows).to(self.state.device, non_blocking=True)

    def loss(self, rows: np.ndarray, *, odd: bool = False) -> Tensor | float:
        """Mean nats per token of rows that are not trained on; 0 where one does not count."""
        self.work_done += 1
        with self._arithmetic():
            return self.backend.loss(self.to_device(rows), marked=marked(rows), odd=odd)

    def update(
        self, rows: np.ndarray, factor: float, watch: Watch | None = None
    ) -> tuple[Tensor | float, Tensor | float]:
        """Apply one update to the state; its loss and gradient norm, still on the device.

        The rows are those of all devices, and the loss is the mean over the predictions of all that
        count: pieces and devices are of one size, so that all have the same share in it.
        """
        with self._arithmetic():
            return self._update(rows, factor, watch)

    def _update(
        self, rows: np.ndarray, factor: float, watch: Watch | None
    ) -> tuple[Tensor | float, Tensor | float]:
        if self.peers is not None:
            self.peers.update(self.state, rows, factor)
        own = share_of(rows, self.execution) if self.execution.devices > 1 else rows
        *others, last = torch.split(self.to_device(own), self.execution.micro_batch_rows)
        share = predictions_per_counted(rows) / (len(others) + 1)
        backward = partial(self.backend.backward, share=share, marked=marked(rows))
        losses = [backward(piece, last=False) for piece in others]
        loss = sum(losses) + backward(last, last=True)
        self.state.set_rate(factor)
        if watch is not None:
            watch.before()
        norm = self.backend.apply(self.clip)
        self.state.step += 1
        self.work_done += 1
        if watch is not None:
            watch.after()
        return loss * share, norm

    def _arithmetic(self) -> AbstractContextManager[None]:
        return subnormals(self.execution.subnormals)


def _backend(state: TrainState, execution: Execution) -> Backend:
    if execution.kernels.startswith(NATIVE):
        from windtunnel.train.native_backend import NativeBackend

        return NativeBackend(state, execution)
    from windtunnel.train.torch_backend import TorchBackend

    return TorchBackend(state, execution)


def follow() -> None:
    """Lend this device to rank 0 until it says END."""
    step: TrainStep | None = None
    while True:
        order, sizes, factor = receive()
        match order:
            case Order.PREPARE:
                step = None  # its memory is a model's
                step = _prepared(sizes[0])
            case Order.FILL if step:
                fill(step.state)
            case Order.UPDATE if step:
                rows = torch.empty(sizes, dtype=torch.long)
                dist.broadcast(rows, LEADER)
                step.update(rows.numpy(), factor)
            case Order.END:
                return


def _prepared(length: int) -> TrainStep:
    text = torch.empty(length, dtype=torch.uint8)
    dist.broadcast(text, LEADER)
    model, recipe, made = json.loads(bytes(text.tolist()))
    execution = Execution.model_validate(made)
    apply(execution)
    return TrainStep(ModelSpec.model_validate(model), Recipe.model_validate(recipe), execution)
