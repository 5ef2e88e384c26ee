"""The update by torch's own autograd and AdamW, on any device; compiled if the record says so."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import Tensor

from windtunnel.train.distributed import Averaged
from windtunnel.train.execution import Execution
from windtunnel.train.state import TrainState
from windtunnel.user_folders import user_cache

LARGEST_NUMBER_OF_SHAPES = 512
"""Beyond torch's own limit of 8 shapes a function silently runs eager: other bits, slower."""


class TorchBackend:
    """Autograd over the decoder, fp32 master weights, bf16 autocast where the record says so."""

    def __init__(self, state: TrainState, execution: Execution) -> None:
        self.state, self.execution = state, execution
        self.parameters = list(state.model.parameters())
        self.optimizer = torch.optim.AdamW(state.groups, fused=True)
        self.optimizer.state.update(state.moments)
        state.groups = self.optimizer.param_groups
        self.function: torch.nn.Module = state.model
        if execution.compile:
            self.function = _compiled(state.model)
        self.averaged: Averaged | None = None
        if execution.devices > 1:
            self.averaged = self._averaged()

    def backward(self, rows: Tensor, share: float, *, marked: bool, last: bool) -> Tensor:
        """Mean nats per token; the gradient is added to the parameters' own."""
        if self.averaged is None:
            return self._backward(self.function, rows, share, marked=marked)
        with self.averaged.adding(last=last):
            return self.averaged.mean(self._backward(self.averaged, rows, share, marked=marked))

    def apply(self, clip: float) -> Tensor:
        """Clip, AdamW, forget the gradient; no number is read back from the device."""
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    @torch.no_grad()
    def loss(self, rows: Tensor, *, marked: bool, odd: bool) -> Tensor:
        """Mean nats per token; an odd batch shape runs eager."""
        with self._precision():
            return _loss(self.state.model if odd else self.function, rows, marked=marked)

    def _backward(
        self, function: Callable[..., Tensor], rows: Tensor, share: float, *, marked: bool
    ) -> Tensor:
        with self._precision():
            loss = _loss(function, rows, marked=marked)
        torch.autograd.backward(loss * share)
        return loss.detach()

    def _averaged(self) -> Averaged:
        shape = (self.execution.micro_batch_rows, self.state.model.spec.context + 1)
        with self._precision():
            return Averaged(
                self.function, torch.zeros(shape, dtype=torch.long, device=self.state.device)
            )

    def _precision(self) -> AbstractContextManager[object]:
        if self.execution.precision == "bf16":
            return torch.autocast(self.execution.device, dtype=torch.bfloat16)
        return nullcontext()


def _loss(function: Callable[..., Tensor], rows: Tensor, *, marked: bool) -> Tensor:
    """The flag is a plain bool, given only where it is set: each way is a graph of its own."""
    return function(rows, True) if marked else function(rows)


def _compiled(model: torch.nn.Module) -> torch.nn.Module:
    import torch._dynamo

    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(user_cache("inductor")))
    torch._dynamo.config.recompile_limit = LARGEST_NUMBER_OF_SHAPES
    torch._dynamo.config.accumulated_recompile_limit = LARGEST_NUMBER_OF_SHAPES
    compiled = torch.compile(model, dynamic=False, fullgraph=True)
    return cast("torch.nn.Module", compiled)
