"""L(N, D) and L(N, D, U): the Chinchilla law, its optimum, the coupled form, and repeated data.

L(N, D) = E + A N^-alpha + B D^-beta is approach 3 of Hoffmann et al. 2022 (arXiv 2203.15556). Its
optimum is as in MiniCPM (arXiv 2404.06395) equations 2 and 3. All units are raw: N in parameters, D
in tokens, C in FLOPs. Published constants often use other units (MiniCPM's are per 1e9): convert
them with `Chinchilla.from_units`.

L = E + (A N^-alpha + B D^-beta)^k couples the two terms (Skaling, arXiv 2608.07222). At k = 1 it is
Chinchilla's. Below 1, a model that is short of data gains less from more parameters. The optimal
split does not depend on k.

L(N, D, U) covers U unique tokens seen more than once, whose value falls with every pass
(Muennighoff et al. 2023, arXiv 2305.16264, equations 5 to 7). Of D tokens, U_D = min(U, D) are
fresh. The rest repeats them R_D = D / U_D - 1 times and counts as U_D R_D* (1 - exp(-R_D / R_D*))
fresh tokens. Parameters beyond U_N, the optimal size for U_D tokens, lose value in the same way
with R_N*.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from windtunnel.laws.forms import EXPONENT, POSITIVE, Law
from windtunnel.laws.table import Floats

# Eight per axis, in ratio 1.57, none of them a round number that a planted law would use.
GRID = np.geomspace(0.0613, 1.427, 8)


class Allocation(NamedTuple):
    """The optimal split of a budget: parameters, tokens, and the loss that it reaches."""

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


# Of 13 public tables the fitted k lies between 0.22 and 0.89.
COUPLING = (0.05, 3.0)
COUPLINGS = (1.0, 0.61, 0.37)


@dataclass(frozen=True)
class Coupled(Law):
    """L = E + (A N^-alpha + B D^-beta)^k, whose limits fall as N^-(alpha k) and D^-(beta k)."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    k: float

    name: ClassVar[str] = "coupled"
    formula: ClassVar[str] = "L = E + (A N^-alpha + B D^-beta)^k"
    source: ClassVar[str] = "Skaling (arXiv 2608.07222); Chinchilla at k = 1"
    inputs: ClassVar[tuple[str, ...]] = ("params", "tokens")
    bounds: ClassVar = {**Chinchilla.bounds, "k": COUPLING}
    grids: ClassVar = {**Chinchilla.grids, "k": np.array(COUPLINGS)}
    scaling: ClassVar = Chinchilla.scaling
    distinct: ClassVar = {"params": 3, "tokens": 3}
    headline: ClassVar[str] = "ratio"
    allocates: ClassVar[bool] = True
    separable: ClassVar = Chinchilla

    @staticmethod
    def equation(
        params: Any, tokens: Any, E: Any, A: Any, B: Any, alpha: Any, beta: Any, k: Any
    ) -> Any:
        """The formula."""
        return E + (A * params**-alpha + B * tokens**-beta) ** k

    @classmethod
    def slopes(cls, theta: Floats, inputs: Floats) -> tuple[Floats, Floats]:
        """Outputs (p, R) and derivatives (p, 6, R), by the chain rule on Chinchilla's."""
        e, _, _, _, _, k = theta.T[:, :, None]
        inner = np.concatenate([np.zeros((len(theta), 1)), theta[:, 1:5]], axis=1)
        total, jacobian = Chinchilla.slopes(inner, inputs)
        with np.errstate(divide="ignore", invalid="ignore"):
            power = total**k
            outer = np.where(total > 0, k * power / total, 0.0)
            by_k = np.where(total > 0, power * np.log(total), 0.0)
        jacobian[:, 1:] *= outer[:, None]
        return e + power, np.concatenate([jacobian, by_k[:, None]], axis=1)

    @classmethod
    def lifted(cls, theta: Floats) -> Floats:
        """Start points (P, G, 6) from Chinchilla's (P, g, 5), in units that put both terms near 1.

        Each term alone becomes the k-th power of a coupled one.
        """
        parts = []
        for k in COUPLINGS:
            start = np.concatenate([theta, np.full((*theta.shape[:-1], 1), k)], axis=-1)
            start[..., 1:3] **= 1 / k
            start[..., 3:5] = np.clip(start[..., 3:5] / k, *EXPONENT)
            parts.append(start)
        return np.concatenate(parts, axis=-2)

    @classmethod
    def log_optimum(
        cls, coefficients: Floats, flops: ArrayLike, *, flop_factor: float = 6.0
    ) -> tuple[Floats, Floats]:
        """As of Chinchilla: a power of the sum is least where the sum is."""
        return Chinchilla.log_optimum(coefficients, flops, flop_factor=flop_factor)

    @classmethod
    def split(cls, coefficients: Floats) -> tuple[Floats, Floats]:
        """As of Chinchilla."""
        return Chinchilla.split(coefficients)


@dataclass(frozen=True)
class Auto(Coupled):
    """The coupled law as `--law auto` fits it: weighted over forms, with a smooth misfit."""

    name: ClassVar[str] = "auto"
    formula: ClassVar[str] = "L = (E + (A N^-alpha + B D^-beta)^k) e^g(N, D)"
    source: ClassVar[str] = "laws/auto: forms weighted by rolling extrapolation, g a random misfit"


# Their fit: R_N* = 5.31, R_D* = 15.39. Above the bound repeated data is as good as new.
WEAR = (0.01, 1e4)
WEARS = np.array([0.71, 4.3, 23.0])
# Of the best size for the unique tokens, in units of the table's: a law of one term has none.
MAX_LOG_BEST = 60.0


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
        real = np.real(log_best)
        best = np.exp(log_best - real + np.clip(real, -MAX_LOG_BEST, MAX_LOG_BEST))
        in_excess = np.real(best) < params
        base = np.where(in_excess, best, params)
        repeats = np.where(in_excess, params / base - 1, 0.0)
        effective_params = _effective(base, repeats, R_N)
        return E + A * effective_params**-alpha + B * effective_tokens**-beta

    @classmethod
    def slopes(cls, theta: Floats, inputs: Floats) -> tuple[Floats, Floats]:
        """Outputs (p, R) and derivatives (p, 7, R), written out: a fifteenth of complex steps."""
        params, tokens, unique_tokens = inputs
        e, a, b, alpha, beta, wear_n, wear_d = theta.T[:, :, None]
        unique = np.minimum(unique_tokens, tokens)
        log_unique = np.log(unique)
        log_gain, gain_by_wear, _ = _log_gain(tokens / unique - 1, wear_d)
        log_tokens = log_unique + log_gain
        power_tokens = np.exp(-beta * log_tokens)
        of_tokens = b * power_tokens

        tiny = np.finfo(float).tiny
        weight_n, weight_d = alpha * a + tiny, beta * b + tiny
        log_best = (np.log(weight_n / weight_d) + beta * log_unique) / alpha
        excess = np.log(params) - np.clip(log_best, -MAX_LOG_BEST, MAX_LOG_BEST)
        excess = np.maximum(excess, 0.0, out=excess)
        ratio = np.exp(excess)
        log_gain, by_wear_n, by_repeats = _log_gain(ratio - 1, wear_n)
        log_params = np.log(params) - excess + log_gain
        power_params = np.exp(-alpha * log_params)
        of_params = a * power_params
        # The first term's derivative by ln of the best size, where that size moves.
        moves = (excess > 0) & (np.abs(log_best) < MAX_LOG_BEST)
        moved = alpha * of_params * (by_repeats * ratio - 1) * moves

        jacobian = np.empty((len(theta), 7, params.size))
        jacobian[:, 0] = 1.0
        jacobian[:, 1] = power_params + moved / weight_n
        jacobian[:, 2] = power_tokens - moved / weight_d * (beta / alpha)
        jacobian[:, 3] = moved * (a / weight_n - log_best) / alpha - of_params * log_params
        jacobian[:, 4] = moved * (log_unique - b / weight_d) / alpha - of_tokens * log_tokens
        jacobian[:, 5] = -alpha * of_params * by_wear_n
        jacobian[:, 6] = -beta * of_tokens * gain_by_wear
        return e + of_params + of_tokens, jacobian

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
        """Exponents of the unconstrained law."""
        return Chinchilla.split(coefficients)

    @property
    def unconstrained(self) -> Chinchilla:
        """The law while no token is repeated and no parameter in excess."""
        return Chinchilla(self.E, self.A, self.B, self.alpha, self.beta)


def _effective(base: Any, repeats: Any, wear: Any) -> Any:
    """U + U R* (1 - exp(-R / R*))."""
    return base * (1 + wear * (1 - np.exp(-repeats / wear)))


def _log_gain(repeats: Floats, wear: Floats) -> tuple[Floats, Floats, Floats]:
    """Ln of 1 + R* (1 - exp(-R / R*)), and its derivatives by R* and by R."""
    rounds = repeats / wear
    left = np.exp(-rounds)
    gain = 1 + wear * (1 - left)
    return np.log(gain), (1 - left - rounds * left) / gain, left / gain
