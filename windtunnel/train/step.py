"""One update: loss and gradient over the micro-batches, then clip and AdamW.

A `TrainStep` is prepared once per shape and refilled for each segment of that shape. In a
data-parallel trial rank 0 owns it, and every other rank runs `follow`.
"""

import json
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from windtunnel.config import ModelSpec, Recipe, Trunk, read_model
from windtunnel.config.study import Resources
from windtunnel.model.language_model import has_loss_mask, predictions_per_counted
from windtunnel.train.distributed import (
    LEADER,
    Broadcaster,
    Command,
    broadcast_state,
    is_leader,
    receive,
    rows_of_rank,
)
from windtunnel.train.execution import NATIVE, Execution, apply, decide, subnormals
from windtunnel.train.state import TrainState, new_state


class Backend(Protocol):
    """Computes a state's loss, gradient and update; results may still be on the device.

    With `masked`, ids may carry a loss mask (`model.language_model`): a masked prediction counts as
    0 nats in the mean.
    """

    def backward(self, rows: Tensor, share: float, *, masked: bool, last: bool) -> Tensor | float:
        """Mean nats per token of (B, T + 1) token ids; accumulates `share` times its gradient.

        `last` is set on the last micro-batch of an update.
        """

    def apply(self, clip: float) -> Tensor | float:
        """Gradient norm before clipping; clips, applies AdamW and zeroes the gradient."""

    def loss(self, rows: Tensor, *, masked: bool, odd: bool) -> Tensor | float:
        """Mean nats per token; an `odd` batch shape is not worth compiling for."""

    def route(self, rows: Tensor) -> None:
        """Count what the routers of a mixture of experts choose for (B, T + 1) token ids."""


class Watch(Protocol):
    """Observes a state around each update without changing it."""

    def before(self) -> None:
        """Called with the full, unclipped gradient, before the weights change."""

    def after(self) -> None:
        """Called after the weights have changed and the update is counted."""


class TrainStep:
    """A train state and its update; `state` is refilled for the next segment.

    Attributes:
        work_done: Updates and evaluation batches so far; it stands still when a step hangs.
    """

    def __init__(self, model: ModelSpec, recipe: Recipe, execution: Execution) -> None:
        self.execution = execution
        self.clip = recipe.clip
        self.work_done = 0
        self.state: TrainState = new_state(model, recipe, execution)
        self.broadcaster: Broadcaster | None = None
        if execution.devices > 1 and is_leader():
            self.broadcaster = Broadcaster(model, recipe, execution)
        self.backend = _backend(self.state, execution)

    def to_device(self, rows: np.ndarray) -> Tensor:
        """Token ids (n, context + 1) as a tensor on the weights' device."""
        return torch.from_numpy(rows).to(self.state.device, non_blocking=True)

    def loss(self, rows: np.ndarray, *, odd: bool = False) -> Tensor | float:
        """Mean nats per token of evaluation rows; a masked prediction counts as 0 nats."""
        self.work_done += 1
        with subnormals(self.execution.subnormals):
            masked = has_loss_mask(rows)
            return self.backend.loss(self.to_device(rows), masked=masked, odd=odd)

    def update(
        self, rows: np.ndarray, factor: float, watches: Sequence[Watch] = ()
    ) -> tuple[Tensor | float, Tensor | float]:
        """Loss (nats per token) and gradient norm of one update, still on the device.

        `rows` (n, context + 1) are the batch of all devices, and the loss is the mean over its
        unmasked predictions. Micro-batches and devices all have the same size and weight.
        `factor` scales the peak learning rate.
        """
        with subnormals(self.execution.subnormals):
            return self._update(rows, factor, watches)

    def _update(
        self, rows: np.ndarray, factor: float, watches: Sequence[Watch]
    ) -> tuple[Tensor | float, Tensor | float]:
        if self.broadcaster is not None:
            self.broadcaster.update(self.state, rows, factor)
        local = rows_of_rank(rows, self.execution) if self.execution.devices > 1 else rows
        *others, last = torch.split(self.to_device(local), self.execution.micro_batch_rows)
        self._begin_routing([*others, last])
        share = predictions_per_counted(rows) / (len(others) + 1)
        backward = partial(self.backend.backward, share=share, masked=has_loss_mask(rows))
        losses = [backward(micro_batch, last=False) for micro_batch in others]
        loss = sum(losses) + backward(last, last=True)
        self.state.set_rate(factor)
        for watch in watches:
            watch.before()
        norm = self.backend.apply(self.clip)
        self._end_routing()
        self.state.step += 1
        self.work_done += 1
        for watch in watches:
            watch.after()
        return loss * share, norm

    def _begin_routing(self, micro_batches: list[Tensor]) -> None:
        """Count the load of each expert, where the update is cut and a loss balances the load."""
        if (routed := self.state.model.routed) is None:
            return
        routing = routed.routing
        routing.begin(len(micro_batches), self.state.device)
        is_cut = len(micro_batches) > 1 or self.execution.devices > 1
        if is_cut and routed.balances_by_loss:
            for micro_batch in micro_batches:
                self.backend.route(micro_batch)
            if self.execution.devices > 1:
                dist.all_reduce(routing.counts_LE)
            routing.fix_shares()

    def _end_routing(self) -> None:
        if (routed := self.state.model.routed) is None:
            return
        if self.execution.devices > 1:
            routed.routing.sum_over_devices()
        routed.after_update()


def _backend(state: TrainState, execution: Execution) -> Backend:
    if execution.kernels.startswith(NATIVE):
        from windtunnel.train.native_backend import NativeBackend

        return NativeBackend(state, execution)
    from windtunnel.train.torch_backend import TorchBackend

    return TorchBackend(state, execution)


def untrained(model: ModelSpec, recipe: Recipe, *, seed: int) -> TrainStep:
    """A step before its first update, on CPU by torch: of checks, which have no data or store."""
    resources = Resources(device="cpu", kernels="torch", compile="never")
    execution = decide(resources, model, recipe, planned_tokens=0)
    apply(execution)
    step = TrainStep(model, recipe, execution)
    trunk = Trunk(model=model, recipe=recipe, stream="none", init_seed=seed, data_seed=seed)
    step.state.start(trunk)
    return step


def follow() -> None:
    """Run this rank as a DDP follower: obey rank 0 until it sends END."""
    step: TrainStep | None = None
    while True:
        command, sizes, factor = receive()
        match command:
            case Command.PREPARE:
                step = None  # frees a model's memory first
                step = _receive_step(sizes[0])
            case Command.FILL if step:
                broadcast_state(step.state)
            case Command.UPDATE if step:
                rows = torch.empty(sizes, dtype=torch.long)
                dist.broadcast(rows, LEADER)
                step.update(rows.numpy(), factor)
            case Command.END:
                return


def _receive_step(length: int) -> TrainStep:
    text = torch.empty(length, dtype=torch.uint8)
    dist.broadcast(text, LEADER)
    model, recipe, recorded = json.loads(bytes(text.tolist()))
    execution = Execution.model_validate(recorded)
    apply(execution)
    return TrainStep(read_model.validate_python(model), Recipe.model_validate(recipe), execution)
