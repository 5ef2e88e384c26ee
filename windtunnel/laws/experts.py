"""Laws of mixtures of experts: L(N, experts) and L(N, experts, D).

`params` are the active parameters of a token, `experts` those that a token is routed among, 1 of a
dense model. Clark et al. 2022 (arXiv 2202.01169) write ln L as bilinear in ln N and in the ln of
the saturated number of experts X:

    ln L = d - alpha ln N - b ln X + c ln N ln X,  1/X = 1/(experts - 1 + r) + 1/E_max,

with r = (1/E_start - 1/E_max)^-1, so that X runs from E_start to E_max. `moe` is this form above a
floor: E = 0 is theirs. With c >= 0 the gain of more experts falls with size, and is gone at
N = exp(b/c), their cutoff; all three kinds of routing that they measured have c > 0.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from windtunnel.errors import ColumnError, FitError
from windtunnel.laws.chinchilla import GRID
from windtunnel.laws.crossed import SIGNED, Crossed, Term, refuse_one_variable
from windtunnel.laws.forms import EXPONENT, POSITIVE
from windtunnel.laws.table import Floats, Table

START, MOST = (0.1, 100.0), (2.0, 1e4)
"""Of E_start and E_max: their three kinds of routing have 1.8 to 4.2 and 314 to 478."""
GAP = 1e-9
"""1 / E_start - 1 / E_max at least: where E_start reaches E_max no number of experts matters."""


def saturated(experts: Any, E_start: Any, E_max: Any) -> Any:
    """X: from E_start at 1 expert to E_max at very many."""
    gap = 1 / E_start - 1 / E_max
    return 1 / (1 / (experts - 1 + 1 / np.where(np.real(gap) > GAP, gap, GAP)) + 1 / E_max)


@dataclass(frozen=True)
class Moe(Crossed):
    """L = E + A N^-alpha X^-b exp(c ln N ln X), in which X is the saturated number of experts."""

    E: float
    A: float
    alpha: float
    b: float
    c: float
    E_start: float
    E_max: float

    name: ClassVar[str] = "moe"
    formula: ClassVar[str] = (
        "L = E + A N^-alpha X^(-b + c ln N), 1/X = 1/(experts - 1 + r) + 1/E_max, "
        "r = 1/(1/E_start - 1/E_max)"
    )
    source: ClassVar[str] = "Clark et al. 2022 (arXiv 2202.01169); E = 0 is their equation 1"
    inputs: ClassVar[tuple[str, ...]] = ("params", "experts")
    bounds: ClassVar = {
        "E": POSITIVE,
        "A": POSITIVE,
        "alpha": EXPONENT,
        "b": SIGNED,
        "c": POSITIVE,
        "E_start": START,
        "E_max": MOST,
    }
    grids: ClassVar = {
        "alpha": GRID[::2],
        "b": np.array([0.031, 0.113, 0.37]),
        "c": np.array([0.0031, 0.029]),
        "E_start": np.array([1.3, 4.1]),
        "E_max": np.array([43.0, 610.0]),
    }
    term: ClassVar[Term] = Term(weight="A", p="alpha", q="b", cross="c", x="params", y=None)
    distinct: ClassVar = {"params": 3, "experts": 2}
    headline: ClassVar[str] = "b"

    @staticmethod
    def equation(
        params: Any,
        experts: Any,
        E: Any,
        A: Any,
        alpha: Any,
        b: Any,
        c: Any,
        E_start: Any,
        E_max: Any,
    ) -> Any:
        """The formula."""
        log_n, log_x = np.log(params), np.log(saturated(experts, E_start, E_max))
        return E + A * np.exp(-alpha * log_n - b * log_x + c * log_n * log_x)

    @classmethod
    def slopes(cls, theta: Floats, inputs: Floats) -> tuple[Floats, Floats]:
        """Outputs (p, R) and derivatives (p, 7, R), written out."""
        params, experts = inputs
        e, a, alpha, b, c, start, most = theta.T[:, :, None]
        log_n = np.log(params)
        gap = 1 / start - 1 / most
        open_, gap = gap > GAP, np.maximum(gap, GAP)
        beyond = experts - 1 + 1 / gap
        x = 1 / (1 / beyond + 1 / most)
        log_x = np.log(x)
        by_gap = -x / (beyond * gap) ** 2 * open_
        unit = np.exp(-alpha * log_n - b * log_x + c * log_n * log_x)
        term = a * unit
        by_log_x = term * (c * log_n - b)
        jacobian = np.empty((len(theta), 7, log_n.size))
        jacobian[:, 0] = 1.0
        jacobian[:, 1] = unit
        jacobian[:, 2] = -term * log_n
        jacobian[:, 3] = -term * log_x
        jacobian[:, 4] = term * log_n * log_x
        jacobian[:, 5] = by_log_x * by_gap * -(start**-2.0)
        jacobian[:, 6] = by_log_x * (by_gap + x) * most**-2.0
        return e + term, jacobian

    @classmethod
    def units(cls, inputs: Floats) -> Floats:
        """Experts are counted, and stay as they are."""
        units = super().units(inputs)
        units[cls.inputs.index("experts")] = 1.0
        return units

    @classmethod
    def check_design(cls, table: Table, free: Collection[str]) -> None:
        """Check that there are enough numbers of experts for what they decide.

        Two give b and c. Each of E_start and E_max asks for one more. Without a term of tokens,
        those of a size must agree.
        """
        if "tokens" not in cls.inputs:
            refuse_several_tokens(table)
        bends = [name for name in ("E_start", "E_max") if name in free]
        needed, there = 2 + len(bends), np.unique(table["experts"]).size
        if there >= needed:
            return
        fixes = " ".join(f"--fix {name}={NO_BEND[name]:g}" for name in bends)
        raise FitError(
            "too-few-values",
            f"{cls.name} needs {needed} numbers of experts for b, c, {' and '.join(bends)}; this "
            f"table has {there}: add {needed - there}, or take X as the number of experts itself: "
            f"{fixes}",
            column="experts",
            values=int(there),
            needed=needed,
            fix={name: NO_BEND[name] for name in bends},
        )

    @classmethod
    def check(cls, inputs: Mapping[str, Floats], output: Floats) -> None:
        """As `Law`; also that no row has less than one expert."""
        experts = inputs["experts"]
        if (bad := np.flatnonzero(experts < 1)).size:
            raise ColumnError(
                "out-of-range",
                f"is {experts[bad[0]]:g}: the number of experts, at least 1, which is a dense "
                "model",
                "experts",
                int(bad[0]),
                value=float(experts[bad[0]]),
                low=1,
            )
        super().check(inputs, output)


NO_BEND = {"E_start": 1.0, "E_max": 1e4}
"""With these X is the number of experts, within 1% up to a hundred."""


@dataclass(frozen=True)
class MoeData(Moe):
    """As `Moe`, plus B D^-beta."""

    B: float
    beta: float

    name: ClassVar[str] = "moe-data"
    formula: ClassVar[str] = (
        "L = E + A N^-alpha X^(-b + c ln N) + B D^-beta, 1/X = 1/(experts - 1 + r) + 1/E_max, "
        "r = 1/(1/E_start - 1/E_max)"
    )
    source: ClassVar[str] = "Clark et al. 2022 (arXiv 2202.01169), with Chinchilla's floor and data"
    inputs: ClassVar[tuple[str, ...]] = ("params", "experts", "tokens")
    bounds: ClassVar = {**Moe.bounds, "B": POSITIVE, "beta": EXPONENT}
    grids: ClassVar = {**Moe.grids, "beta": GRID[::2]}
    scaling: ClassVar = {"B": (("tokens", "-beta"),)}
    distinct: ClassVar = {**Moe.distinct, "tokens": 3}

    @staticmethod
    def equation(  # type: ignore[override]
        params: Any,
        experts: Any,
        tokens: Any,
        E: Any,
        A: Any,
        alpha: Any,
        b: Any,
        c: Any,
        E_start: Any,
        E_max: Any,
        B: Any,
        beta: Any,
    ) -> Any:
        """The formula."""
        size = Moe.equation(params, experts, E, A, alpha, b, c, E_start, E_max)
        return size + B * tokens**-beta

    @classmethod
    def slopes(cls, theta: Floats, inputs: Floats) -> tuple[Floats, Floats]:
        """Outputs (p, R) and derivatives (p, 9, R)."""
        value, jacobian = Moe.slopes(theta[:, :7], inputs[:2])
        weight, beta = theta.T[7:, :, None]
        log_tokens = np.log(inputs[2])
        unit = np.exp(-beta * log_tokens)
        of_data = np.stack([unit, -weight * unit * log_tokens], axis=1)
        return value + weight * unit, np.concatenate([jacobian, of_data], axis=1)

    @classmethod
    def check_design(cls, table: Table, free: Collection[str]) -> None:
        """As `Moe`; also that sizes have several numbers of tokens."""
        super().check_design(table, free)
        refuse_one_variable(table, "params", "tokens")


SAME_TOKENS = 1.1
"""Tokens within this factor are one number of them."""


def refuse_several_tokens(table: Table) -> None:
    """Check that runs of one size and number of experts have about as many tokens, where known.

    Raises:
        FitError: they have not, and a law without a term of tokens cannot hold.
    """
    if "tokens" not in table:
        return
    cells, tokens = table.cells("params", "experts"), np.log(table.tokens)
    for cell in range(cells.max() + 1):
        mine = tokens[cells == cell]
        if np.ptp(mine) > np.log(SAME_TOKENS):
            low, high = np.exp([mine.min(), mine.max()]).tolist()
            size = float(table.params[cells == cell][0])
            raise FitError(
                "mixed-tokens",
                f"moe is of runs of one length: those of {size:.3g} params have {low:.3g} to "
                f"{high:.3g} tokens. Fit --law moe-data, or select one length (--where)",
                params=size,
                tokens=[low, high],
                needed="moe-data",
            )
