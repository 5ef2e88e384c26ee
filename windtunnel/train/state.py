"""The state of a run: weights, optimizer moments, update count and divergence detection.

Learning rate, batch and rows are functions of the update, so no other state exists.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from windtunnel.config import ModelSpec, Recipe, Trunk
from windtunnel.model import LanguageModel, build, initialise
from windtunnel.mup import Role
from windtunnel.train.execution import Execution

SMOOTHING = 0.98
"""Decay of the exponential moving average of the loss (assumed: about 50 updates of memory)."""

DIVERGED_FACTOR, DIVERGED_MARGIN = 1.5, 0.5
"""A run has diverged when its smoothed loss exceeds the best since warmup by both the factor and
the margin in nats (assumed); below 1 nat noise alone reaches the factor."""


@dataclass
class DivergenceWatch:
    """Divergence detection from the run's own smoothed loss, without an absolute bound.

    Before update `warmup` only a non-finite loss counts as divergence.
    """

    warmup: int
    smoothed: float = math.nan
    best: float = math.inf

    def sees(self, step: int, loss: float) -> bool:
        """Whether the run has diverged at update `step`, given its loss in nats per token."""
        if not math.isfinite(loss):
            return True
        if math.isnan(self.smoothed):
            self.smoothed = loss
        self.smoothed = SMOOTHING * self.smoothed + (1 - SMOOTHING) * loss
        if step >= self.warmup:
            self.best = min(self.best, self.smoothed)
        return self.smoothed > max(DIVERGED_FACTOR * self.best, self.best + DIVERGED_MARGIN)


@dataclass
class TrainState:
    """A model in training after `step` updates.

    Attributes:
        groups: AdamW's parameter groups, one per muP role.
        moments: AdamW's state of each parameter.
        fills: How often the state was started or loaded.
    """

    model: LanguageModel
    groups: list[dict[str, Any]]
    moments: dict[Tensor, dict[str, Tensor]]
    watch: DivergenceWatch
    step: int = 0
    seconds: float = 0.0
    fills: int = 0
    base_lr: dict[Role, float] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """The weights' device."""
        return next(self.model.parameters()).device

    def set_rate(self, factor: float) -> None:
        """Set every group's learning rate to its peak times the schedule's factor."""
        for group in self.groups:
            group["lr"] = self.base_lr[group["role"]] * factor

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Weights by name, and optimizer moments by `name/moment`."""
        weights = self.model.weights()
        moments = {
            f"{name}/{key}": value
            for name, weight in weights.items()
            for key, value in self.moments[weight].items()
        }
        return {name: weight.detach() for name, weight in weights.items()}, moments

    def start(self, trunk: Trunk) -> None:
        """Set the state to that of `trunk` before its first update."""
        initialise(self.model, trunk.recipe, init_seed=trunk.init_seed)
        for of_weight in self.moments.values():
            for moment in of_weight.values():
                moment.zero_()
        self.watch = DivergenceWatch(warmup=trunk.recipe.warmup_steps)
        self.step, self.seconds = 0, 0.0
        self.fills += 1

    def forget_losses(self) -> None:
        """Restart divergence detection, because losses on new data are not comparable."""
        self.watch = DivergenceWatch(warmup=self.watch.warmup)

    def load(self, weights: dict[str, Tensor], moments: dict[str, Tensor]) -> None:
        """Overwrite weights and moments in place."""
        self.fills += 1
        with torch.no_grad():
            for name, weight in self.model.weights().items():
                weight.copy_(weights[name])
                for key, moment in self.moments[weight].items():
                    moment.copy_(moments.get(f"{name}/{key}", torch.zeros(())))


def new_state(model: ModelSpec, recipe: Recipe, execution: Execution) -> TrainState:
    """An uninitialised state of the model's shape on the execution's device."""
    network = build(model, recipe).to(execution.device)
    groups, base_lr = role_groups(network, recipe)
    moments: dict[Tensor, dict[str, Tensor]] = {
        weight: {
            "step": torch.zeros((), device=weight.device),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }
        for weight in network.parameters()
    }
    return TrainState(
        model=network,
        groups=groups,
        moments=moments,
        watch=DivergenceWatch(warmup=recipe.warmup_steps),
        base_lr=base_lr,
    )


def role_groups(
    model: LanguageModel, recipe: Recipe
) -> tuple[list[dict[str, Any]], dict[Role, float]]:
    """AdamW's parameter groups, one per muP role, and the peak learning rate of each role."""
    roles = model.roles()
    groups: list[dict[str, Any]] = []
    base_lr: dict[Role, float] = {}
    for role in Role:
        members = [weight for name, weight in model.weights().items() if roles[name] is role]
        if not members:
            continue
        scale = recipe.scale(role, model.spec)
        base_lr[role] = recipe.lr * scale.lr
        groups.append(
            {
                "params": members,
                "role": role,
                "lr": base_lr[role],
                "betas": (recipe.beta1, recipe.beta2),
                "eps": recipe.eps * scale.eps,
                "weight_decay": recipe.weight_decay * scale.weight_decay,
            }
        )
    return groups, base_lr
