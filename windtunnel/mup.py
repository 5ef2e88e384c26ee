"""One table of how init, learning rate, weight decay and multipliers scale with width and depth.

`mup` is MiniCPM's (arXiv 2404.06395, Table 7, as its code reads): hidden matrices get init std
/ sqrt(m) and learning rate / m with m = width / base_width; embedding, head and gains keep theirs;
logits are divided by m and each residual branch is multiplied by scale_depth / sqrt(depth).
`completep` is `mup` with the depth rule of CompleteP (Dey et al. 2025, arXiv 2505.01618, Table 1 at
alpha = 1): residual branches fall as 1 / depth, and eps with them. `standard` keeps every width
ratio at 1 except the hidden init std, which follows fan-in. At width = base_width, and for
`completep` depth = base_depth, the three are the same numbers.

A model family may lack the sites of forward multipliers. Without the one of the logits, muP is done
by init and rates alone (Yang et al. 2022, arXiv 2203.03466, Table 3; Table 8 has the multiplier):
the readout's init std and rate are divided by m. But for gradient clipping, which sees a readout's
gradient that is m times as large, both are the same training.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, get_args

Parametrization = Literal["mup", "completep", "standard"]
WeightDecayRule = Literal["scaled", "constant"]
KvRule = Literal["hidden", "spectral"]
SiteName = Literal["embed", "residual", "logits", "attention"]
"""Where the forward pass takes a constant factor."""

EVERY_SITE: frozenset[SiteName] = frozenset(get_args(SiteName))


class Role(StrEnum):
    """The role of a parameter in the network; every parameter has exactly one."""

    EMBEDDING = "embedding"
    HIDDEN = "hidden"
    READOUT = "readout"
    GAIN = "gain"
    ROUTER = "router"


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


def depth_ratio(depth: int, *, base_depth: int | None, parametrization: Parametrization) -> float:
    """The m_L of CompleteP, depth / base_depth; 1 where the parametrization has no base depth."""
    if parametrization != "completep":
        return 1.0
    assert base_depth is not None
    return depth / base_depth


def role_scale(
    role: Role,
    *,
    width_ratio: float,
    depth_ratio: float,
    parametrization: Parametrization,
    weight_decay_rule: WeightDecayRule,
    scales_logits: bool = True,
) -> RoleScale:
    """Init, rate, decay and eps multipliers of `role` at `width_ratio` = width / base_width.

    Under mup with Adam every gradient shrinks as 1 / m, because the logits do; eps shrinks with it
    in every role, so that their ratio is independent of width (derived). Under `scaled`, the
    default, weight decay times rate is independent of width; `constant` is MiniCPM's rule. Gains
    start at 1, have no init std and are never decayed.

    Under completep eps also falls as 1 / `depth_ratio`, in every role, as in the authors' code
    (EleutherAI/nanoGPT-mup, branch completep, `configure_optimizers`); their Table 1 says so of
    residual blocks alone. Its rates of hidden matrices and gains have a factor
    depth_ratio^(alpha - 1), which is 1 at alpha = 1.

    Unless the model `scales_logits` by 1 / m, its readout carries that factor: as w = W / m, whose
    gradient is m times that of W, and with it eps. A router maps the width onto a number of experts
    that stays, and is a readout in all of this (Malasnicki et al. 2025, arXiv 2508.09752).
    """
    m = width_ratio
    is_scaled = parametrization != "standard"
    eps = 1.0 / (m * depth_ratio) if is_scaled else 1.0
    decays_with_rate = is_scaled and weight_decay_rule == "scaled"
    match role:
        case Role.READOUT | Role.ROUTER if is_scaled and not scales_logits:
            return RoleScale(
                init_std=1.0 / m,
                lr=1.0 / m,
                weight_decay=m if decays_with_rate else 1.0,
                eps=eps * m,
            )
        case Role.EMBEDDING | Role.READOUT | Role.ROUTER:
            return RoleScale(eps=eps)
        case Role.GAIN:
            return RoleScale(init_std=0.0, weight_decay=0.0, eps=eps)
        case Role.HIDDEN:
            return RoleScale(
                init_std=m**-0.5,
                lr=1.0 / m if is_scaled else 1.0,
                weight_decay=m if decays_with_rate else 1.0,
                eps=eps,
            )


def kv_init_std(heads_per_kv: float, *, kv_rule: KvRule) -> float:
    """Init std of keys and values, over that of the other hidden matrices.

    Their fan-in is the width, whatever number of query heads shares one of them, and with it their
    rate: an update of Adam moves a key by at most rate x the sum of its inputs' sizes (derived, and
    measured: the effective updates of keys, values and queries have equal slopes). Their fan-out
    is width / heads_per_kv. Where kv heads stay while the width grows, keys and values are
    readouts of a fixed size, and inputs come to align with their few rows, so that the change that
    earlier layers make grows with width (measured: propagated update, docs/concepts.md).

    `spectral` starts them at min(1, sqrt(fan_out / fan_in)) times the std by fan-in (Yang, Simon
    and Bernstein 2023, arXiv 2310.17813), which is 1 / m at fixed kv heads, as muP has it for
    readouts, and the same number as `hidden` in multi-head attention. GQA-muP (Chickering et
    al. 2026, arXiv 2605.15290; code KyroChi/nanoGPT-maximal-paramaterizations, gqa_mup/mup.py)
    keeps the std and multiplies the rate by (1 + sqrt(heads_per_kv)) / 2, under which effective
    updates of keys and values grow where kv heads stay (measured).
    """
    return heads_per_kv**-0.5 if kv_rule == "spectral" else 1.0


def site_multipliers(
    *,
    width_ratio: float,
    depth: int,
    depth_ratio: float,
    head_dim: int | None,
    scale_emb: float,
    scale_depth: float,
    parametrization: Parametrization,
) -> SiteMultipliers:
    """Forward factors of the four sites; attention keeps 1 / sqrt(head_dim), where it is known.

    Residual branches have scale_depth / sqrt(depth), and under completep the same at the base depth
    times base_depth / depth: with depth_ratio = depth / base_depth the product of both roots.
    """
    return SiteMultipliers(
        embed=scale_emb,
        residual=scale_depth / math.sqrt(depth) / math.sqrt(depth_ratio),
        logits=1.0 if parametrization == "standard" else 1.0 / width_ratio,
        attention=1.0 if head_dim is None else head_dim**-0.5,
    )
