"""One table of how rate, weight decay, beta2 and eps follow batch, length and depth.

A recipe is tuned at one place: so many tokens per update, so much training, so many layers. A rule
carries one of its values to another place, as a power of the ratio of the two. Every rule is the
identity at the tuned place. Width has a table of its own, `windtunnel.mup`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Setting = Literal["lr", "weight_decay", "beta2", "eps"]
Along = Literal["batch", "length", "depth"]
Cell = tuple[Setting, Along]

DIGITS = 12
"""Significant digits of a carried value: its last bits differ between processors, and ids must
not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """How one setting follows one thing: setting ~ ratio^power.

    Attributes:
        power: exponent of the ratio of the two places.
        per_rate: whether the setting is also divided by the factor of the rate along the same
            thing, so that lr x weight_decay follows the power.
        per_param: exponent of the ratio of tokens per parameter.
        source: paper and place.
    """

    power: float
    per_rate: bool = False
    per_param: float = 0.0
    source: str = ""


NONE = "none"
MEASURED = "measured"

TABLE: Mapping[Cell, Mapping[str, Rule]] = {
    ("lr", "batch"): {
        "sqrt": Rule(power=0.5, source="Malladi et al. 2022 (arXiv 2205.10287), section 4"),
        "linear": Rule(power=1.0, source="Goyal et al. 2017 (arXiv 1706.02677), section 2.1"),
    },
    ("lr", "length"): {
        "delphi": Rule(power=-0.3, source="Marin, Delphi (2026)"),
        "completed_p": Rule(power=-0.5, source="Complete(d)P (arXiv 2512.22382)"),
    },
    ("lr", "depth"): {
        "inverse_sqrt": Rule(
            power=-0.5, source="Yang et al. 2023 (arXiv 2310.02244), Depth-muP with Adam"
        ),
    },
    ("weight_decay", "batch"): {
        "timescale": Rule(
            power=1.0, per_rate=True, source="Wang and Aitchison 2024 (arXiv 2405.13698)"
        ),
    },
    ("weight_decay", "length"): {
        "timescale": Rule(
            power=-1.0, per_rate=True, source="Wang and Aitchison 2024 (arXiv 2405.13698)"
        ),
        "power_lines": Rule(
            power=-1.0,
            per_rate=True,
            per_param=0.527,
            source="Bergsma et al. 2025, Power Lines (arXiv 2505.13738)",
        ),
    },
    ("beta2", "batch"): {
        "half_life": Rule(power=1.0, source="Marek et al. 2025 (arXiv 2507.07101)"),
    },
    ("eps", "batch"): {
        "inverse_sqrt": Rule(
            power=-0.5, source="Malladi et al. 2022 (arXiv 2205.10287), section 4"
        ),
    },
}
"""Published rules by setting and thing; each cell also takes `none`, and some a measured power.

AdamW averages its weights over batch / (lr weight_decay) tokens, its timescale. `timescale` keeps
that time constant over batches, and a constant share of the training over lengths; `power_lines`
lets the share fall as (tokens / params)^-0.527. `half_life` keeps the tokens over which beta2
halves: beta2^(batch ratio).
"""

POWERS: frozenset[Cell] = frozenset(
    {("lr", "batch"), ("lr", "length"), ("lr", "depth"), ("weight_decay", "length")}
)
"""Cells that an experiment can measure, or that take a power of one's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a recipe is used: tokens per update, tokens of training, layers, parameters."""

    batch_tokens: float
    tokens: float
    depth: int
    params: float

    def ratio(self, base: "Place", along: Along) -> float:
        """How much larger one thing is here than at `base`."""
        match along:
            case "batch":
                return self.batch_tokens / base.batch_tokens
            case "length":
                return self.tokens / base.tokens
        return self.depth / base.depth


@dataclass(frozen=True, kw_only=True, slots=True)
class Factors:
    """Factors on a recipe's values; `beta2` is the power that beta2 is raised to."""

    lr: float
    weight_decay: float
    eps: float
    beta2: float

    def transferred(
        self, *, lr: float, weight_decay: float, eps: float, beta2: float
    ) -> dict[str, float]:
        """The four values at the other place, to `DIGITS` digits."""
        transferred = {
            "lr": lr * self.lr,
            "weight_decay": weight_decay * self.weight_decay,
            "eps": eps * self.eps,
            "beta2": beta2**self.beta2,
        }
        return {name: float(f"{value:.{DIGITS}g}") for name, value in transferred.items()}


def factors(rules: Mapping[Cell, Rule], place: Place, base: Place) -> Factors:
    """Factors of a recipe that was tuned at `base`, for use at `place`."""
    found: dict[Setting, float] = {"lr": 1.0, "weight_decay": 1.0, "beta2": 1.0, "eps": 1.0}
    of_rate: dict[Along, float] = {}
    for (setting, along), rule in sorted(rules.items()):  # lr before weight_decay
        factor = place.ratio(base, along) ** rule.power
        if rule.per_param:
            per_param = place.tokens / place.params / (base.tokens / base.params)
            factor *= per_param**rule.per_param
        if setting == "lr":
            of_rate[along] = factor
        if rule.per_rate:
            factor /= of_rate.get(along, 1.0)
        found[setting] *= factor
    return Factors(**found)
