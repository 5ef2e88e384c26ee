"""The base class of a model family of one's own: everything but the network and its roles."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from windtunnel.accounting import BACKWARD_FACTOR
from windtunnel.errors import Refused, did_you_mean
from windtunnel.family import Facts, Shape, Value
from windtunnel.mup import Role, SiteName

OF_VOCABULARY = frozenset({Role.EMBEDDING, Role.READOUT})
"""Roles whose parameters no N counts."""


class NoFields(BaseModel):
    """Of a family whose width and depth say everything."""


class Family(ABC):
    """A family of decoders. A subclass writes `version`, `build` and `patterns`, and its `Fields`.

    Counts and FLOPs are read off the network itself, built without memory. A family with parameters
    that not every token uses says so by a `facts` of its own.

    Attributes:
        version: Names what the class computes; part of every run's id.
        sites: Sites of the forward pass that take a multiplier.
        takes: Shape fields of the study's `model:` section that `fields` understands.
        fixed: Own fields that must be the same at every size.
        Fields: A pydantic model of the family's own shape fields.

    Examples:
        >>> class Tiny(Family):
        ...     version = "1"
        ...     def build(self, shape, sites):
        ...         return nn.Sequential(
        ...             nn.Embedding(shape.vocab_size, shape.width),
        ...             nn.Linear(shape.width, shape.vocab_size, bias=False),
        ...         )
        ...     def patterns(self):
        ...         return {"0.weight": Role.EMBEDDING, "1.weight": Role.READOUT}
        >>> shape = Shape(width=8, depth=1, vocab_size=16, context=4, fields={})
        >>> facts = Tiny().facts(shape)
        >>> facts.params, facts.params_embedding, facts.flops_exact_per_token
        (0, 256, 768)
    """

    version: str
    sites: frozenset[SiteName] = frozenset()
    takes: frozenset[str] = frozenset()
    fixed: frozenset[str] = frozenset()
    Fields: ClassVar[type[BaseModel]] = NoFields

    @abstractmethod
    def build(self, shape: Shape, sites: Mapping[SiteName, float]) -> nn.Module:
        """The network: token ids (B, T) in, next-token logits (B, T, V) out."""

    def patterns(self) -> Mapping[str, Role]:
        """Roles by parameter name, where `*` stands for anything; one must match, and only one."""
        return {}

    def fields(self, given: Mapping[str, Value], *, width: int, depth: int) -> dict[str, Value]:
        """The given shape fields, checked by `Fields`, with its defaults.

        Raises:
            Refused: A field that it does not know, or a value that it does not allow.
        """
        del width, depth
        known = list(self.Fields.model_fields)
        for name in given:
            if name not in known:
                raise unknown_field(name, known)
        try:
            found: dict[str, Any] = self.Fields.model_validate(dict(given)).model_dump()
        except ValidationError as wrong:
            first = wrong.errors()[0]
            name = ".".join(map(str, first["loc"]))
            raise Refused(
                "invalid-value", f"{name}: {first['msg']}", field=name, cause=first["msg"]
            ) from None
        return found

    def roles(self, network: nn.Module) -> dict[str, Role]:
        """The role of every parameter by the patterns.

        Raises:
            Refused: No pattern matches a parameter, or patterns of two roles do.
        """
        patterns = self.patterns()
        found: dict[str, Role] = {}
        for name, _ in network.named_parameters():
            matching = {
                each: Role(role) for each, role in patterns.items() if fnmatchcase(name, each)
            }
            if not matching:
                raise Refused(
                    "no-role",
                    f"parameter {name!r} has no role; add it to `patterns`, with one of "
                    f"{', '.join(Role)}",
                    parameter=name,
                    roles=list(Role),
                )
            if len(set(matching.values())) > 1:
                raise Refused(
                    "two-roles",
                    f"parameter {name!r} has two roles: "
                    + ", ".join(f"{role} by {each!r}" for each, role in matching.items())
                    + "; make one of these patterns narrower",
                    parameter=name,
                    patterns=matching,
                )
            found[name] = next(iter(matching.values()))
        return found

    def facts(self, shape: Shape) -> Facts:
        """Counts of the network's own tensors, and FLOPs as torch counts them (matmuls only).

        Raises:
            Refused: The network cannot be built or run without memory.
        """
        with FakeTensorMode():
            network = self.build(shape, dict.fromkeys(self.sites, 1.0))
            refuse_dropout(network)
            roles = self.roles(network)
            counts = {name: weight.numel() for name, weight in network.named_parameters()}
            of_vocabulary = sum(counts[name] for name in counts if roles[name] in OF_VOCABULARY)
            refuse_other_output(network, shape)
            forward = forward_flops(network, shape.context)
        params = sum(counts.values()) - of_vocabulary
        return Facts(
            params=params,
            params_embedding=of_vocabulary,
            params_active=params,
            flops_exact_per_token=BACKWARD_FACTOR * forward // shape.context,
            roles=tuple(role for role in Role if role in roles.values()),
            sites=tuple(sorted(self.sites)),
        )

    def source_files(self) -> tuple[Path, ...]:
        """The file of the class."""
        return (Path(inspect.getfile(type(self))),)


def refuse_dropout(network: nn.Module) -> None:
    """Refuse a network that draws random numbers.

    Raises:
        Refused: It drops inputs: an update is a function of weights, moments and rows alone.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Dropout) and module.p > 0:
            raise Refused(
                "dropout",
                f"{name} drops {module.p:g} of its inputs at random, and an update is a function "
                "of weights, moments and rows alone; build it with p = 0",
                module=name,
                p=module.p,
            )


def refuse_other_output(network: nn.Module, shape: Shape) -> None:
    """Refuse a network that does not return logits.

    Raises:
        Refused: It returns something else, such as a pair of logits and loss.
    """
    found = network(torch.zeros(1, shape.context, dtype=torch.long))
    wanted = (1, shape.context, shape.vocab_size)
    if isinstance(found, Tensor) and tuple(found.shape) == wanted:
        return
    shown = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    raise Refused(
        "wrong-output",
        f"the network returns {shown} for 1 row of {shape.context} tokens, and must return its "
        f"logits, a tensor {wanted}; wrap it in `build`",
        found=str(shown),
        expected=list(wanted),
    )


def forward_flops(logits: Callable[[Tensor], object], context: int) -> int:
    """FLOPs of a forward pass over one row, as `torch.utils.flop_counter` counts them.

    Attention runs as plain products: of the fused kernels, the counter knows CUDA's alone. Scores
    are counted over the whole context, as in `accounting`.
    """
    tokens = torch.zeros(1, context, dtype=torch.long)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        logits(tokens)
    return int(counter.get_total_flops())


def unknown_field(name: str, known: list[str]) -> Refused:
    """The error of a shape field that the family does not know."""
    allowed = f"allowed: {', '.join(sorted(known))}" if known else "it has none of its own"
    return Refused(
        "unknown-shape-field",
        f"the family has no shape field {name!r}{did_you_mean(name, known) or ';'} {allowed}",
        field=name,
        known=sorted(known),
    )
