"""The shape of one decoder: its fields, and its parameter and FLOP counts.

A `DenseSpec` is of the built-in family, a `FamilySpec` of any other.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, TypeAdapter, model_validator

from windtunnel import accounting
from windtunnel.config.units import Strict
from windtunnel.errors import Refused
from windtunnel.family import MINICPM_MOE, Shape, Value, facts_of, load_family
from windtunnel.mup import EVERY_SITE, Role, SiteName

Positive = Annotated[int, Field(ge=1)]

NORM_EPS = 1e-5
"""Of every RMSNorm (MiniCPM's released configs)."""


class ModelSpec(Strict, ABC):
    """The shape of one decoder."""

    width: Positive
    depth: Positive
    vocab_size: Annotated[int, Field(ge=2)]
    context: Annotated[int, Field(ge=2)]

    @property
    @abstractmethod
    def params(self) -> int:
        """The N of every law here: non-embedding parameters that one token passes through."""

    @property
    @abstractmethod
    def params_embedding(self) -> int:
        """Parameters of the embedding and, when untied, of the head."""

    @property
    @abstractmethod
    def params_total(self) -> int:
        """All non-embedding parameters; more than N in a mixture of experts alone."""

    @property
    def experts(self) -> int:
        """Experts that a token chooses from in each layer; 1 in a dense model."""
        return 1

    @property
    @abstractmethod
    def flops_exact_per_token(self) -> int:
        """Training FLOPs per token with attention scores and head counted."""

    @property
    @abstractmethod
    def sites(self) -> frozenset[SiteName]:
        """Sites of the forward pass that take a multiplier."""

    @property
    @abstractmethod
    def roles(self) -> tuple[Role, ...]:
        """The roles that a parameter of the model has, in the order of `Role`."""

    @property
    @abstractmethod
    def attention_dim(self) -> int | None:
        """Dimension of a head; None where the family does not say."""

    @property
    @abstractmethod
    def kv_group(self) -> float:
        """Query heads per kv head; 1 where the family does not say."""

    @property
    @abstractmethod
    def rotary_base(self) -> float | None:
        """Base of the rotary embedding; None where the family does not say."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """The fields that affect an update."""

    @abstractmethod
    def with_context(self, context: int, rope_base: float | None) -> Self:
        """The model at another context and, unless it is None, base of its rotary embedding."""

    @property
    def size(self) -> str:
        """The shape as users write it: WIDTHxDEPTH."""
        return f"{self.width}x{self.depth}"


class DenseSpec(ModelSpec):
    """MiniCPM's decoder: RMSNorm, RoPE, gated SiLU feed-forward, grouped-query attention."""

    head_dim: Annotated[int, Field(ge=2, multiple_of=2)] = 64
    kv_heads: Positive
    ffn_ratio: Annotated[float, Field(gt=0)] = 2.5
    tied: bool = True
    qk_norm: bool = False
    rope_base: Annotated[float, Field(gt=1)] = 10000.0

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        if self.width % self.head_dim:
            below = self.width // self.head_dim * self.head_dim
            near = f"{below} or {below + self.head_dim}" if below else f"{self.head_dim}"
            raise Refused(
                "not-a-multiple",
                f"width = {self.width} is not a multiple of head_dim = {self.head_dim}; "
                f"the nearest that is: {near}",
                width=self.width,
                head_dim=self.head_dim,
            )
        if self.num_heads % self.kv_heads:
            raise Refused(
                "not-a-multiple",
                f"{self.num_heads} heads do not divide among {self.kv_heads} kv heads",
                heads=self.num_heads,
                kv_heads=self.kv_heads,
            )
        if not (self.ffn_ratio * self.width).is_integer():
            raise Refused(
                "not-whole",
                f"ffn_ratio x width = {self.ffn_ratio:g} x {self.width} is not a whole number",
                ffn_ratio=self.ffn_ratio,
                width=self.width,
            )
        return self

    @property
    def num_heads(self) -> int:
        """Query heads."""
        return self.width // self.head_dim

    @property
    def ffn_width(self) -> int:
        """Inner width of the feed-forward."""
        return int(self.ffn_ratio * self.width)

    @cached_property
    def params(self) -> int:
        """Non-embedding parameters, final norm included."""
        return accounting.non_embedding_params(
            width=self.width,
            depth=self.depth,
            head_dim=self.head_dim,
            kv_heads=self.kv_heads,
            ffn_width=self.ffn_width,
            qk_norm=self.qk_norm,
        )

    @property
    def params_embedding(self) -> int:
        """Parameters of the embedding and, when untied, of the head."""
        return accounting.embedding_params(
            width=self.width, vocab_size=self.vocab_size, tied=self.tied
        )

    @property
    def params_total(self) -> int:
        """As `params`: a token passes through all of them."""
        return self.params

    @cached_property
    def flops_exact_per_token(self) -> int:
        """Training FLOPs per token with attention scores and head counted."""
        return accounting.exact_flops_per_token(
            width=self.width,
            depth=self.depth,
            head_dim=self.head_dim,
            kv_heads=self.kv_heads,
            ffn_width=self.ffn_width,
            vocab_size=self.vocab_size,
            context=self.context,
        )

    @property
    def sites(self) -> frozenset[SiteName]:
        """All of them."""
        return EVERY_SITE

    @property
    def roles(self) -> tuple[Role, ...]:
        """Embedding, hidden and gain; a readout only where it is not the embedding."""
        lacking = {Role.ROUTER, Role.READOUT} if self.tied else {Role.ROUTER}
        return tuple(role for role in Role if role not in lacking)

    @property
    def attention_dim(self) -> int:
        """Dimension of a head."""
        return self.head_dim

    @property
    def kv_group(self) -> float:
        """Query heads per kv head."""
        return self.num_heads / self.kv_heads

    @property
    def rotary_base(self) -> float:
        """Base of the rotary embedding."""
        return self.rope_base

    def identity(self) -> dict[str, Any]:
        """All fields."""
        return self.model_dump()

    def with_context(self, context: int, rope_base: float | None) -> Self:
        """The model at another context and, unless it is None, base of its rotary embedding."""
        return self.replace(context=context, rope_base=rope_base or self.rope_base)


class FamilyFacts(Strict):
    """Counts, roles and sites of one shape, as its family gave them; see `family.Facts`."""

    params: int
    params_embedding: int
    params_active: int
    flops_exact_per_token: int
    roles: tuple[Role, ...]
    sites: tuple[SiteName, ...]


class FamilySpec(ModelSpec):
    """A shape of another family than the built-in one.

    Attributes:
        family: Its name, as a study has it.
        version: What its class computed when the shape was made.
        fields: Its own shape fields.
        facts: What follows from these; no part of the identity.
        given: Shape fields as the study has them, for axes; `fields` has what the family made of
            them. No part of the identity.
    """

    family: str
    version: str
    fields: dict[str, Value]
    facts: FamilyFacts
    given: dict[str, Value] = Field(default_factory=dict)

    def __hash__(self) -> int:
        """Of the shape; facts follow from it."""
        own = tuple(sorted(self.fields.items()))
        return hash((self.family, self.version, self.width, self.depth, self.context, own))

    @staticmethod
    def of(name: str, shape: Shape, given: Mapping[str, Value]) -> "FamilySpec":
        """The spec of a shape, by the family's class; `given` is what its fields were made of.

        Raises:
            Refused: The class cannot be loaded, or cannot be built in this shape.
        """
        family = load_family(name)
        return FamilySpec(
            width=shape.width,
            depth=shape.depth,
            vocab_size=shape.vocab_size,
            context=shape.context,
            family=name,
            version=str(family.version),
            fields=dict(shape.fields),
            facts=FamilyFacts(**asdict(facts_of(name, shape))),
            given=dict(given),
        )

    @property
    def shape(self) -> Shape:
        """What the family builds."""
        return Shape(
            width=self.width,
            depth=self.depth,
            vocab_size=self.vocab_size,
            context=self.context,
            fields=self.fields,
        )

    @property
    def params(self) -> int:
        """Non-embedding parameters that one token passes through."""
        return self.facts.params_active

    @property
    def params_total(self) -> int:
        """All non-embedding parameters."""
        return self.facts.params

    @property
    def experts(self) -> int:
        """The field `experts`; 1 where the family has none."""
        found = self.fields.get("experts")
        return found if isinstance(found, int) else 1

    @property
    def params_embedding(self) -> int:
        """Parameters of roles embedding and readout."""
        return self.facts.params_embedding

    @property
    def flops_exact_per_token(self) -> int:
        """Training FLOPs per token, as the family counts them."""
        return self.facts.flops_exact_per_token

    @property
    def sites(self) -> frozenset[SiteName]:
        """Sites that the family carries."""
        return frozenset(self.facts.sites)

    @property
    def roles(self) -> tuple[Role, ...]:
        """Roles that a parameter has."""
        return self.facts.roles

    @property
    def attention_dim(self) -> int | None:
        """From the fields `head_dim` or `num_attention_heads`, if the family has one of them."""
        found, heads = self.fields.get("head_dim"), self.fields.get("num_attention_heads")
        if isinstance(found, int):
            return found
        return self.width // heads if isinstance(heads, int) and heads else None

    @property
    def kv_group(self) -> float:
        """1: a family's keys and values are hidden matrices."""
        return 1.0

    @property
    def rotary_base(self) -> float | None:
        """The field `rope_theta`, if the family has one."""
        found = self.fields.get("rope_theta")
        return found if isinstance(found, float) else None

    def identity(self) -> dict[str, Any]:
        """All fields but the facts and what was given."""
        return self.model_dump(exclude={"facts", "given"})

    def with_context(self, context: int, rope_base: float | None) -> "FamilySpec":
        """The model at another context and, unless it is None, base of its rotary embedding.

        Raises:
            Refused: The family has no rotary embedding whose base could change.
        """
        fields, given = dict(self.fields), dict(self.given)
        if rope_base is not None:
            if "rope_theta" not in fields:
                raise Refused(
                    "unknown-shape-field",
                    f"family {self.family} has no field rope_theta, so that rope_base cannot "
                    "change; leave it out",
                    field="rope_base",
                    known=sorted(fields),
                )
            fields["rope_theta"] = given["rope_base"] = rope_base
        shape = replace(self.shape, context=context, fields=fields)
        return FamilySpec.of(self.family, shape, given)


def upcycled(model: ModelSpec, fields: Mapping[str, Value]) -> FamilySpec:
    """The family minicpm-moe at the shape of a dense model; `fields` are its own.

    Raises:
        Refused: A field has a value that the family does not allow.
    """
    assert isinstance(model, DenseSpec)
    dense: dict[str, Value] = {
        "head_dim": model.head_dim,
        "ffn_ratio": model.ffn_ratio,
        "heads_per_kv": 1,
        "kv_heads": model.kv_heads,
        "tied": model.tied,
        "qk_norm": model.qk_norm,
        "rope_base": model.rope_base,
    }
    given = dense | dict(fields)
    checked = load_family(MINICPM_MOE).fields(given, width=model.width, depth=model.depth)
    shape = Shape(
        width=model.width,
        depth=model.depth,
        vocab_size=model.vocab_size,
        context=model.context,
        fields=checked,
    )
    return FamilySpec.of(MINICPM_MOE, shape, given)


def _kind_of_model(written: object) -> str:
    """The tag of a stored spec: only other families have a name."""
    named = "family" in written if isinstance(written, dict) else isinstance(written, FamilySpec)
    return "family" if named else "dense"


AnyModel = Annotated[
    Annotated[DenseSpec, Tag("dense")] | Annotated[FamilySpec, Tag("family")],
    Discriminator(_kind_of_model),
]
"""A spec as records and checkpoints hold it."""
read_model: TypeAdapter[DenseSpec | FamilySpec] = TypeAdapter(AnyModel)
"""Reads one."""
