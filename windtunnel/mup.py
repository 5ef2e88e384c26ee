"""One table of how init, learning rate, weight decay and multipliers scale with width and depth.

`mup` is MiniCPM's (arXiv 2404.06395, Table 7, as its code reads): hidden matrices get init std
/ sqrt(m) and learning rate / m with m = width / base_width; embedding, head and gains keep theirs;
logits are divided by m and each residual branch is multiplied by scale_depth / sqrt(depth).
`standard` keeps every width ratio at 1 except the hidden init std, which follows fan-in. At
width = base_width the two are the same numbers.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Parametrization = Literal["mup", "standard"]
WeightDecayRule = Literal["scaled", "constant"]


class Role(StrEnum):
    """The role of a parameter in the network; every parameter has exactly one."""

    EMBEDDING = "embedding"
    HIDDEN = "hidden"
    READOUT = "readout"
    GAIN = "gain"


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleScale:
    """Multipliers of one role, relative to the recipe's values at base width."""

    init_std: float = 1.0
    lr: float = 1.0
    weight_decay: float = 1.0
    eps: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteMultipliers:
    """Constant factors in the forward pass."""

    embed: float
    residual: float
    logits: float
    attention: float


def role_scale(
    role: Role,
    *,
    width_ratio: float,
    parametrization: Parametrization,
    weight_decay_rule: WeightDecayRule,
) -> RoleScale:
    """Init, rate, decay and eps multipliers of `role` at `width_ratio` = width / base_width.

    Under mup with Adam every gradient shrinks as 1 / m, because the logits do; eps shrinks with it
    in every role, so that their ratio is independent of width (derived). Under `scaled`, the
    default, weight decay times rate is independent of width; `constant` is MiniCPM's rule. Gains
    start at 1, have no init std and are never decayed.
    """
    m = width_ratio
    is_mup = parametrization == "mup"
    eps = 1.0 / m if is_mup else 1.0
    match role:
        case Role.EMBEDDING | Role.READOUT:
            return RoleScale(eps=eps)
        case Role.GAIN:
            return RoleScale(init_std=0.0, weight_decay=0.0, eps=eps)
        case Role.HIDDEN:
            decays_with_rate = is_mup and weight_decay_rule == "scaled"
            return RoleScale(
                init_std=m**-0.5,
                lr=1.0 / m if is_mup else 1.0,
                weight_decay=m if decays_with_rate else 1.0,
                eps=eps,
            )


def site_multipliers(
    *,
    width_ratio: float,
    depth: int,
    head_dim: int,
    scale_emb: float,
    scale_depth: float,
    parametrization: Parametrization,
) -> SiteMultipliers:
    """Forward factors of the four sites; attention keeps 1 / sqrt(head_dim)."""
    return SiteMultipliers(
        embed=scale_emb,
        residual=scale_depth / math.sqrt(depth),
        logits=1.0 / width_ratio if parametrization == "mup" else 1.0,
        attention=head_dim**-0.5,
    )
