"""Training dynamics: gradient and curvature series along a run (arXiv 2404.06395, section 4.4).

Let x be the weights before an update, g the gradient at x, and v the previous update's step to x:

    cosine       g . g_before / (|g| |g_before|)
    d1           g . v / |v|                        the slope along that step, at its end
    d2           (g - g_before) . v / |v|^2         change of the slope along the step
    curvature    |d2| / (1 + d1^2)^(3/2)
    grad_norm    |g|, before clipping
    max_change   max_ij of W - W_then over a window of updates, for every hidden matrix

Recording never changes a loss by a bit. It needs four vectors of the model's size and one copy of
the hidden matrices.
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
    """The dynamics of one update; `step` includes it, as in a curve's row.

    Values that need the previous update are nan on the first update after a start, fork or resume.
    Only the last row of a window has `max_change`.
    """

    step: int
    cosine: float
    d1: float
    d2: float
    curvature: float
    grad_norm: float
    max_change: dict[str, float] | None = None


class Dynamics:
    """Recorder of the dynamics of one segment, which starts at `first_step`.

    Rows and windows are counted from `first_step`. Values stay on the device until `rows`.
    """

    def __init__(self, state: TrainState, config: DynamicsConfig, *, first_step: int) -> None:
        self.state, self.config, self.first_step = state, config, first_step
        # A balance bias has no gradient: it follows the load.
        self._parameters = [each for each in state.model.parameters() if each.requires_grad]
        roles = state.model.roles()
        self._matrices = {
            name: weight.detach()
            for name, weight in state.model.weights().items()
            if roles[name] is Role.HIDDEN
        }
        size = sum(weight.numel() for weight in self._parameters)
        vectors = torch.zeros(4, size, device=state.device).unbind()
        self._gradient, self._gradient_before, self._weights, self._move = vectors
        self._square = self._square_before = torch.zeros((), device=state.device)
        self._weights_at = self._move_to = -1
        self._snapshot: list[Tensor] = []
        self._snapshot_at = -1
        self._pending: list[_Pending] = []

    def before(self) -> None:
        """Record the full gradient before it is clipped and the weights change."""
        done = self.state.step - self.first_step
        if done % self.config.window == 0 and self._snapshot_at != self.state.step:
            self._take_snapshot()
        due = (done + 1) % self.config.every == 0
        if not (due or self._next_is_due):
            return
        self._gradient, self._gradient_before = self._gradient_before, self._gradient
        _fill(self._gradient, (weight.grad for weight in self._parameters))
        self._square_before = self._square
        self._square = torch.dot(self._gradient, self._gradient)
        if due:
            self._pending.append(_Pending(self.state.step + 1, self._products()))
        if self._next_is_due and self._weights_at != self.state.step:
            _fill(self._weights, self._parameters)

    def after(self) -> None:
        """Record the weights after they have changed and the update is counted."""
        done = self.state.step - self.first_step
        if (done + 1) % self.config.every == 0:
            _fill(self._move, self._parameters)
            torch.sub(self._move, self._weights, out=self._weights)
            self._weights, self._move = self._move, self._weights
            self._weights_at = self._move_to = self.state.step
        if done % self.config.window == 0:
            if self._snapshot_at == self.state.step - self.config.window:
                pairs = zip(self._matrices.values(), self._snapshot, strict=True)
                self._pending[-1].change = torch.stack([(now - then).max() for now, then in pairs])
            self._take_snapshot()

    def rows(self, *, up_to: int) -> list[DynamicsRow]:
        """Rows recorded since the last call; those beyond update `up_to` are dropped."""
        pending, self._pending = self._pending, []
        if not pending:
            return []
        products = torch.stack([row.products for row in pending]).tolist()
        return [
            _row(row.step, numbers, self._named(row.change))
            for row, numbers in zip(pending, products, strict=True)
            if row.step <= up_to
        ]

    @property
    def _next_is_due(self) -> bool:
        return (self.state.step - self.first_step + 2) % self.config.every == 0

    def _products(self) -> Tensor:
        """g.g, g_before.g_before, g.g_before, g.v, g_before.v, v.v; nan where v is unknown."""
        if self._move_to != self.state.step:
            return torch.stack([self._square, *torch.full_like(self._square, math.nan).expand(5)])
        now, before, move = self._gradient, self._gradient_before, self._move
        pairs = ((now, before), (now, move), (before, move), (move, move))
        return torch.stack(
            [self._square, self._square_before, *(torch.dot(a, b) for a, b in pairs)]
        )

    def _take_snapshot(self) -> None:
        if not self._snapshot:
            self._snapshot = [torch.empty_like(matrix) for matrix in self._matrices.values()]
        for then, matrix in zip(self._snapshot, self._matrices.values(), strict=True):
            then.copy_(matrix)
        self._snapshot_at = self.state.step

    def _named(self, change: Tensor | None) -> dict[str, float] | None:
        return None if change is None else dict(zip(self._matrices, change.tolist(), strict=True))


@dataclass(slots=True)
class _Pending:
    """One pending row, whose values may still be on the device."""

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
