"""One update: loss and gradient over the micro-batches, clip, AdamW.

A step may be refilled with the next segment of its shape, so a worker compiles a shape once.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from windtunnel.model import Decoder
from windtunnel.spec import ModelSpec, Recipe
from windtunnel.train.execution import Execution
from windtunnel.train.state import TrainState, new_state

LARGEST_NUMBER_OF_SHAPES = 512
"""Beyond torch's own limit of 8 shapes a function silently runs eager: other bits, slower."""


class TrainStep:
    """A state and the functions that move it; `state` may be refilled for the next segment."""

    def __init__(self, model: ModelSpec, recipe: Recipe, execution: Execution) -> None:
        self.execution = execution
        self.clip = recipe.clip
        self.state: TrainState = new_state(model, recipe, execution)
        self.parameters = list(self.state.model.parameters())
        self.loss: Callable[[Tensor], Tensor] = self.eager_loss
        if execution.compile:
            self.loss = _compiled(self.state.model, self.precision)

    def precision(self) -> AbstractContextManager[object]:
        """Autocast to bf16 over fp32 master weights, where the record says so."""
        if self.execution.precision == "bf16":
            return torch.autocast(self.execution.device, dtype=torch.bfloat16)
        return nullcontext()

    def eager_loss(self, rows: Tensor) -> Tensor:
        """Mean nats per token of a batch."""
        with self.precision():
            loss: Tensor = self.state.model(rows)
        return loss

    def to_device(self, rows: np.ndarray) -> Tensor:
        """Token ids (n, context + 1) as a tensor where the weights are."""
        return torch.from_numpy(rows).to(self.state.device, non_blocking=True)

    def update(self, rows: np.ndarray, factor: float) -> tuple[Tensor, Tensor]:
        """Apply one update to the state; its loss and gradient norm, still on the device."""
        state, micro = self.state, self.execution.micro_batch_rows
        batch = self.to_device(rows)
        pieces = torch.split(batch, micro)
        total = torch.zeros((), device=state.device)
        for piece in pieces:
            loss = self.loss(piece) / len(pieces)
            torch.autograd.backward(loss)
            total = total + loss.detach()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)
        state.set_rate(factor)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        return total, norm


def _compiled(
    model: Decoder, precision: Callable[[], AbstractContextManager[object]]
) -> Callable[[Tensor], Tensor]:
    import torch._dynamo

    torch._dynamo.config.recompile_limit = LARGEST_NUMBER_OF_SHAPES
    torch._dynamo.config.accumulated_recompile_limit = LARGEST_NUMBER_OF_SHAPES
    function = torch.compile(model, dynamic=False, fullgraph=True)

    def loss(rows: Tensor) -> Tensor:
        with precision():
            found: Tensor = function(rows)
        return found

    return loss
