"""What a few updates change: activations, and the two parts of the change of each layer's output.

After t updates the output of a layer with weights W and input x has changed by

    W_t x_t - W_0 x_0 = (W_t - W_0) x_t + W_0 (x_t - x_0),

the effective update, by its own weights, and the propagated one, by the layers before it (Haas et
al. 2025, arXiv 2505.22491, equation RCC). Their sum can hide a fault of either: where one layer's
weights hardly move, the layers before it still move its output.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from windtunnel.config import ModelSpec, Recipe
from windtunnel.mup import Role
from windtunnel.runs.forward_pass import Layer, Site, forward_pass, rms
from windtunnel.train.step import untrained

ROWS = 8
"""Rows of the batch that is trained on and measured."""


Values = dict[Site, np.ndarray]
"""Root mean squares by site, of shape (steps,)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """Changes since initialisation: of activations after each update, of layers after the last.

    `unseen` are parameters whose layer was not seen; see `ForwardPass`.
    """

    changes: Values
    effective: Values
    propagated: Values
    roles: dict[Site, Role]
    unseen: tuple[str, ...] = ()

    def over_layers(self) -> "Trace":
        """The trace with one site a kind, the root mean square over the layers."""
        parts = (_over_layers(part) for part in (self.changes, self.effective, self.propagated))
        changes, effective, propagated = parts
        roles = {Site(site.kind): role for site, role in self.roles.items()}
        return Trace(changes=changes, effective=effective, propagated=propagated, roles=roles)


def _over_layers(values: Values) -> Values:
    of_kind: dict[Site, list[np.ndarray]] = {}
    for site, value in values.items():
        of_kind.setdefault(Site(site.kind), []).append(value)
    return {site: np.sqrt(np.mean(np.square(each), axis=0)) for site, each in of_kind.items()}


def mean_trace(model: ModelSpec, recipe: Recipe, *, steps: int, seeds: tuple[int, ...]) -> Trace:
    """The mean over seeds of init and batch of the changes by `steps` updates at the peak rate."""
    traces = [_trace(model, recipe, steps=steps, seed=seed) for seed in seeds]

    def mean(part: Callable[[Trace], Values]) -> Values:
        return {
            site: np.mean([part(trace)[site] for trace in traces], axis=0)
            for site in part(traces[0])
        }

    return Trace(
        changes=mean(lambda trace: trace.changes),
        effective=mean(lambda trace: trace.effective),
        propagated=mean(lambda trace: trace.propagated),
        roles=traces[0].roles,
        unseen=traces[0].unseen,
    )


def _trace(model: ModelSpec, recipe: Recipe, *, steps: int, seed: int) -> Trace:
    step = untrained(model, recipe, seed=seed)
    rows = _rows(model, seed=seed)
    tokens = torch.from_numpy(rows[:, :-1])
    start = forward_pass(step.state.model, tokens)
    layers = {site: layer.kept() for site, layer in start.layers.items()}
    changes: dict[Site, list[float]] = {site: [] for site in start.activations}
    for _ in range(steps):
        step.update(rows, 1.0)
        now = forward_pass(step.state.model, tokens)
        for site, value in now.activations.items():
            changes[site].append(rms(value - start.activations[site]))

    def updates(of: Callable[[Layer, Layer], float]) -> Values:
        return {site: np.array([of(now.layers[site], layers[site])]) for site in layers}

    propagated = updates(Layer.propagated_update)
    for site, layer in layers.items():
        if layer.role is Role.EMBEDDING:  # its inputs are tokens, which do not change
            del propagated[site]
    return Trace(
        changes={site: np.array(values) for site, values in changes.items()},
        effective=updates(Layer.effective_update),
        propagated=propagated,
        roles={site: layer.role for site, layer in layers.items()},
        unseen=start.unseen,
    )


def weight_shrinkage(model: ModelSpec, recipe: Recipe) -> dict[Role, float]:
    """Relative shrinkage of each role's weights in one update at peak rate without a gradient."""
    step = untrained(model, recipe, seed=0)
    state = step.state
    roles = state.model.roles()
    before = {name: p.detach().double().norm() for name, p in state.model.weights().items()}
    for parameter in state.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    state.set_rate(1.0)
    step.backend.apply(recipe.clip)
    shrinkage: dict[Role, list[float]] = {}
    for name, parameter in state.model.weights().items():
        if roles[name] is not Role.GAIN:
            kept = parameter.detach().double().norm() / before[name]
            shrinkage.setdefault(roles[name], []).append(1.0 - float(kept))
    return {role: float(np.mean(values)) for role, values in shrinkage.items()}


def _rows(model: ModelSpec, *, seed: int) -> np.ndarray:
    """Rows of a sparse Markov chain: a fixed, learnable batch that needs no data."""
    rng = np.random.default_rng(seed)
    followers = rng.integers(0, model.vocab_size, size=(model.vocab_size, 4))
    rows = np.empty((ROWS, model.context + 1), dtype=np.int64)
    rows[:, 0] = rng.integers(0, model.vocab_size, size=ROWS)
    for position in range(model.context):
        rows[:, position + 1] = followers[rows[:, position], rng.integers(0, 4, size=ROWS)]
    return rows
