"""Model, recipe and schedule: everything but data and length that determines the updates of a run.

A `ModelFamily` gives the `ModelSpec` of each size of a study. A `Recipe` holds optimizer, init and
batch size at base width.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from windtunnel.config.errors import first_refusal
from windtunnel.config.shape import DenseSpec, FamilySpec, ModelSpec, Positive
from windtunnel.config.units import (
    DEEPEST,
    Duration,
    Misfit,
    Size,
    Sizes,
    Strict,
    WrittenCount,
    at,
)
from windtunnel.errors import Refused
from windtunnel.family import MINICPM, Shape, Value, code_of, load_family
from windtunnel.mup import (
    EVERY_SITE,
    KvRule,
    Parametrization,
    Role,
    RoleScale,
    SiteMultipliers,
    WeightDecayRule,
    depth_ratio,
    kv_init_std,
    role_scale,
    site_multipliers,
)
from windtunnel.schedule import DecayShape

LONGEST_CONTEXT = 2**24
"""Most tokens of a row (assumed)."""


ShapeValue = bool | int | float | str
ShapeField = ShapeValue | dict[str, ShapeValue]
PER_WIDTH = "per_width"
"""The key of a field that grows with the width."""


class ModelFamily(Strict):
    """The model shapes of a study; all but width, depth and `shape` is shared."""

    family: Annotated[
        str,
        Field(
            description="minicpm; hf:NAME, a decoder of transformers; or package.module:Class, an "
            "installed class of your own",
            examples=["hf:llama"],
        ),
    ] = MINICPM
    shape: dict[str, ShapeField] = Field(
        default_factory=dict,
        description="The family's own fields: a value for every size, {per_width: R} for R times "
        "the width, or a value by size, as in {64x2: 4, 128x4: 8}",
    )
    sizes: Annotated[Sizes, Field(description="WIDTHxDEPTH, or WIDTH alone with width_per_layer")]
    width_per_layer: Annotated[
        float | None,
        Field(gt=0, description="Depth rule: depth = width / width_per_layer, rounded"),
    ] = None
    head_dim: Annotated[int, Field(ge=2, multiple_of=2)] = 64
    context: Annotated[int, Field(ge=2, le=LONGEST_CONTEXT, description="Tokens per row")] = 1024
    ffn_ratio: Annotated[float, Field(gt=0, le=1000)] = 2.5
    heads_per_kv: Annotated[
        Positive, Field(description="1: multi-head; above 1: grouped-query attention")
    ] = 1
    kv_heads: Annotated[
        Positive | None,
        Field(
            description="Key and value heads of every size, in place of heads_per_kv: they stay "
            "while the width grows"
        ),
    ] = None
    tied: Annotated[bool, Field(description="Tie embedding and head")] = True
    qk_norm: bool = False
    rope_base: Annotated[float, Field(gt=1)] = 10000.0

    @model_validator(mode="after")
    def _kv_heads_have_one_source(self) -> Self:
        if self.kv_heads is not None and self.heads_per_kv != 1:
            raise Misfit(
                "contradiction",
                f"kv_heads = {self.kv_heads} beside heads_per_kv = {self.heads_per_kv}: write one "
                "of them",
                "kv_heads",
                kv_heads=self.kv_heads,
                heads_per_kv=self.heads_per_kv,
            )
        return self

    @model_validator(mode="after")
    def _family_takes_its_fields(self) -> Self:
        if self.family == MINICPM:
            if self.shape:
                raise Misfit(
                    "unknown-shape-field",
                    f"family {MINICPM} has no fields of its own: write "
                    f"{', '.join(DENSE_FIELDS)} beside sizes",
                    "shape",
                    field=next(iter(self.shape)),
                    known=[],
                )
            return self
        with at("family"):
            takes = load_family(self.family).takes
        for name in DENSE_FIELDS:
            default = type(self).model_fields[name].default
            if name not in takes and getattr(self, name) != default:
                raise Misfit(
                    "unknown-shape-field",
                    f"family {self.family} does not know {name}; leave it out, and write the "
                    "family's own fields under `shape:`",
                    name,
                    field=name,
                    known=sorted(takes),
                )
        return self

    @model_validator(mode="after")
    def _what_is_fixed_stays(self) -> Self:
        fixed = getattr(load_family(self.family), "fixed", ()) if self.family != MINICPM else ()
        for name in sorted(set(fixed) & self.shape.keys()):
            with at("shape"):
                values = [_of_size(name, self.shape[name], size) for size in self.sizes]
            if len(set(values)) > 1:
                raise Misfit(
                    "varies-with-size",
                    f"{name} = {', '.join(map(str, values))} over the sizes: the scaling over "
                    "width holds at one value of it (arXiv 2508.09752); give one value, and vary "
                    f"it as the axis model.shape.{name}",
                    "shape",
                    name,
                    field=name,
                    values=values,
                )
        return self

    @model_validator(mode="after")
    def _every_size_is_a_model(self) -> Self:
        for number, size in enumerate(self.sizes):
            try:
                self.spec(size, vocab_size=256)
            except ValueError as invalid:
                refusal = first_refusal(invalid)
                raise Misfit(
                    refusal.code, str(refusal), "sizes", number, **refusal.values
                ) from None
        return self

    def spec(self, size: Size, *, vocab_size: int) -> ModelSpec:
        """The model of one size.

        Raises:
            Refused: The size has no depth, too many layers, or heads that do not divide.
            ValidationError: The shape is no `ModelSpec`.
        """
        depth = size.depth
        if depth is None:
            if self.width_per_layer is None:
                raise Refused(
                    "missing-depth",
                    f"size {size.width} has no depth: write {size.width}xDEPTH, or set "
                    "width_per_layer",
                    size=size,
                )
            layers = size.width / self.width_per_layer
            if layers > DEEPEST:
                raise Refused(
                    "out-of-range",
                    f"size {size.width}: width / width_per_layer = {layers:g} layers, and at most "
                    f"are {DEEPEST}; raise width_per_layer",
                    size=size,
                    layers=layers,
                    most=DEEPEST,
                )
            depth = max(1, round(layers))
        if self.family != MINICPM:
            return self._family_spec(size, depth, vocab_size)
        heads = size.width // self.head_dim
        if heads % self.heads_per_kv:
            raise Refused(
                "not-a-multiple",
                f"size {size}: {heads} heads do not divide by heads_per_kv = {self.heads_per_kv}",
                size=size,
                heads=heads,
                heads_per_kv=self.heads_per_kv,
            )
        return DenseSpec(
            width=size.width,
            depth=depth,
            head_dim=self.head_dim,
            kv_heads=self.kv_heads or max(1, heads // self.heads_per_kv),
            ffn_ratio=self.ffn_ratio,
            vocab_size=vocab_size,
            context=self.context,
            tied=self.tied,
            qk_norm=self.qk_norm,
            rope_base=self.rope_base,
        )

    def _family_spec(self, size: Size, depth: int, vocab_size: int) -> FamilySpec:
        """The model of one size, of another family than the built-in one."""
        family = load_family(self.family)
        given: dict[str, Value] = {name: getattr(self, name) for name in sorted(family.takes)}
        given |= {name: _of_size(name, value, size) for name, value in self.shape.items()}
        with code_of(self.family, "`fields`"):
            fields = family.fields(given, width=size.width, depth=depth)
        shape = Shape(
            width=size.width,
            depth=depth,
            vocab_size=vocab_size,
            context=self.context,
            fields=fields,
        )
        return FamilySpec.of(self.family, shape, given)


DENSE_FIELDS = ("head_dim", "ffn_ratio", "heads_per_kv", "kv_heads", "tied", "qk_norm", "rope_base")
"""Shape fields of the built-in family; another takes those that it knows."""


def _of_size(name: str, value: ShapeField, size: Size) -> Value:
    """A shape field's value at one size.

    Raises:
        Refused: The field has values by size, and none for this one.
    """
    if not isinstance(value, Mapping):
        return value
    if set(value) == {PER_WIDTH}:
        ratio = value[PER_WIDTH]
        if isinstance(ratio, bool) or not isinstance(ratio, int | float):
            raise Refused(
                "not-a-number",
                f"shape.{name}.{PER_WIDTH} = {ratio!r}: expected a number",
                value=ratio,
            )
        found = ratio * size.width
        return int(found) if float(found).is_integer() else found
    if str(size) not in value:
        raise Refused(
            "unknown-size",
            f"shape.{name} has values for {', '.join(value)}, and none for {size}; add it, or "
            f"write {{{PER_WIDTH}: R}}, R times the width",
            field=name,
            size=size,
            known=list(value),
        )
    return value[str(size)]


LARGEST = 1e6
"""Largest rate, scale or multiplier (assumed); the product of two stays finite."""
MOST_TOKENS = 2**40
"""Most tokens of one update (assumed)."""


class Recipe(Strict):
    """Optimizer, init and batch at base width; the role table carries them to other widths."""

    lr: Annotated[
        float,
        Field(gt=0, le=LARGEST, description="Peak learning rate at base_width", examples=[8e-3]),
    ]
    base_width: Annotated[
        int, Field(ge=1, description="Width at which every muP ratio is 1", examples=[256])
    ]
    batch_tokens: Annotated[
        int,
        Field(
            ge=1,
            le=MOST_TOKENS,
            description="Tokens per update, across all devices",
            examples=[131072],
        ),
        WrittenCount,
    ]
    warmup_steps: Annotated[
        int, Field(ge=1, description="Updates of linear warmup", examples=[200])
    ]
    init_std: Annotated[float, Field(gt=0, le=LARGEST, description="Init std at base_width")] = 0.1
    scale_emb: Annotated[
        float, Field(gt=0, le=LARGEST, description="Multiplier on the embedding output")
    ] = 12.0
    scale_depth: Annotated[
        float,
        Field(
            gt=0,
            le=LARGEST,
            description="Residual branches are multiplied by scale_depth / sqrt(depth); under "
            "completep by scale_depth / sqrt(base_depth) x base_depth / depth",
        ),
    ] = 1.4
    parametrization: Annotated[
        Parametrization,
        Field(
            description="mup: MiniCPM's rules over width; completep: also CompleteP's over depth; "
            "standard: neither"
        ),
    ] = "mup"
    base_depth: Annotated[
        int | None,
        Field(
            ge=1,
            le=DEEPEST,
            description="Depth at which completep equals mup; required under completep, and "
            "without effect otherwise",
        ),
    ] = None
    kv_rule: Annotated[
        KvRule,
        Field(
            description="Init std of keys and values. hidden: as other hidden matrices; spectral: "
            "/ sqrt(heads per kv head), for kv heads that stay while the width grows"
        ),
    ] = "hidden"
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    eps: Annotated[float, Field(gt=0, le=LARGEST)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0, le=LARGEST)] = 0.1
    weight_decay_rule: WeightDecayRule = "scaled"
    clip: Annotated[float, Field(gt=0, description="Gradient clipping: maximum global L2 norm")] = (
        1.0
    )

    @model_validator(mode="after")
    def _completep_has_a_base(self) -> Self:
        if self.parametrization == "completep" and self.base_depth is None:
            raise Misfit(
                "missing-base-depth",
                "parametrization: completep without base_depth, the depth that the learning rate "
                "is tuned at; write `base_depth:` with the layers of the smallest size",
                "parametrization",
                parametrization=self.parametrization,
            )
        return self

    def width_ratio(self, model: ModelSpec) -> float:
        """The m of muP: width / base_width."""
        return model.width / self.base_width

    def depth_ratio(self, model: ModelSpec) -> float:
        """The m_L of CompleteP: depth / base_depth; 1 under the other parametrizations."""
        return depth_ratio(
            model.depth, base_depth=self.base_depth, parametrization=self.parametrization
        )

    def scale(self, role: Role, model: ModelSpec) -> RoleScale:
        """The role table at this model's width."""
        return role_scale(
            role,
            width_ratio=self.width_ratio(model),
            depth_ratio=self.depth_ratio(model),
            parametrization=self.parametrization,
            weight_decay_rule=self.weight_decay_rule,
            scales_logits="logits" in model.sites,
        )

    def kv_init_std(self, model: ModelSpec) -> float:
        """Init std of this model's keys and values, over that of its other hidden matrices."""
        return kv_init_std(model.kv_group, kv_rule=self.kv_rule)

    def multipliers(self, model: ModelSpec) -> SiteMultipliers:
        """The forward multipliers at this model's shape; 1 at a site that the family lacks."""
        found = site_multipliers(
            width_ratio=self.width_ratio(model),
            depth=model.depth,
            depth_ratio=self.depth_ratio(model),
            head_dim=model.attention_dim,
            scale_emb=self.scale_emb,
            scale_depth=self.scale_depth,
            parametrization=self.parametrization,
        )
        return replace(found, **dict.fromkeys(EVERY_SITE - model.sites, 1.0))


class Hold(Strict):
    """A stable phase whose rate falls as a power of tokens (Shen et al. 2024, arXiv 2408.13359)."""

    model_config = ConfigDict(serialize_by_alias=True)

    power: Annotated[
        float,
        Field(
            ge=-1,
            le=0,
            description="The rate is the peak times (tokens / `from`)^power, from `from` on",
        ),
    ]
    start: Annotated[Duration, Field(alias="from", description="Up to here, the rate is the peak")]


class ScheduleConfig(Strict):
    """The stable phase of every trunk, and the decay of every branch that sets none of its own."""

    hold: Annotated[
        Annotated[Literal["constant"], Tag("constant")] | Annotated[Hold, Tag("power")],
        Discriminator(lambda written: "power" if isinstance(written, dict | Hold) else "constant"),
        Field(
            description="The stable phase: `constant`, or a rate that falls as a power of tokens, "
            "as in {power: -0.27, from: 10N}"
        ),
    ] = "constant"
    shape: DecayShape = "exponential"
    decay_fraction: Annotated[
        float | None,
        Field(
            gt=0,
            le=1,
            description="Length of the decay as a share of the horizon; 1: from the end of warmup. "
            "Default: 0.1, or 1 for cosine",
        ),
    ] = None
    final_factor: Annotated[
        float, Field(ge=0, le=1, description="Final learning rate, relative to that at the fork")
    ] = 0.1

    @field_validator("hold")
    @classmethod
    def _power_of_zero(cls, hold: Literal["constant"] | Hold) -> Literal["constant"] | Hold:
        """A power of 0 holds the rate, and is the same trunk."""
        return "constant" if isinstance(hold, Hold) and not hold.power else hold

    @property
    def decay_share(self) -> float:
        """`decay_fraction`, or its default: a cosine spans the whole run after warmup."""
        if self.decay_fraction is not None:
            return self.decay_fraction
        return 1.0 if self.shape == "cosine" else 0.1
