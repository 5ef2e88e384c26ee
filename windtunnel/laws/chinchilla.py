"""L(N, D) = E + A N^-alpha + B D^-beta, and the cheapest way to spend a budget under it.

Hoffmann et al. 2022 (arXiv 2203.15556) approach 3; the optimum as in MiniCPM (arXiv 2404.06395)
equations 2 and 3. Everything is in raw units: N in parameters, D in tokens, C in FLOPs. Published
constants often are not (MiniCPM's are per 1e9): read them with `Chinchilla.from_units`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from windtunnel.errors import FitError
from windtunnel.laws.runs import Floats

COEFFICIENTS = ("E", "A", "B", "alpha", "beta")


class Allocation(NamedTuple):
    """How a budget is best spent: parameters, tokens, and the loss that this buys."""

    params: float
    tokens: float
    loss: float


@dataclass(frozen=True)
class Chinchilla:
    """The law with its five coefficients, in raw units and the loss unit of the table.

    Raises:
        FitError: an exponent that is not positive, or a negative E, A or B.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def __post_init__(self) -> None:
        exponents, scales = (self.alpha, self.beta), (self.E, self.A, self.B)
        if not (all(x > 0 for x in exponents) and all(x >= 0 for x in scales)):
            raise FitError(f"{self}: exponents must be above 0, and E, A, B at least 0")

    @classmethod
    def from_units(
        cls,
        *,
        E: float,
        A: float,
        B: float,
        alpha: float,
        beta: float,
        params_unit: float,
        tokens_unit: float,
    ) -> "Chinchilla":
        """The law in raw units, from constants stated with N and D in `*_unit` (1e9 for billions).

        A (N/u)^-alpha = (A u^alpha) N^-alpha, and likewise for B.
        """
        return cls(E, A * params_unit**alpha, B * tokens_unit**beta, alpha, beta)

    def predict(self, params: ArrayLike, tokens: ArrayLike) -> Floats:
        """Loss at (params, tokens), broadcast together; in the unit of the fitted table."""
        n, d = np.asarray(params, np.float64), np.asarray(tokens, np.float64)
        return np.asarray(self.E + self.A * n**-self.alpha + self.B * d**-self.beta)

    def optimum(self, flops: float, *, flop_factor: float = 6.0) -> Allocation:
        """The N and D of lowest loss under C = k N D = `flops`."""
        log_params, log_tokens = log_optimum(self.coefficients, flops, flop_factor=flop_factor)
        params, tokens = float(np.exp(log_params)), float(np.exp(log_tokens))
        return Allocation(params, tokens, float(self.predict(params, tokens)))

    def ratio(self, flops: float, *, flop_factor: float = 6.0) -> float:
        """Compute-optimal tokens per parameter, D/N, at `flops`."""
        best = self.optimum(flops, flop_factor=flop_factor)
        return best.tokens / best.params

    @property
    def exponent(self) -> float:
        """Eta in N_opt / D_opt ~ C^eta: 0 keeps D/N constant, below 0 favours data as C grows."""
        return (self.beta - self.alpha) / (self.alpha + self.beta)

    @property
    def coefficients(self) -> Floats:
        """E, A, B, alpha, beta as an array, in the order of `COEFFICIENTS`."""
        return np.array([self.E, self.A, self.B, self.alpha, self.beta])


def log_optimum(
    coefficients: Floats, flops: float, *, flop_factor: float = 6.0
) -> tuple[Floats, Floats]:
    """Ln N_opt and ln D_opt at `flops` for coefficients of shape (..., 5), each of shape (...).

    N_opt = G (C/k)^(beta/(alpha+beta)), D_opt = (C/k)^(alpha/(alpha+beta)) / G, with
    G = (alpha A / (beta B))^(1/(alpha+beta)) (Hoffmann et al. equation 4). Where a term is absent
    (A or B is 0) the optimum runs away and the answer is minus or plus infinity.
    """
    _, a, b, alpha, beta = np.moveaxis(np.asarray(coefficients, np.float64), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_g = (np.log(alpha * a) - np.log(beta * b)) / (alpha + beta)
        log_cells = np.log(flops / flop_factor)
        log_params = log_g + beta / (alpha + beta) * log_cells
        log_tokens = -log_g + alpha / (alpha + beta) * log_cells
    return log_params, log_tokens
