"""The law of upcycling: L(N, D1, D2) (Liew et al. 2025, arXiv 2502.03009).

After D1 `sunk_tokens` of a dense model it is copied into experts, which train on D2 new `tokens`.
alpha3 > 0 says that the more is sunk, the slower the copies improve.
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


@dataclass(frozen=True)
class Upcycling(Crossed):
    """L = E + A D1^-alpha1 D2^(-alpha2 + alpha3 ln D1) + B N^-beta."""

    E: float
    A: float
    B: float
    alpha1: float
    alpha2: float
    alpha3: float
    beta: float

    name: ClassVar[str] = "upcycling"
    formula: ClassVar[str] = "L = E + A D1^-alpha1 D2^(-alpha2 + alpha3 ln D1) + B N^-beta"
    source: ClassVar[str] = "Liew et al. 2025 (arXiv 2502.03009)"
    inputs: ClassVar[tuple[str, ...]] = ("params", "sunk_tokens", "tokens")
    bounds: ClassVar = {
        "E": POSITIVE,
        "A": POSITIVE,
        "B": POSITIVE,
        "alpha1": SIGNED,
        "alpha2": SIGNED,
        "alpha3": SIGNED,
        "beta": EXPONENT,
    }
    grids: ClassVar = {
        "alpha1": np.array([0.013, 0.057, 0.23]),
        "alpha2": GRID[::2],
        "alpha3": np.array([-0.0053, 0.0053]),
        "beta": GRID[::2],
    }
    scaling: ClassVar = {"B": (("params", "-beta"),)}
    term: ClassVar[Term] = Term(
        weight="A", p="alpha1", q="alpha2", cross="alpha3", x="sunk_tokens", y="tokens"
    )
    distinct: ClassVar = {"params": 3, "tokens": 3}
    headline: ClassVar[str] = "alpha3"

    @staticmethod
    def equation(
        params: Any,
        sunk_tokens: Any,
        tokens: Any,
        E: Any,
        A: Any,
        B: Any,
        alpha1: Any,
        alpha2: Any,
        alpha3: Any,
        beta: Any,
    ) -> Any:
        """The formula."""
        log_sunk, log_new = np.log(sunk_tokens), np.log(tokens)
        of_data = np.exp(-alpha1 * log_sunk - alpha2 * log_new + alpha3 * log_sunk * log_new)
        return E + A * of_data + B * params**-beta

    @classmethod
    def slopes(cls, theta: Floats, inputs: Floats) -> tuple[Floats, Floats]:
        """Outputs (p, R) and derivatives (p, 7, R), written out."""
        log_n, log_sunk, log_new = np.log(inputs)
        e, a, b, alpha1, alpha2, alpha3, beta = theta.T[:, :, None]
        jacobian = np.empty((len(theta), 7, log_n.size))
        jacobian[:, 0] = 1.0
        jacobian[:, 1] = np.exp(-alpha1 * log_sunk - alpha2 * log_new + alpha3 * log_sunk * log_new)
        jacobian[:, 2] = np.exp(-beta * log_n)
        of_data, of_params = a * jacobian[:, 1], b * jacobian[:, 2]
        jacobian[:, 3] = -of_data * log_sunk
        jacobian[:, 4] = -of_data * log_new
        jacobian[:, 5] = of_data * log_sunk * log_new
        jacobian[:, 6] = -of_params * log_n
        return e + of_data + of_params, jacobian

    @classmethod
    def check_design(cls, table: Table, free: Collection[str]) -> None:
        """Check that sunk tokens vary, and not with size or with new tokens alone."""
        moving = [name for name in ("alpha1", "alpha3") if name in free]
        needed, there = 1 + len(moving), np.unique(table["sunk_tokens"]).size
        if there < needed:
            fixes = " ".join(f"--fix {name}=0" for name in moving)
            raise FitError(
                "too-few-values",
                f"upcycling needs {needed} numbers of sunk tokens for {' and '.join(moving)}; this "
                f"table has {there}: fork at {needed - there} more, or leave their effect out: "
                f"{fixes}",
                column="sunk_tokens",
                values=int(there),
                needed=needed,
                fix=dict.fromkeys(moving, 0.0),
            )
        if moving:
            refuse_one_variable(table, "sunk_tokens", "tokens")

    @classmethod
    def check(cls, inputs: Mapping[str, Floats], output: Floats) -> None:
        """As `Law`; a run from scratch has nothing sunk, and no place in this law."""
        if (bad := np.flatnonzero(inputs["sunk_tokens"] == 0)).size:
            raise ColumnError(
                "out-of-range",
                "is 0: a run from scratch, which this law does not hold for. Leave it out "
                "(--where 'sunk_tokens > 0'), and fit such runs with --law chinchilla or moe-data",
                "sunk_tokens",
                int(bad[0]),
                value=0.0,
                above=0,
            )
        super().check(inputs, output)
