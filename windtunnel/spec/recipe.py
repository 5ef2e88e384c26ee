"""Recipe: everything besides shape, data and length that decides the updates of a trunk."""

from typing import Annotated

from pydantic import Field

from windtunnel.parametrization import (
    Parametrization,
    Role,
    RoleScale,
    SiteMultipliers,
    WeightDecayRule,
    role_scale,
    site_multipliers,
)
from windtunnel.spec.model import ModelSpec
from windtunnel.spec.strict import Strict

LARGEST = 1e6
"""Of a rate, a scale or a multiplier (assumed); what is made of two of them is a finite number."""
MOST_TOKENS = 2**40
"""Of an update (assumed)."""


class Recipe(Strict):
    """Optimizer, init and batch at base width; the role table carries them to other widths."""

    lr: Annotated[float, Field(gt=0, le=LARGEST, description="Peak learning rate at base_width")]
    base_width: Annotated[int, Field(ge=1, description="Width at which every muP ratio is 1")]
    batch_tokens: Annotated[
        int, Field(ge=1, le=MOST_TOKENS, description="Tokens per update, over all devices")
    ]
    warmup_steps: Annotated[int, Field(ge=1, description="Updates of linear warmup")]
    init_std: Annotated[float, Field(gt=0, le=LARGEST, description="Init std at base_width")] = 0.1
    scale_emb: Annotated[
        float, Field(gt=0, le=LARGEST, description="Multiplier on the embedding output")
    ] = 12.0
    scale_depth: Annotated[
        float,
        Field(gt=0, le=LARGEST, description="Residual branches are scaled by this / sqrt(depth)"),
    ] = 1.4
    parametrization: Parametrization = "mup"
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    eps: Annotated[float, Field(gt=0, le=LARGEST)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0, le=LARGEST)] = 0.1
    weight_decay_rule: WeightDecayRule = "scaled"
    clip: Annotated[float, Field(gt=0, description="Largest gradient norm (L2, all params)")] = 1.0

    def width_ratio(self, model: ModelSpec) -> float:
        """The m of muP: width / base_width."""
        return model.width / self.base_width

    def scale(self, role: Role, model: ModelSpec) -> RoleScale:
        """The role table at this model's width."""
        return role_scale(
            role,
            width_ratio=self.width_ratio(model),
            parametrization=self.parametrization,
            weight_decay_rule=self.weight_decay_rule,
        )

    def multipliers(self, model: ModelSpec) -> SiteMultipliers:
        """The forward multipliers at this model's shape."""
        return site_multipliers(
            width_ratio=self.width_ratio(model),
            depth=model.depth,
            head_dim=model.head_dim,
            scale_emb=self.scale_emb,
            scale_depth=self.scale_depth,
            parametrization=self.parametrization,
        )
