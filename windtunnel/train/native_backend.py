"""The update by our own CPU kernels: weights, gradients and moments lie in four flat tensors."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from windtunnel.model.native import NativeDecoder, adamw
from windtunnel.train.execution import Execution
from windtunnel.train.state import TrainState


class NativeBackend:
    """One core, no graph, no allocation in a step."""

    def __init__(self, state: TrainState, execution: Execution) -> None:
        self.flat = _Flat(state)
        self.decoder = NativeDecoder(state.model, execution.precision)

    def backward(self, rows: Tensor, share: float, *, marked: bool, last: bool) -> float:
        """Mean nats per token; the gradient is added to the flat one."""
        return self.decoder.backward(rows, share)

    def apply(self, clip: float) -> float:
        """Clip and AdamW in one pass over the flat tensors, which leaves the gradient at zero."""
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

    def loss(self, rows: Tensor, *, marked: bool, odd: bool) -> float:
        """Mean nats per token; every batch shape is the same to the kernels, marked or not."""
        return self.decoder.loss(rows)


@dataclass(frozen=True)
class _Part:
    """One parameter group's stretch of the flat tensors."""

    group: dict[str, Any]
    weights: Tensor
    gradients: Tensor
    first: Tensor
    second: Tensor


class _Flat:
    """Moves a state's tensors into flat ones; the state goes on reading and filling its views."""

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
            everything = (self.weights, self.gradients, self.first, self.second)
            self.parts.append(_Part(group, *(flat[begin:at] for flat in everything)))
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
