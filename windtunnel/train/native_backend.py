"""The native backend: our own CPU kernels over weights, gradients and moments in flat tensors."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from windtunnel.model import LanguageModel
from windtunnel.model.decoder import Stack
from windtunnel.model.experts import ExpertDecoder
from windtunnel.model.native import NativePass, adamw
from windtunnel.model.network import Network
from windtunnel.train.execution import Execution
from windtunnel.train.state import TrainState


class NativeBackend:
    """Runs on one core; an update records no graph and allocates nothing."""

    def __init__(self, state: TrainState, execution: Execution) -> None:
        self.flat = _Flat(state)
        self.model, self.precision = stack_of(state.model), execution.precision
        self._passes: dict[tuple[int, bool], NativePass] = {}

    def backward(self, rows: Tensor, share: float, *, masked: bool, last: bool) -> float:
        """Mean nats per token; adds `share` times the gradient to the flat one."""
        return self._pass(len(rows), gradient=True).run(rows, share)

    def apply(self, clip: float) -> float:
        """Gradient norm before clipping; one pass over the flat tensors clips and applies AdamW."""
        norm = float(torch.linalg.vector_norm(self.flat.gradients))
        self.flat.step.add_(1.0)
        for part in self.flat.parts:
            adamw(
                part.weights,
                part.gradients,
                part.first,
                part.second,
                group=part.group,
                factor=min(1.0, clip / (norm + 1e-6)),  # as clip_grad_norm_
                step=int(self.flat.step),
            )
        return norm

    def loss(self, rows: Tensor, *, masked: bool, odd: bool) -> float:
        """Mean nats per token; the kernels treat all shapes alike, with or without a loss mask."""
        return self._pass(len(rows), gradient=False).run(rows)

    def route(self, rows: Tensor) -> None:
        """Count what the routers choose, by a forward pass."""
        assert isinstance(self.model, ExpertDecoder)
        with self.model.routing.counting():
            self._pass(len(rows), gradient=False).run(rows)

    def _pass(self, sequences: int, *, gradient: bool) -> NativePass:
        key = (sequences, gradient)
        if key not in self._passes:
            self._passes[key] = NativePass(self.model, self.precision, sequences, gradient=gradient)
        return self._passes[key]


def stack_of(model: LanguageModel) -> Stack:
    """The network that the kernels know how to compute."""
    found = model.network if isinstance(model, Network) else model
    assert isinstance(found, Stack)
    return found


@dataclass(frozen=True)
class _Part:
    """One parameter group's slice of the flat tensors."""

    group: dict[str, Any]
    weights: Tensor
    gradients: Tensor
    first: Tensor
    second: Tensor


class _Flat:
    """Flat tensors of a whole state, which keeps reading and filling views of them."""

    def __init__(self, state: TrainState) -> None:
        size = sum(weight.numel() for group in state.groups for weight in group["params"])
        self.weights, self.gradients, self.first, self.second = torch.zeros(4, size).unbind()
        self.step = torch.zeros(())
        self.parts = []
        begin = at = 0
        for group in state.groups:
            for weight in group["params"]:
                self._adopt(state, weight, at)
                at += weight.numel()
            flats = (self.weights, self.gradients, self.first, self.second)
            self.parts.append(_Part(group, *(flat[begin:at] for flat in flats)))
            begin = at

    def _adopt(self, state: TrainState, weight: torch.nn.Parameter, at: int) -> None:
        def view(flat: Tensor) -> Tensor:
            return flat[at : at + weight.numel()].view_as(weight)

        weight.data = view(self.weights).copy_(weight.data)
        weight.grad = view(self.gradients)
        state.moments[weight] = {
            "step": self.step,
            "exp_avg": view(self.first),
            "exp_avg_sq": view(self.second),
        }
