"""What gradients and steps look like while a model trains (arXiv 2404.06395, section 4.4).

With x the weights that an update starts from, g its gradient there, and v the step of the update
before, which led to x:

    cosine       g . g_before / (|g| |g_before|)
    d1           g . v / |v|                        the slope along that step, at its end
    d2           (g - g_before) . v / |v|^2         how much the slope has changed on the way
    curvature    |d2| / (1 + d1^2)^(3/2)
    grad_norm    |g|, before clipping
    max_change   max_ij of W - W_then over a window of updates, for every hidden matrix

Training is only looked at: losses are the same bits with and without. It takes four vectors as long
as the weights, and the hidden matrices once more.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from windtunnel.config.study import DynamicsConfig
from windtunnel.mup import Role
from windtunnel.train.state import TrainState


@dataclass(frozen=True, slots=True)
class DynamicsRow:
    """What was seen at one update; `step` counts it in, as a curve's row does.

    nan where the update before was not seen: it is the first since a start, a fork or a resume.
    `max_change` stands on the last row of a window.
    """

    step: int
    cosine: float
    d1: float
    d2: float
    curvature: float
    grad_norm: float
    max_change: dict[str, float] | None = None


class Dynamics:
    """Looks at a state around each update of one segment, which starts at `first_step`.

    Rows and windows are counted from there. What was seen may still be on the device until it is
    asked for by `rows`.
    """

    def __init__(self, state: TrainState, config: DynamicsConfig, *, first_step: int) -> None:
        self.state, self.config, self.first_step = state, config, first_step
        self._parameters = list(state.model.parameters())
        roles = state.model.roles()
        self._matrices = {
            name: weight.detach()
            for name, weight in state.model.named_parameters()
            if roles[name] is Role.HIDDEN
        }
        size = sum(weight.numel() for weight in self._parameters)
        vectors = torch.zeros(4, size, device=state.device).unbind()
        self._gradient, self._gradient_before, self._weights, self._move = vectors
        self._square = self._square_before = torch.zeros((), device=state.device)
        self._weights_at = self._move_to = -1
        self._then: list[Tensor] = []
        self._then_at = -1
        self._seen: list[_Seen] = []

    def before(self) -> None:
        """Look at the whole gradient, before it is clipped and the weights move."""
        done = self.state.step - self.first_step
        if done % self.config.window == 0 and self._then_at != self.state.step:
            self._remember_matrices()
        due = (done + 1) % self.config.every == 0
        if not (due or self._next_is_due):
            return
        self._gradient, self._gradient_before = self._gradient_before, self._gradient
        _fill(self._gradient, (weight.grad for weight in self._parameters))
        self._square_before = self._square
        self._square = torch.dot(self._gradient, self._gradient)
        if due:
            self._seen.append(_Seen(self.state.step + 1, self._products()))
        if self._next_is_due and self._weights_at != self.state.step:
            _fill(self._weights, self._parameters)

    def after(self) -> None:
        """Look at the weights once they have moved, and the update has been counted."""
        done = self.state.step - self.first_step
        if (done + 1) % self.config.every == 0:
            _fill(self._move, self._parameters)
            torch.sub(self._move, self._weights, out=self._weights)
            self._weights, self._move = self._move, self._weights
            self._weights_at = self._move_to = self.state.step
        if done % self.config.window == 0:
            if self._then_at == self.state.step - self.config.window:
                pairs = zip(self._matrices.values(), self._then, strict=True)
                self._seen[-1].change = torch.stack([(now - then).max() for now, then in pairs])
            self._remember_matrices()

    def rows(self, *, up_to: int) -> list[DynamicsRow]:
        """The rows seen since the last call; those beyond update `up_to` are dropped."""
        seen, self._seen = self._seen, []
        if not seen:
            return []
        products = torch.stack([each.products for each in seen]).tolist()
        return [
            _row(each.step, numbers, self._named(each.change))
            for each, numbers in zip(seen, products, strict=True)
            if each.step <= up_to
        ]

    @property
    def _next_is_due(self) -> bool:
        return (self.state.step - self.first_step + 2) % self.config.every == 0

    def _products(self) -> Tensor:
        """g.g, g_before.g_before, g.g_before, g.v, g_before.v, v.v; nan where v is not known."""
        if self._move_to != self.state.step:
            return torch.stack([self._square, *torch.full_like(self._square, math.nan).expand(5)])
        now, before, move = self._gradient, self._gradient_before, self._move
        pairs = ((now, before), (now, move), (before, move), (move, move))
        return torch.stack(
            [self._square, self._square_before, *(torch.dot(a, b) for a, b in pairs)]
        )

    def _remember_matrices(self) -> None:
        if not self._then:
            self._then = [torch.empty_like(matrix) for matrix in self._matrices.values()]
        for then, matrix in zip(self._then, self._matrices.values(), strict=True):
            then.copy_(matrix)
        self._then_at = self.state.step

    def _named(self, change: Tensor | None) -> dict[str, float] | None:
        return None if change is None else dict(zip(self._matrices, change.tolist(), strict=True))


@dataclass(slots=True)
class _Seen:
    """One row to be, its numbers perhaps still on the device."""

    step: int
    products: Tensor
    change: Tensor | None = None


def _fill(vector: Tensor, tensors: Iterable[Tensor | None]) -> None:
    torch.cat([each.detach().reshape(-1) for each in tensors if each is not None], out=vector)


def _row(step: int, products: list[float], change: dict[str, float] | None) -> DynamicsRow:
    now, before, together, slope, slope_before, move = products
    d1 = slope / math.sqrt(move) if move else math.nan
    d2 = (slope - slope_before) / move if move else math.nan
    norms = math.sqrt(now * before)
    return DynamicsRow(
        step=step,
        cosine=together / norms if norms else math.nan,
        d1=d1,
        d2=d2,
        curvature=abs(d2) / (1.0 + d1 * d1) ** 1.5,
        grad_norm=math.sqrt(now),
        max_change=change,
    )
