"""The torch backend: autograd and AdamW on any device, compiled if the execution record says so."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import Tensor

from windtunnel.model.language_model import token_ids
from windtunnel.train.distributed import AveragedGradients
from windtunnel.train.execution import Execution
from windtunnel.train.state import TrainState
from windtunnel.user_folders import user_cache

LARGEST_NUMBER_OF_SHAPES = 512
"""Beyond torch's default of 8 shapes a function silently falls back to eager, with other bits."""


class TorchBackend:
    """Autograd over the decoder with fp32 master weights, and bf16 autocast where recorded."""

    def __init__(self, state: TrainState, execution: Execution) -> None:
        self.state, self.execution = state, execution
        self.parameters = list(state.model.parameters())
        self.optimizer = torch.optim.AdamW(state.groups, fused=True)
        self.optimizer.state.update(state.moments)
        state.groups = self.optimizer.param_groups
        self.function: torch.nn.Module = state.model
        if execution.compile:
            self.function = _compiled(state.model)
        self.averaged: AveragedGradients | None = None
        if execution.devices > 1:
            shape = (execution.micro_batch_rows, state.model.spec.context + 1)
            with self._precision():
                sample = torch.zeros(shape, dtype=torch.long, device=state.device)
                self.averaged = AveragedGradients(self.function, sample)

    def backward(self, rows: Tensor, share: float, *, masked: bool, last: bool) -> Tensor:
        """Mean nats per token; adds `share` times the gradient to the parameters' `grad`."""
        if self.averaged is None:
            return self._backward(self.function, rows, share, masked=masked)
        with self.averaged.accumulate(last=last):
            return self.averaged.mean(self._backward(self.averaged, rows, share, masked=masked))

    def apply(self, clip: float) -> Tensor:
        """Gradient norm before clipping, still on the device; clips, applies AdamW, drops it."""
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    @torch.no_grad()
    def loss(self, rows: Tensor, *, masked: bool, odd: bool) -> Tensor:
        """Mean nats per token; an odd batch shape runs eager."""
        with self._precision():
            return _loss(self.state.model if odd else self.function, rows, masked=masked)

    @torch.no_grad()
    def route(self, rows: Tensor) -> None:
        """Count what the routers choose, by a forward pass."""
        model = self.state.model
        assert model.routed is not None
        with self._precision(), model.routed.routing.counting():
            model.logits(token_ids(rows[:, :-1]))

    def _backward(
        self, function: Callable[..., Tensor], rows: Tensor, share: float, *, masked: bool
    ) -> Tensor:
        with self._precision():
            loss = _loss(function, rows, masked=masked)
        torch.autograd.backward(loss * share)
        return loss.detach()

    def _precision(self) -> AbstractContextManager[object]:
        if self.execution.precision == "bf16":
            return torch.autocast(self.execution.device, dtype=torch.bfloat16)
        return nullcontext()


def _loss(function: Callable[..., Tensor], rows: Tensor, *, masked: bool) -> Tensor:
    """Loss of the rows; the flag is a plain bool, so that each of the two is one compiled graph."""
    return function(rows, True) if masked else function(rows)


def _compiled(model: torch.nn.Module) -> torch.nn.Module:
    import torch._dynamo

    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(user_cache("inductor")))
    torch._dynamo.config.recompile_limit = LARGEST_NUMBER_OF_SHAPES
    torch._dynamo.config.accumulated_recompile_limit = LARGEST_NUMBER_OF_SHAPES
    compiled = torch.compile(model, dynamic=False, fullgraph=True)
    return cast("torch.nn.Module", compiled)
