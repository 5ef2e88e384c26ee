"""L(N, D, U) when U unique tokens are seen more than once: repeated data is worth less and less.

Muennighoff et al. 2023 (arXiv 2305.16264) equations 5 to 7. Of D tokens, U_D = min(U, D) are seen
for the first time; the rest repeats them R_D = D / U_D - 1 times and counts as
U_D R_D* (1 - exp(-R_D / R_D*)) fresh ones. Parameters beyond U_N, the optimal size for U_D tokens,
wear out in the same way with R_N*.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from windtunnel.laws.forms.chinchilla import GRID, Chinchilla
from windtunnel.laws.forms.law import EXPONENT, POSITIVE, Law
from windtunnel.laws.table import Floats

# Their fit: R_N* = 5.31, R_D* = 15.39. Above the bound repeated data is as good as new.
WEAR = (0.01, 1e4)
WEARS = np.array([0.71, 4.3, 23.0])


@dataclass(frozen=True)
class DataConstrained(Law):
    """L = E + A N'^-alpha + B D'^-beta with effective parameters N' and tokens D'."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    R_N: float
    R_D: float

    name: ClassVar[str] = "data-constrained"
    formula: ClassVar[str] = "L = E + A N'^-alpha + B D'^-beta"
    source: ClassVar[str] = "Muennighoff et al. 2023 (arXiv 2305.16264) equations 5 to 7"
    inputs: ClassVar[tuple[str, ...]] = ("params", "tokens", "unique_tokens")
    bounds: ClassVar = {
        "E": POSITIVE,
        "A": POSITIVE,
        "B": POSITIVE,
        "alpha": EXPONENT,
        "beta": EXPONENT,
        "R_N": WEAR,
        "R_D": WEAR,
    }
    grids: ClassVar = {"alpha": GRID[::2], "beta": GRID[::2], "R_N": WEARS, "R_D": WEARS}
    distinct: ClassVar = {"params": 3, "tokens": 3, "unique_tokens": 2}
    headline: ClassVar[str] = "R_D"
    allocates: ClassVar[bool] = True
    scaling: ClassVar = {"A": (("params", "-alpha"),), "B": (("tokens", "-beta"),)}

    @staticmethod
    def equation(
        params: Any,
        tokens: Any,
        unique_tokens: Any,
        E: Any,
        A: Any,
        B: Any,
        alpha: Any,
        beta: Any,
        R_N: Any,
        R_D: Any,
    ) -> Any:
        """The formula."""
        unique = np.minimum(unique_tokens, tokens)
        effective_tokens = _effective(unique, tokens / unique - 1, R_D)
        # The size whose two terms are in balance at `unique` tokens: alpha A N^-alpha = beta B
        # U^-beta. Where the law has no such size (a term is zero) no parameter is in excess.
        tiny = np.finfo(float).tiny
        balance = (alpha * A + tiny) / (beta * B + tiny)
        log_best = (np.log(balance) + beta * np.log(unique)) / alpha
        best = np.exp(log_best - np.real(log_best) + np.clip(np.real(log_best), -60.0, 60.0))
        in_excess = np.real(best) < params
        base = np.where(in_excess, best, params)
        repeats = np.where(in_excess, params / base - 1, 0.0)
        effective_params = _effective(base, repeats, R_N)
        return E + A * effective_params**-alpha + B * effective_tokens**-beta

    @classmethod
    def units(cls, inputs: Floats) -> Floats:
        """Both kinds of tokens share a unit."""
        units = super().units(inputs)
        units[2] = units[1]
        return units

    @classmethod
    def log_optimum(
        cls, coefficients: Floats, flops: ArrayLike, *, flop_factor: float = 6.0
    ) -> tuple[Floats, Floats]:
        """The split while every token is fresh; see `Chinchilla.log_optimum`."""
        return Chinchilla.log_optimum(coefficients, flops, flop_factor=flop_factor)

    @classmethod
    def split(cls, coefficients: Floats) -> tuple[Floats, Floats]:
        """Of the unconstrained law."""
        return Chinchilla.split(coefficients)

    @property
    def unconstrained(self) -> Chinchilla:
        """The law while no token is repeated and no parameter in excess."""
        return Chinchilla(self.E, self.A, self.B, self.alpha, self.beta)


def _effective(base: Any, repeats: Any, wear: Any) -> Any:
    """U + U R* (1 - exp(-R / R*))."""
    return base * (1 + wear * (1 - np.exp(-repeats / wear)))
