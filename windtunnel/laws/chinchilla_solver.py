"""Fitting L(N, D) many times at once: start points by variable projection, then the true objective.

For fixed exponents E, A and B enter linearly, so their best non-negative values have a closed form
(Golub and Pereyra 1973; for this law arXiv 2603.22339). That gives a start at every point of a grid
of exponents; `least_squares.minimise` then lowers the real objective from each.

Variables are scaled: n = N / N0 and d = D / D0 with N0 and D0 the geometric means. Then
a = A N0^-alpha and b = B D0^-beta are of the size of a loss, and the normal equations of a 5 x 5
design have condition number 2e4 instead of 2e11 (measured). `theta` is always (E, a, b, alpha,
beta), in this order.
"""

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from windtunnel.errors import FitError, did_you_mean
from windtunnel.laws.least_squares import Residuals, Solution, minimise
from windtunnel.laws.runs import Floats

ObjectiveName = Literal["huber-log", "mse-log", "mse", "huber"]
OBJECTIVES: tuple[ObjectiveName, ...] = ("huber-log", "mse-log", "mse", "huber")

# Exponents of published laws lie between 0.1 and 0.9; an answer at these bounds is no answer.
EXPONENT_LOW, EXPONENT_HIGH = 0.01, 3.0
LOWER = np.array([0.0, 0.0, 0.0, EXPONENT_LOW, EXPONENT_LOW])
UPPER = np.array([np.inf, np.inf, np.inf, EXPONENT_HIGH, EXPONENT_HIGH])
# Eight per axis, in ratio 1.57, none of them a round number that a planted law would use.
GRID = np.geomspace(0.0613, 1.427, 8)


@dataclass(frozen=True)
class Objective:
    """What is minimised: the sum of Huber(residual, delta).

    The residual is ln(predicted) - ln(measured) for the `-log` objectives, predicted - measured
    otherwise; `delta` is in the same unit, and infinite for least squares.
    """

    name: ObjectiveName
    delta: float = np.inf

    def __post_init__(self) -> None:
        if self.name not in OBJECTIVES:
            raise FitError(
                f"objective = {self.name!r}: one of {', '.join(OBJECTIVES)}"
                + did_you_mean(str(self.name), OBJECTIVES)
            )
        if not self.delta > 0:
            raise FitError(f"delta = {self.delta}: must be above 0, in the unit of the residual")

    @property
    def is_log(self) -> bool:
        """Whether residuals are differences of ln loss."""
        return self.name.endswith("-log")

    @property
    def is_huber(self) -> bool:
        """Whether large residuals count linearly."""
        return self.name.startswith("huber")

    def target(self, loss: Floats) -> Floats:
        """The measured side of the residual."""
        return np.log(loss) if self.is_log else loss


@dataclass(frozen=True, eq=False)
class Grid:
    """The rows' ln(N / N0) and ln(D / D0), shape (R,), with ln N0 and ln D0."""

    log_params: Floats
    log_tokens: Floats
    log_params_unit: float
    log_tokens_unit: float

    @classmethod
    def of(cls, params: Floats, tokens: Floats) -> "Grid":
        """The scaled grid of raw N and D."""
        x, y = np.log(params), np.log(tokens)
        return cls(x - x.mean(), y - y.mean(), float(x.mean()), float(y.mean()))

    def raw(self, theta: Floats) -> Floats:
        """(E, A, B, alpha, beta) in raw units from theta, shape (..., 5)."""
        return self._moved(theta, 1.0)

    def scaled(self, raw: Floats) -> Floats:
        """Theta from raw coefficients, shape (..., 5)."""
        return self._moved(raw, -1.0)

    def predict(self, theta: Floats) -> Floats:
        """Loss (..., R) for theta (..., 5)."""
        e, a, b, alpha, beta = (theta[..., k, None] for k in range(5))
        terms = a * np.exp(-alpha * self.log_params) + b * np.exp(-beta * self.log_tokens)
        return np.asarray(e + terms)

    def slopes(self, theta: Floats) -> tuple[Floats, Floats]:
        """Loss (p, R) and its derivatives by theta (p, 5, R), for theta (p, 5)."""
        e, a, b, alpha, beta = theta.T[:, :, None]
        jacobian = np.empty((len(theta), 5, self.log_params.size))
        jacobian[:, 0] = 1.0
        jacobian[:, 1] = np.exp(-alpha * self.log_params)
        jacobian[:, 2] = np.exp(-beta * self.log_tokens)
        of_params, of_tokens = a * jacobian[:, 1], b * jacobian[:, 2]
        jacobian[:, 3] = -of_params * self.log_params
        jacobian[:, 4] = -of_tokens * self.log_tokens
        return e + of_params + of_tokens, jacobian

    def log_slopes(self, theta: Floats) -> Floats:
        """Derivatives (5, R) of ln loss by one theta (5,)."""
        loss, jacobian = self.slopes(theta[None])
        return np.asarray(jacobian[0] / loss[0])

    def _moved(self, coefficients: Floats, sign: float) -> Floats:
        out = np.array(coefficients, np.float64)
        out[..., 1] *= np.exp(sign * out[..., 3] * self.log_params_unit)
        out[..., 2] *= np.exp(sign * out[..., 4] * self.log_tokens_unit)
        return out


def solve(
    grid: Grid,
    objective: Objective,
    loss: Floats,
    start: Floats,
    *,
    weight: Floats | None = None,
    tolerance: float = 1e-12,
) -> Solution:
    """Local optima for losses (P, R) from starts (P, 5); `weight` (P, R) is 1 unless given."""
    target = objective.target(loss)

    def residuals(theta: Floats, which: np.typing.NDArray[np.intp]) -> tuple[Floats, Floats]:
        predicted, jacobian = grid.slopes(theta)
        if objective.is_log:
            jacobian /= predicted[:, None, :]
            predicted = np.log(predicted)
        return predicted - target[which], jacobian

    model: Residuals = residuals
    return minimise(
        model,
        start,
        lower=LOWER,
        upper=UPPER,
        weight=np.ones_like(loss) if weight is None else weight,
        delta=objective.delta,
        tolerance=tolerance,
    )


def projected_starts(grid: Grid, loss: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """Best (E, a, b) >= 0 at every pair of grid exponents, by least squares on loss / scale.

    Args:
        grid: the rows, R of them.
        loss: measured losses, shape (P, R).
        scale: what one unit of misfit is worth, shape (R,), shared by all problems.

    Returns:
        theta of shape (P, G, 5) and the sum of squares (P, G), with G = 64 pairs.
    """
    pairs = np.array(list(itertools.product(GRID, GRID)))
    terms = np.stack(
        [
            np.ones((len(pairs), grid.log_params.size)),
            np.exp(-pairs[:, :1] * grid.log_params),
            np.exp(-pairs[:, 1:] * grid.log_tokens),
        ],
        axis=2,
    )
    design, target = terms / scale[:, None], (loss / scale).T
    best = np.full((len(pairs), len(loss)), np.inf)
    linear = np.zeros((len(pairs), 3, len(loss)))
    total = np.sum(target**2, axis=0)
    # A non-negative least-squares answer is the best feasible of the 2^3 - 1 subset answers.
    for size in (1, 2, 3):
        for subset in itertools.combinations(range(3), size):
            q, r = np.linalg.qr(design[:, :, subset])
            along = q.transpose(0, 2, 1) @ target
            part = np.linalg.solve(r, along)
            squares = np.maximum(total - np.sum(along**2, axis=1), 0.0)
            wins = np.all(part >= 0, axis=1) & (squares < best)
            best = np.where(wins, squares, best)
            whole = np.zeros_like(linear)
            whole[:, subset] = part
            linear = np.where(wins[:, None, :], whole, linear)
    exponents = np.broadcast_to(pairs[None], (len(loss), *pairs.shape))
    return np.concatenate([linear.transpose(2, 0, 1), exponents], axis=2), best.T
