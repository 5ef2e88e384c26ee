"""What a few updates change: activations, and the two parts of the change of each layer's output.

After t updates the output of a layer with weights W and input x has changed by

    W_t x_t - W_0 x_0 = (W_t - W_0) x_t + W_0 (x_t - x_0),

the effective update, by its own weights, and the propagated one, by the layers before it (Haas et
al. 2025, arXiv 2505.22491, equation RCC). Their sum can hide a fault of either: where one layer's
weights hardly move, the layers before it still move its output.

Axes: as in `model.decoder`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from windtunnel.config import ModelSpec, Recipe, Trunk
from windtunnel.config.study import Resources
from windtunnel.model import Decoder
from windtunnel.model.decoder import Block, rms_norm
from windtunnel.mup import Role
from windtunnel.train.execution import apply, decide
from windtunnel.train.step import TrainStep

LOGITS = "logits"
KEYS_AND_VALUES = frozenset({"keys", "values"})

ROWS = 8
"""Rows of the batch that is trained on and measured."""


class Site(NamedTuple):
    """A place in the network; `layer` counts from 1, None outside the layers."""

    kind: str
    layer: int | None = None

    def __str__(self) -> str:
        return self.kind if self.layer is None else f"{self.kind}, layer {self.layer}"


@dataclass(frozen=True, slots=True)
class Layer:
    """One use of a parameter, or of some of its rows, in a forward pass.

    `apply(weight, input)` is the layer's output, linear in the weight.
    """

    role: Role
    apply: Callable[[Tensor, Tensor], Tensor]
    weight: Tensor
    input: Tensor

    def kept(self) -> "Layer":
        """The layer with a copy of its weights, which training overwrites in place."""
        return Layer(self.role, self.apply, self.weight.detach().clone(), self.input)

    @torch.no_grad()
    def effective_update(self, start: "Layer") -> float:
        """Root mean square of the change of output by the change of weights since `start`."""
        return rms(self.apply(self.weight - start.weight, self.input))

    @torch.no_grad()
    def propagated_update(self, start: "Layer") -> float:
        """Root mean square of the change of output by the change of input since `start`."""
        before = self.apply(start.weight, start.input)
        return rms(self.apply(start.weight, self.input) - before)


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """Activations and layers by site, in the order of the network."""

    activations: dict[Site, Tensor]
    layers: dict[Site, Layer]


Values = dict[Site, np.ndarray]
"""Root mean squares by site, of shape (steps,)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """Changes since initialisation: of activations after each update, of layers after the last."""

    changes: Values
    effective: Values
    propagated: Values
    roles: dict[Site, Role]

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


def rms(values: Tensor) -> float:
    """Root mean square of all elements."""
    return float(values.square().mean().sqrt())


@torch.no_grad()
def forward_pass(model: Decoder, tokens_BT: Tensor) -> ForwardPass:
    """Every activation and layer of the model on these tokens."""
    sites, length = model.sites, tokens_BT.shape[1]
    cos_TK, sin_TK = model.cos_TK[:length], model.sin_TK[:length]

    def embed(weight: Tensor, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, weight) * sites.embed

    layers = {Site("embedding"): Layer(Role.EMBEDDING, embed, model.embedding, tokens_BT)}
    x_BTW = embed(model.embedding, tokens_BT)
    activations = {Site("embedding output"): x_BTW}
    for number, block in enumerate(model.layers, 1):
        mixed_BTW = block.mixed_values(x_BTW, cos_TK, sin_TK)
        attention = F.linear(mixed_BTW, block.out)
        middle_BTW = torch.add(x_BTW, attention, alpha=sites.residual)
        gated_BTF = block.gated(middle_BTW)
        feed_forward = F.linear(gated_BTF, block.down)
        for kind, layer in _layers(block, x_BTW, mixed_BTW, middle_BTW, gated_BTF).items():
            layers[Site(kind, number)] = layer
        activations[Site("attention output", number)] = attention
        activations[Site("feed-forward output", number)] = feed_forward
        x_BTW = torch.add(middle_BTW, feed_forward, alpha=sites.residual)
    normed_BTW = rms_norm(x_BTW, model.norm_final)
    scaled_BTW = normed_BTW * sites.logits
    readout = model.embedding if model.spec.tied else model.readout
    activations[Site("residual stream")] = x_BTW
    activations[Site("final norm")] = normed_BTW
    activations[Site(LOGITS)] = F.linear(scaled_BTW, readout)
    layers[Site("final norm")] = Layer(Role.GAIN, _normed, model.norm_final, x_BTW)
    layers[Site("readout")] = Layer(Role.READOUT, _linear, readout, scaled_BTW)
    return ForwardPass(activations, layers)


def _layers(
    block: Block, x_BTW: Tensor, mixed_BTW: Tensor, middle_BTW: Tensor, gated_BTF: Tensor
) -> dict[str, Layer]:
    """The layers of one block, with queries, keys and values apart."""
    spec = block.spec
    of_kv = spec.kv_heads * spec.head_dim
    queries, keys, values = torch.split(block.qkv, [spec.width, of_kv, of_kv])
    normed_BTW = rms_norm(x_BTW, block.norm_attention)
    middle_normed_BTW = rms_norm(middle_BTW, block.norm_ffn)

    def matrix(weight: Tensor, x: Tensor) -> Layer:
        return Layer(Role.HIDDEN, _linear, weight, x)

    return {
        "attention norm": Layer(Role.GAIN, _normed, block.norm_attention, x_BTW),
        "queries": matrix(queries, normed_BTW),
        "keys": matrix(keys, normed_BTW),
        "values": matrix(values, normed_BTW),
        "attention projection": matrix(block.out, mixed_BTW),
        "feed-forward norm": Layer(Role.GAIN, _normed, block.norm_ffn, middle_BTW),
        "gate and up": matrix(block.gate_up, middle_normed_BTW),
        "down projection": matrix(block.down, gated_BTF),
    }


def _linear(weight: Tensor, x: Tensor) -> Tensor:
    return F.linear(x, weight)


def _normed(gain: Tensor, x: Tensor) -> Tensor:
    return rms_norm(x, gain)


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
    )


def _trace(model: ModelSpec, recipe: Recipe, *, steps: int, seed: int) -> Trace:
    step = _fresh(model, recipe, seed=seed)
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
    del propagated[Site("embedding")]  # its inputs are tokens, which do not change
    return Trace(
        changes={site: np.array(values) for site, values in changes.items()},
        effective=updates(Layer.effective_update),
        propagated=propagated,
        roles={site: layer.role for site, layer in layers.items()},
    )


def weight_shrinkage(model: ModelSpec, recipe: Recipe) -> dict[Role, float]:
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
