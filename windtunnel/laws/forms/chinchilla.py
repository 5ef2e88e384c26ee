"""L(N, D) = E + A N^-alpha + B D^-beta, and the cheapest way to spend a budget under it.

Hoffmann et al. 2022 (arXiv 2203.15556) approach 3; the optimum as in MiniCPM (arXiv 2404.06395)
equations 2 and 3. Everything is in raw units: N in parameters, D in tokens, C in FLOPs. Published
constants often are not (MiniCPM's are per 1e9): read them with `Chinchilla.from_units`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from windtunnel.laws.forms.law import EXPONENT, POSITIVE, Law
from windtunnel.laws.table import Floats

# Eight per axis, in ratio 1.57, none of them a round number that a planted law would use.
GRID = np.geomspace(0.0613, 1.427, 8)


class Allocation(NamedTuple):
    """How a budget is best spent: parameters, tokens, and the loss that this buys."""

    params: float
    tokens: float
    loss: float


@dataclass(frozen=True)
class Chinchilla(Law):
    """The law with its five coefficients, in raw units and the loss unit of the table.

    Raises:
        FitError: an exponent out of bounds, or a negative E, A or B.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    name: ClassVar[str] = "chinchilla"
    formula: ClassVar[str] = "L = E + A N^-alpha + B D^-beta"
    source: ClassVar[str] = "Hoffmann et al. 2022 (arXiv 2203.15556) approach 3"
    inputs: ClassVar[tuple[str, ...]] = ("params", "tokens")
    bounds: ClassVar = {
        "E": POSITIVE,
        "A": POSITIVE,
        "B": POSITIVE,
        "alpha": EXPONENT,
        "beta": EXPONENT,
    }
    grids: ClassVar = {"alpha": GRID, "beta": GRID}
    scaling: ClassVar = {"A": (("params", "-alpha"),), "B": (("tokens", "-beta"),)}
    distinct: ClassVar = {"params": 3, "tokens": 3}
    headline: ClassVar[str] = "ratio"
    allocates: ClassVar[bool] = True

    @staticmethod
    def equation(params: Any, tokens: Any, E: Any, A: Any, B: Any, alpha: Any, beta: Any) -> Any:
        """The formula."""
        return E + A * params**-alpha + B * tokens**-beta

    @classmethod
    def slopes(cls, theta: Floats, inputs: Floats) -> tuple[Floats, Floats]:
        """Outputs (p, R) and derivatives (p, 5, R), written out: this law is fitted most."""
        e, a, b, alpha, beta = theta.T[:, :, None]
        log_params, log_tokens = np.log(inputs)
        jacobian = np.empty((len(theta), 5, log_params.size))
        jacobian[:, 0] = 1.0
        jacobian[:, 1] = np.exp(-alpha * log_params)
        jacobian[:, 2] = np.exp(-beta * log_tokens)
        of_params, of_tokens = a * jacobian[:, 1], b * jacobian[:, 2]
        jacobian[:, 3] = -of_params * log_params
        jacobian[:, 4] = -of_tokens * log_tokens
        return e + of_params + of_tokens, jacobian

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

    def optimum(self, flops: float, *, flop_factor: float = 6.0) -> Allocation:
        """The N and D of lowest loss under C = k N D = `flops`."""
        log_params, log_tokens = self.log_optimum(self.vector, flops, flop_factor=flop_factor)
        params, tokens = float(np.exp(log_params)), float(np.exp(log_tokens))
        return Allocation(params, tokens, float(self(params, tokens)))

    def ratio(self, flops: float, *, flop_factor: float = 6.0) -> float:
        """Compute-optimal tokens per parameter, D/N, at `flops`."""
        best = self.optimum(flops, flop_factor=flop_factor)
        return best.tokens / best.params

    @classmethod
    def log_optimum(
        cls, coefficients: Floats, flops: ArrayLike, *, flop_factor: float = 6.0
    ) -> tuple[Floats, Floats]:
        """Ln N_opt and ln D_opt at `flops` for coefficients of shape (..., 5), each of shape (...).

        N_opt = G (C/k)^(beta/(alpha+beta)), D_opt = (C/k)^(alpha/(alpha+beta)) / G, with
        G = (alpha A / (beta B))^(1/(alpha+beta)) (Hoffmann et al. equation 4). Where a term is
        absent (A or B is 0) the optimum runs away and the answer is minus or plus infinity.
        """
        _, a, b, alpha, beta = np.moveaxis(np.asarray(coefficients, np.float64), -1, 0)[:5]
        with np.errstate(divide="ignore", invalid="ignore"):
            log_g = (np.log(alpha * a) - np.log(beta * b)) / (alpha + beta)
            log_cells = np.log(np.asarray(flops) / flop_factor)
            log_params = log_g + beta / (alpha + beta) * log_cells
            log_tokens = -log_g + alpha / (alpha + beta) * log_cells
        return log_params, log_tokens

    @classmethod
    def split(cls, coefficients: Floats) -> tuple[Floats, Floats]:
        """N_opt ~ C^(beta/(alpha+beta)), D_opt ~ C^(alpha/(alpha+beta))."""
        alpha, beta = coefficients[..., 3], coefficients[..., 4]
        return beta / (alpha + beta), alpha / (alpha + beta)

    @property
    def exponent(self) -> float:
        """Eta in N_opt / D_opt ~ C^eta: 0 keeps D/N constant, below 0 favours data as C grows."""
        return (self.beta - self.alpha) / (self.alpha + self.beta)
