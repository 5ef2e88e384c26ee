"""A network of another family as a language model: its parameters by name and role."""

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from windtunnel.config.shape import FamilySpec
from windtunnel.errors import ConfigError, boundary
from windtunnel.family import load_family
from windtunnel.model.family import refuse_dropout
from windtunnel.model.language_model import LanguageModel
from windtunnel.model.routing import Routed
from windtunnel.mup import Role, SiteMultipliers, SiteName


class Network(LanguageModel):
    """What a family built, with the mean loss on top.

    Raises:
        ConfigError: A parameter has no role, or inputs are dropped at random.
    """

    spec: FamilySpec

    def __init__(self, spec: FamilySpec, sites: SiteMultipliers) -> None:
        super().__init__()
        self.spec = spec
        family = load_family(spec.family)
        factors: dict[SiteName, float] = {name: getattr(sites, name) for name in family.sites}
        self.network = built(spec, factors)
        with boundary(spec.family, "mend the class", ConfigError):
            refuse_dropout(self.network)
            self._roles = dict(family.roles(self.network))
        self._first = {
            name: weight.detach().clone()
            for name, weight in self.weights().items()
            if self._roles[name] is Role.GAIN
        }

    def weights(self) -> dict[str, nn.Parameter]:
        """Every parameter by the name that the family's own module gives it."""
        return dict(self.network.named_parameters())

    def roles(self) -> dict[str, Role]:
        """The role of every parameter, in the order of `weights`."""
        return {name: self._roles[name] for name in self.weights()}

    def logits(self, tokens_BT: Tensor) -> Tensor:
        """Next-token logits, (B, T, V); ids are contiguous, which some networks' views ask for."""
        logits_BTV: Tensor = self.network(tokens_BT.contiguous())
        return logits_BTV

    def first_values(self, name: str) -> Tensor:
        """What the family's own module starts a gain at."""
        return self._first[name]

    @property
    def routed(self) -> Routed | None:
        """The network, if it has routers."""
        return self.network if isinstance(self.network, Routed) else None


def roles_in(spec: FamilySpec) -> dict[str, Role]:
    """The role of every parameter, by its name; the network takes no memory."""
    with FakeTensorMode():
        network = built(spec, dict.fromkeys(spec.sites, 1.0))
        return dict(load_family(spec.family).roles(network))


def built(spec: FamilySpec, sites: Mapping[SiteName, float]) -> nn.Module:
    """The family's network of this shape, from one fixed state of torch's generator.

    Matrices are drawn anew by role. What a vector starts at is the family's own choice.
    """
    with torch.random.fork_rng(devices=[]), redirect_stdout(sys.stderr):  # what it prints
        torch.manual_seed(0)
        return load_family(spec.family).build(spec.shape, sites)
