"""The coordinate check: how the change of activations after a few updates depends on width.

The check uses the change from initialisation of the residual stream and of each role's output (Yang
et al. 2022, arXiv 2203.03466, section D.1, on changes instead of sizes). Logits alone hide faults
behind the final norm, and at init their size falls as width^-1/2 under tied weights without any
fault. Weight decay leaves no trace in activations; it is measured separately, as the shrinkage of
each role's weights in one update without gradient.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from windtunnel.config import ModelSpec, Recipe, Trunk
from windtunnel.config.study import Resources
from windtunnel.errors import ConfigError
from windtunnel.model import Decoder
from windtunnel.model.decoder import rms_norm
from windtunnel.mup import Role
from windtunnel.train.execution import apply, decide
from windtunnel.train.step import TrainStep

TOLERANCE = 0.2
"""Largest slope of ln(change) against ln(width) that passes. Measured over widths 32 to 256, 8 and
16 updates, three seeds: muP stays within 0.11 (logits apart), and each single broken rule moves
some slope beyond 0.65.
"""

LOWEST_LOGITS_SLOPE = -0.4
"""Logits may fall with width for a while without a fault: until updates align with the readout,
their change is a sum of random signs over the width, of slope -1/2 (derived; measured under muP:
-0.06 to -0.20). A lost factor 1 / m shows as a slope near +1, one too many as -1.
"""

SEEDS = (0, 1, 2)
"""Each slope is of the mean over these inits and batches."""

ROWS = 8

LOGITS = "logits"


@dataclass(frozen=True, kw_only=True)
class SiteResult:
    """One activation, or one role's weight decay: its value at every width, and the slope.

    `changes` has one row per step and one column per width: root mean square of (now - init).
    """

    name: str
    changes: tuple[tuple[float, ...], ...]
    slope: float
    judged: bool
    lowest: float = -TOLERANCE

    @property
    def passed(self) -> bool:
        """Whether it is independent of width, within the tolerance."""
        return not self.judged or self.lowest <= self.slope <= TOLERANCE


@dataclass(frozen=True, kw_only=True)
class CoordinateCheck:
    """The results of all sites over the checked widths."""

    widths: tuple[int, ...]
    parametrization: str
    sites: tuple[SiteResult, ...]
    decays: tuple[SiteResult, ...]
    tolerance: float = TOLERANCE
    lowest_logits_slope: float = LOWEST_LOGITS_SLOPE

    @property
    def passed(self) -> bool:
        """Whether every judged slope is within the tolerance."""
        return all(verdict.passed for verdict in (*self.sites, *self.decays))


def coordinate_check(
    models: list[ModelSpec], recipe: Recipe, *, steps: int, seeds: tuple[int, ...] = SEEDS
) -> CoordinateCheck:
    """Train each model `steps` updates at its peak rate and judge how changes depend on width.

    Raises:
        ConfigError: The widths span less than a factor of 8, or the models differ otherwise.
    """
    widths = tuple(model.width for model in models)
    if len(set(widths)) < 3 or max(widths) < 8 * min(widths):
        raise ConfigError(
            "too-few-widths",
            f"widths {', '.join(map(str, widths))}: give three or more, over a factor of 8 or more",
            widths=widths,
            needed=3,
            factor=8,
        )
    if any(a.depth != b.depth or a.head_dim != b.head_dim for a, b in pairwise(models)):
        raise ConfigError(
            "shapes-differ",
            "a coordinate check compares widths at one depth and one head size",
            depths=sorted({model.depth for model in models}),
            head_dims=sorted({model.head_dim for model in models}),
        )
    recipe = recipe.replace(warmup_steps=1, batch_tokens=ROWS * models[0].context)
    per_width = [
        {name: np.mean([trace[name] for trace in traces], axis=0) for name in traces[0]}
        for traces in (
            [_changes(model, recipe, steps=steps, seed=seed) for seed in seeds] for model in models
        )
    ]
    shrinkages = [_shrinkage(model, recipe) for model in models]
    judges_decay = recipe.weight_decay_rule == "scaled" and recipe.weight_decay > 0
    return CoordinateCheck(
        widths=widths,
        parametrization=recipe.parametrization,
        sites=tuple(
            _verdict(name, widths, [trace[name] for trace in per_width], judged=True)
            for name in per_width[0]
        ),
        decays=tuple(
            _verdict(
                f"weight decay of {role}",
                widths,
                [np.array([found[role]]) for found in shrinkages],
                judged=judges_decay,
            )
            for role in shrinkages[0]
        ),
    )


def _verdict(
    name: str, widths: tuple[int, ...], values: list[np.ndarray], *, judged: bool
) -> SiteResult:
    table = np.stack(values, axis=1)
    last = np.maximum(table[-1], np.finfo(float).tiny)
    # At small widths a change still holds a term of order width^-1/2; a fault grows with width.
    large = np.array(widths) >= np.sqrt(min(widths) * max(widths))
    slope = float(np.polyfit(np.log(widths)[large], np.log(last)[large], 1)[0])
    return SiteResult(
        name=name,
        changes=tuple(tuple(map(float, row)) for row in table),
        slope=slope,
        judged=judged,
        lowest=LOWEST_LOGITS_SLOPE if name == LOGITS else -TOLERANCE,
    )


def _changes(model: ModelSpec, recipe: Recipe, *, steps: int, seed: int) -> dict[str, np.ndarray]:
    """Site -> root mean square change after each update, shape (steps,)."""
    step = _fresh(model, recipe, seed=seed)
    rows = _rows(model, seed=seed)
    tokens = torch.from_numpy(rows[:, :-1])
    before = activations(step.state.model, tokens)
    changes: dict[str, list[float]] = {name: [] for name in before}
    for _ in range(steps):
        step.update(rows, 1.0)
        for name, value in activations(step.state.model, tokens).items():
            changes[name].append(float((value - before[name]).square().mean().sqrt()))
    return {name: np.array(values) for name, values in changes.items()}


@torch.no_grad()
def activations(model: Decoder, tokens_BT: Tensor) -> dict[str, Tensor]:
    """The residual stream and each role's output, at the first and the last layer."""
    outputs: dict[str, Tensor] = {}
    x_BTW = torch.nn.functional.embedding(tokens_BT, model.embedding) * model.sites.embed
    outputs["embedding output"] = x_BTW
    length, last = tokens_BT.shape[1], len(model.blocks) - 1
    cos_TK, sin_TK = model.cos_TK[:length], model.sin_TK[:length]
    for number, block in enumerate(model.layers):
        attention = block.attention(x_BTW, cos_TK, sin_TK)
        x_BTW = torch.add(x_BTW, attention, alpha=model.sites.residual)
        feed_forward = block.feed_forward(x_BTW)
        x_BTW = torch.add(x_BTW, feed_forward, alpha=model.sites.residual)
        if number in {0, last}:
            outputs[f"attention output, layer {number + 1}"] = attention
            outputs[f"feed-forward output, layer {number + 1}"] = feed_forward
    outputs["residual stream"] = x_BTW
    outputs["final norm"] = rms_norm(x_BTW, model.norm_final)
    outputs[LOGITS] = model.logits(tokens_BT)
    return outputs


def _shrinkage(model: ModelSpec, recipe: Recipe) -> dict[Role, float]:
    """Relative shrinkage of each role's weights in one update at peak rate without a gradient."""
    step = _fresh(model, recipe, seed=0)
    state = step.state
    roles = state.model.roles()
    before = {name: p.detach().double().norm() for name, p in state.model.named_parameters()}
    for parameter in state.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    state.set_rate(1.0)
    step.backend.apply(recipe.clip)
    shrinkage: dict[Role, list[float]] = {}
    for name, parameter in state.model.named_parameters():
        if roles[name] is not Role.GAIN:
            kept = parameter.detach().double().norm() / before[name]
            shrinkage.setdefault(roles[name], []).append(1.0 - float(kept))
    return {role: float(np.mean(values)) for role, values in shrinkage.items()}


def _fresh(model: ModelSpec, recipe: Recipe, *, seed: int) -> TrainStep:
    resources = Resources(device="cpu", kernels="torch", compile="never")
    execution = decide(resources, model, recipe, planned_tokens=0)
    apply(execution)
    step = TrainStep(model, recipe, execution)
    trunk = Trunk(model=model, recipe=recipe, stream="none", init_seed=seed, data_seed=seed)
    step.state.start(trunk)
    return step


def _rows(model: ModelSpec, *, seed: int) -> np.ndarray:
    """Rows of a sparse Markov chain: a fixed, learnable batch that needs no data."""
    rng = np.random.default_rng(seed)
    followers = rng.integers(0, model.vocab_size, size=(model.vocab_size, 4))
    rows = np.empty((ROWS, model.context + 1), dtype=np.int64)
    rows[:, 0] = rng.integers(0, model.vocab_size, size=ROWS)
    for position in range(model.context):
        rows[:, position + 1] = followers[rows[:, position], rng.integers(0, 4, size=ROWS)]
    return rows
