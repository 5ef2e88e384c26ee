"""One forward pass, seen from within: every activation, and every layer with weights and input.

Axes: as in `model.decoder`.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.hooks import RemovableHandle

from windtunnel.model import LanguageModel
from windtunnel.model.decoder import Block, Stack, rms_norm
from windtunnel.model.experts import ExpertBlock, swiglu
from windtunnel.model.network import Network
from windtunnel.mup import Role

LOGITS = "logits"
KEYS_AND_VALUES = frozenset({"keys", "values"})

Weights = tuple[Tensor, ...]


class Site(NamedTuple):
    """A place in the network; `layer` counts from 1, None outside the layers."""

    kind: str
    layer: int | None = None

    def __str__(self) -> str:
        return self.kind if self.layer is None else f"{self.kind}, layer {self.layer}"


@dataclass(frozen=True, slots=True)
class Layer:
    """One use of a parameter, or of some of its rows, in a forward pass.

    `apply(weights, input)` is the layer's output.
    """

    role: Role
    apply: Callable[[Weights, Any], Tensor]
    weights: Weights
    input: Any

    def kept(self) -> "Layer":
        """The layer with a copy of its weights, which training overwrites in place."""
        weights = tuple(weight.detach().clone() for weight in self.weights)
        return Layer(self.role, self.apply, weights, self.input)

    @torch.no_grad()
    def effective_update(self, start: "Layer") -> float:
        """Root mean square of the change of output by the change of weights since `start`."""
        before = self.apply(start.weights, self.input)
        return rms(self.apply(self.weights, self.input) - before)

    @torch.no_grad()
    def propagated_update(self, start: "Layer") -> float:
        """Root mean square of the change of output by the change of input since `start`."""
        before = self.apply(start.weights, start.input)
        return rms(self.apply(start.weights, self.input) - before)


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """Activations and layers by site, in the order of the network.

    Attributes:
        activations: Outputs.
        layers: What made them.
        unseen: Names of the parameters that belong to no layer here: those that a network reads
            without calling their module.
    """

    activations: dict[Site, Tensor]
    layers: dict[Site, Layer]
    unseen: tuple[str, ...] = ()


def rms(values: Tensor) -> float:
    """Root mean square of all elements."""
    return float(values.square().mean().sqrt())


@torch.no_grad()
def forward_pass(model: LanguageModel, tokens_BT: Tensor) -> ForwardPass:
    """Every activation and layer of the model on these tokens."""
    network = model.network if isinstance(model, Network) else model
    if isinstance(network, Stack):
        return _of_decoder(network, tokens_BT)
    assert isinstance(model, Network)
    return _of_network(model, tokens_BT)


def _of_network(model: Network, tokens_BT: Tensor) -> ForwardPass:
    """Activations and layers of another family: its modules that hold parameters, as called."""
    names = {weight: name for name, weight in model.weights().items()}
    roles = model.roles()
    activations: dict[Site, Tensor] = {}
    layers: dict[Site, Layer] = {}

    def record(path: str, module: nn.Module, given: Given, output: Any) -> None:
        own = dict(module.named_parameters())
        found = {roles[names[weight]] for weight in own.values()}
        role = next(role for role in BY_WEIGHT if role in found)
        first = next((each for each in given.args if isinstance(each, Tensor)), None)
        if role is Role.EMBEDDING and first is not None and first.is_floating_point():
            role = Role.READOUT  # of tied tables
        site = _site(path)
        apply = partial(_called, module, tuple(own))
        layers[site] = Layer(role, apply, tuple(own.values()), given)
        if role is not Role.READOUT:
            activations[site] = _tensor(output)

    with ExitStack() as hooks:
        for path, module in model.network.named_modules():
            if any(True for _ in module.parameters(recurse=False)):

                def hook(
                    module: nn.Module, args: Any, kwargs: Any, output: Any, path: str = path
                ) -> None:
                    record(path, module, Given(args, kwargs), output)

                hooks.enter_context(_removed(module.register_forward_hook(hook, with_kwargs=True)))
        activations[Site(LOGITS)] = model.logits(tokens_BT)
    seen = {weight for layer in layers.values() for weight in layer.weights}
    unseen = tuple(name for weight, name in names.items() if weight not in seen)
    return ForwardPass(activations, layers, unseen)


BY_WEIGHT = (Role.HIDDEN, Role.READOUT, Role.EMBEDDING, Role.ROUTER, Role.GAIN)
"""Of a module with several roles, the one that it is judged by."""


class Given(NamedTuple):
    """What a module was called with."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def _called(module: nn.Module, names: tuple[str, ...], weights: Weights, given: Given) -> Tensor:
    """A module's output with other weights."""
    replaced = dict(zip(names, weights, strict=True))
    return _tensor(functional_call(module, replaced, given.args, given.kwargs))


def _tensor(output: Any) -> Tensor:
    """A module's output, or the first of several."""
    first: Tensor = output if isinstance(output, Tensor) else output[0]
    return first


def _site(path: str) -> Site:
    """`model.layers.3.mlp.up` is `mlp.up, layer 4`; `model.norm` is `norm`."""
    parts = path.split(".")
    number = next((place for place, part in enumerate(parts) if part.isdigit()), None)
    if number is None:
        return Site(parts[-1])
    return Site(".".join(parts[number + 1 :]) or "layer", int(parts[number]) + 1)


@contextmanager
def _removed(handle: RemovableHandle) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def _of_decoder(model: Stack, tokens_BT: Tensor) -> ForwardPass:
    """Activations and layers of a decoder of ours."""
    sites, length = model.sites, tokens_BT.shape[1]
    cos_TK, sin_TK = model.cos_TK[:length], model.sin_TK[:length]

    def embed(weights: Weights, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, weights[0]) * sites.embed

    layers = {Site("embedding"): Layer(Role.EMBEDDING, embed, (model.embedding,), tokens_BT)}
    x_BTW = embed((model.embedding,), tokens_BT)
    activations = {Site("embedding output"): x_BTW}
    for number, block in enumerate(model.layers, 1):
        mixed_BTW = block.mixed_values(x_BTW, cos_TK, sin_TK)
        attention = F.linear(mixed_BTW, block.out)
        middle_BTW = torch.add(x_BTW, attention, alpha=sites.residual)
        feed_forward = block.feed_forward(middle_BTW)
        of_attention = _attention_layers(block, x_BTW, mixed_BTW)
        for kind, layer in (of_attention | _feed_forward_layers(block, middle_BTW)).items():
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
    layers[Site("final norm")] = Layer(Role.GAIN, _normed, (model.norm_final,), x_BTW)
    layers[Site("readout")] = Layer(Role.READOUT, _linear, (readout,), scaled_BTW)
    return ForwardPass(activations, layers)


def _attention_layers(block: Block, x_BTW: Tensor, mixed_BTW: Tensor) -> dict[str, Layer]:
    """The layers of one block's attention, with queries, keys and values apart."""
    spec = block.spec
    of_kv = spec.kv_heads * spec.head_dim
    queries, keys, values = torch.split(block.qkv, [spec.width, of_kv, of_kv])
    normed_BTW = rms_norm(x_BTW, block.norm_attention)
    return {
        "attention norm": Layer(Role.GAIN, _normed, (block.norm_attention,), x_BTW),
        "queries": _matrix(queries, normed_BTW),
        "keys": _matrix(keys, normed_BTW),
        "values": _matrix(values, normed_BTW),
        "attention projection": _matrix(block.out, mixed_BTW),
    }


def _feed_forward_layers(block: Block, middle_BTW: Tensor) -> dict[str, Layer]:
    """The layers of one block's feed-forward, or of its router and experts."""
    normed_BTW = rms_norm(middle_BTW, block.norm_ffn)
    norm = {"feed-forward norm": Layer(Role.GAIN, _normed, (block.norm_ffn,), middle_BTW)}
    if not isinstance(block, ExpertBlock):
        return norm | {
            "gate and up": _matrix(block.gate_up, normed_BTW),
            "down projection": _matrix(block.down, block.gated(middle_BTW)),
        }
    normed_MW = normed_BTW.flatten(0, 1)

    def experts(weights: Weights, given: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        normed, gates, chosen = given
        return (block.each(normed, chosen, *weights) * gates[..., None]).sum(dim=1)

    given = (normed_MW, *block.route(normed_MW))
    found = norm | {"experts": Layer(Role.HIDDEN, experts, (block.gate_up, block.down), given)}
    if block.fields.experts > 1:
        scaled = normed_MW * block.sites.logits
        found["router"] = Layer(Role.ROUTER, _linear, (block.router,), scaled)
    if block.fields.shared_experts:
        hidden = swiglu(F.linear(normed_MW, block.shared_gate_up))
        found["shared gate and up"] = _matrix(block.shared_gate_up, normed_MW)
        found["shared down projection"] = _matrix(block.shared_down, hidden)
    return found


def _matrix(weight: Tensor, x: Tensor) -> Layer:
    return Layer(Role.HIDDEN, _linear, (weight,), x)


def _linear(weights: Weights, x: Tensor) -> Tensor:
    return F.linear(x, *weights)


def _normed(weights: Weights, x: Tensor) -> Tensor:
    return rms_norm(x, *weights)
