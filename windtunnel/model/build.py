"""A model of a spec: built with the recipe's multipliers, and initialised by role."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from windtunnel.config.model import Recipe
from windtunnel.config.shape import DenseSpec, FamilySpec, ModelSpec
from windtunnel.model.decoder import Decoder
from windtunnel.model.language_model import LanguageModel
from windtunnel.model.network import Network
from windtunnel.mup import Role


def build(spec: ModelSpec, recipe: Recipe) -> LanguageModel:
    """A model with uninitialised parameters and the recipe's forward multipliers."""
    if isinstance(spec, FamilySpec):
        return Network(spec, recipe.multipliers(spec))
    assert isinstance(spec, DenseSpec)
    return Decoder(spec, recipe.multipliers(spec))


@torch.no_grad()
def initialise(model: LanguageModel, recipe: Recipe, *, init_seed: int) -> None:
    """Initialise every parameter by its role, in place."""
    roles = model.roles()
    for name, weight in model.weights().items():
        base = recipe.init_std
        if roles[name] is Role.ROUTER and model.routed is not None:
            base = model.routed.router_std
        std = base * recipe.scale(roles[name], model.spec).init_std
        if std:
            weight.copy_(initial_weight(name, weight.shape, std=std, init_seed=init_seed))
        else:
            weight.copy_(model.first_values(name))
        scale_kv(name, weight, model.spec, recipe)


@torch.no_grad()
def scale_kv(name: str, weight: Tensor, spec: ModelSpec, recipe: Recipe) -> None:
    """Give the rows of keys and values of a new `qkv` their own init std, in place."""
    if isinstance(spec, DenseSpec) and name.endswith("qkv"):
        weight[spec.width :] *= recipe.kv_init_std(spec)


def initial_weight(name: str, shape: Sequence[int], *, std: float, init_seed: int) -> Tensor:
    """Initial value of parameter `name`: normal with `std`, or ones where `std` is 0 (gains).

    Each parameter has its own generator, so its values depend on (init_seed, name) alone.
    """
    if std == 0.0:
        return torch.ones(*shape)
    return torch.randn(*shape, generator=generator_of(init_seed, name)).mul_(std)


def generator_of(init_seed: int, name: str) -> torch.Generator:
    """The generator of one draw, whatever else is drawn."""
    digest = hashlib.sha256(f"{init_seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
