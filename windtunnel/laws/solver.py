"""Batched robust least squares in a box, by damped Gauss-Newton steps.

The objective of every problem is sum_i w_i rho(r_i), with rho(r) = r^2/2 up to |r| = delta and
delta (|r| - delta/2) beyond (Huber). It is the sum, never the mean: averaging divides the gradient
by the number of rows and stops an optimiser early (Besiroglu et al. 2024, arXiv 2404.10102,
section 4).

P problems, K coefficients, R rows. All P problems are stepped together, so a thousand bootstrap
resamples cost about as much as arithmetic on a thousand times fifty rows, not a thousand optimiser
calls.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from windtunnel.errors import FitError, did_you_mean
from windtunnel.laws.table import Floats

ObjectiveName = Literal["huber-log", "mse-log", "mse", "huber"]
OBJECTIVES: tuple[ObjectiveName, ...] = ("huber-log", "mse-log", "mse", "huber")


@dataclass(frozen=True)
class Objective:
    """Sum of Huber(residual, delta) over rows: r^2/2 up to delta, delta (|r| - delta/2) beyond.

    The residual is ln(predicted) - ln(measured) for the `-log` objectives, predicted - measured
    otherwise; `delta` is in the same unit, and infinite for least squares.
    """

    name: ObjectiveName
    delta: float = np.inf

    def __post_init__(self) -> None:
        if self.name not in OBJECTIVES:
            raise FitError(
                "unknown-value",
                f"objective = {self.name!r}: one of {', '.join(OBJECTIVES)}"
                + did_you_mean(str(self.name), OBJECTIVES),
                option="objective",
                value=self.name,
                known=list(OBJECTIVES),
            )
        if not self.delta > 0:
            raise FitError(
                "out-of-range",
                f"delta = {self.delta}: must be above 0, in the unit of the residual",
                option="delta",
                value=self.delta,
                above=0,
            )

    @property
    def is_log(self) -> bool:
        """Whether residuals are differences of logarithms."""
        return self.name.endswith("-log")

    @property
    def is_huber(self) -> bool:
        """Whether large residuals count linearly."""
        return self.name.startswith("huber")

    def target(self, output: Floats) -> Floats:
        """The measured side of the residual."""
        return np.log(output) if self.is_log else output


# theta (p, K) and the numbers of the p problems -> residuals (p, R) and their Jacobian (p, K, R)
Residuals = Callable[[Floats, NDArray[np.intp]], tuple[Floats, Floats]]

ITERATIONS = 300
DAMPING_START, DAMPING_MIN, DAMPING_STUCK = 1e-3, 1e-12, 1e12
# A step is trusted as a convergence test only when damping no longer shortens it.
DAMPING_SETTLED = 1e-6


@dataclass(frozen=True, eq=False)
class Solution:
    """Coefficients (P, K), objective (P,), and the projected gradient in two forms, both (P,).

    `gradient_norm` is its length. `cosine` is free of every scale: the largest cosine between the
    weighted residual and a free Jacobian row, as in MINPACK's gtol: 0 at an optimum, 1 when a
    single coefficient could explain all that is left. `finished` (P,) is false where the steps ran
    out first.
    """

    theta: Floats
    cost: Floats
    gradient_norm: Floats
    cosine: Floats
    finished: NDArray[np.bool_]

    def pick(self, which: NDArray[np.bool_]) -> "Solution":
        """Some of the problems."""
        return Solution(*(getattr(self, f.name)[which] for f in dataclasses.fields(self)))

    def replaced(self, which: NDArray[np.bool_], other: "Solution") -> "Solution":
        """These problems with `other` in the places where `which` is true."""
        columns = []
        for f in dataclasses.fields(self):
            column = getattr(self, f.name).copy()
            column[which] = getattr(other, f.name)
            columns.append(column)
        return Solution(*columns)

    def better(self, other: "Solution") -> "Solution":
        """Of each problem the solution with the lower objective; this one where they are equal."""
        lower = other.cost < self.cost
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self))
        return Solution(
            *(np.where(lower[:, None] if a.ndim > 1 else lower, b, a) for a, b in pairs)
        )


def huber(residual: Floats, weight: Floats, delta: float) -> Floats:
    """Sum over the last axis of weight * rho(residual); delta = inf gives least squares."""
    size = np.abs(residual)
    inside = np.minimum(size, delta)
    return np.asarray(np.sum(weight * inside * (size - inside / 2), axis=-1))


def minimise(
    residuals: Residuals,
    start: Floats,
    *,
    lower: Floats,
    upper: Floats,
    weight: Floats,
    delta: float,
    tolerance: float = 1e-12,
    iterations: int = ITERATIONS,
) -> Solution:
    """Local optima from `start` (P, K) inside [lower, upper] (K,), with `weight` (P, R).

    A problem stops when a full step promises to lower its objective by less than `tolerance` of it.
    """
    theta = np.clip(start, lower, upper)
    live = np.arange(len(theta))
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        now = _State.at(residuals, theta, live, weight, delta)
        ones = np.ones(len(theta))
        finished = np.zeros(len(theta), bool)
        out = Solution(theta.copy(), now.cost.copy(), ones, ones.copy(), finished)
        damping = np.full(len(theta), DAMPING_START)
        for left in range(iterations, 0, -1):
            gradient, hessian, free = now.slopes(lower, upper, delta, damping)
            step = _step(gradient, hessian, free, damping)
            trial = np.clip(now.theta + step, lower, upper)
            promised = -np.sum(gradient * (trial - now.theta) * free, axis=1)
            settled = (promised <= tolerance * now.cost) & (damping <= DAMPING_SETTLED)
            done = settled | (damping >= DAMPING_STUCK) | (now.cost <= np.finfo(float).tiny)
            out.theta[now.live], out.cost[now.live] = now.theta, now.cost
            out.gradient_norm[now.live] = np.linalg.norm(gradient * free, axis=1)
            out.finished[now.live[done]] = True
            last = done | (left == 1)
            if last.any():
                out.cosine[now.live[last]] = now.pick(last).cosine(
                    gradient[last], free[last], delta
                )
            now, trial, damping = now.pick(~done), trial[~done], damping[~done]
            if not len(now.live):
                break
            after = _State.at(residuals, trial, now.live, weight, delta)
            better = after.cost < now.cost
            now = now.replaced(after, better)
            damping = np.where(better, np.maximum(damping * 0.1, DAMPING_MIN), damping * 8)
    return out


@dataclass(eq=False)
class _State:
    """The problems still running: their numbers, coefficients, objective, residuals, slopes."""

    live: NDArray[np.intp]
    theta: Floats
    weight: Floats
    residual: Floats
    jacobian: Floats
    cost: Floats

    @classmethod
    def at(
        cls,
        residuals: Residuals,
        theta: Floats,
        live: NDArray[np.intp],
        weight: Floats,
        delta: float,
    ) -> "_State":
        residual, jacobian = residuals(theta, live)
        cost = huber(residual, weight[live], delta)
        cost = np.where(np.isfinite(cost), cost, np.inf)
        return cls(live, theta, weight[live], residual, jacobian, cost)

    def slopes(
        self, lower: Floats, upper: Floats, delta: float, damping: Floats
    ) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Gradient (p, K), curvature (p, K, K), and which coefficients are free.

        A row beyond delta has no curvature. Counting it as the quadratic that touches rho from
        above never climbs but creeps (hundreds of steps where most rows are outliers); so that
        share fades with the damping, and near the optimum the step is Newton's.
        """
        outlying = np.minimum(1.0, delta / np.abs(self.residual))
        pulls = self.weight * outlying
        fade = np.minimum(1.0, damping / DAMPING_START)[:, None]
        bends = np.where(outlying < 1.0, pulls * fade, self.weight)
        gradient = (self.jacobian @ (pulls * self.residual)[:, :, None])[:, :, 0]
        hessian = (self.jacobian * bends[:, None, :]) @ self.jacobian.transpose(0, 2, 1)
        outward = np.where(gradient > 0, self.theta <= lower, self.theta >= upper)
        return gradient, hessian, ~outward

    def cosine(self, gradient: Floats, free: NDArray[np.bool_], delta: float) -> Floats:
        """The largest cosine (p,) between the weighted residual and a free Jacobian row."""
        pulls = self.weight * np.minimum(1.0, delta / np.abs(self.residual))
        energy = np.sum(pulls * self.residual**2, axis=1)[:, None]
        squares = np.einsum("pkr,pr->pk", self.jacobian**2, pulls)
        scale = np.sqrt(squares * energy)
        cosine = np.divide(np.abs(gradient), scale, out=np.zeros_like(scale), where=scale > 0)
        return np.asarray(np.max(cosine * free, axis=1))

    def pick(self, keep: NDArray[np.bool_]) -> "_State":
        return self if keep.all() else _State(*(field[keep] for field in self._fields()))

    def replaced(self, other: "_State", where: NDArray[np.bool_]) -> "_State":
        if where.all():
            return other
        pairs = zip(self._fields(), other._fields(), strict=True)
        return _State(*(np.where(where.reshape(-1, *[1] * (a.ndim - 1)), b, a) for a, b in pairs))

    def _fields(self) -> tuple[Any, ...]:
        return self.live, self.theta, self.weight, self.residual, self.jacobian, self.cost


def _step(gradient: Floats, hessian: Floats, free: NDArray[np.bool_], damping: Floats) -> Floats:
    """Levenberg-Marquardt step (p, K); a coefficient held at its bound does not move."""
    both = free[:, :, None] & free[:, None, :]
    matrix = np.where(both, hessian, 0.0)
    diagonal = np.einsum("pkk->pk", matrix)
    # The tiny ridge keeps a coefficient without any effect (a term that is zero) solvable.
    ridge = 1e-14 * np.max(diagonal, axis=1, keepdims=True) + np.finfo(float).tiny
    bump = np.where(free, damping[:, None] * diagonal + ridge, 1.0)
    matrix = matrix + bump[:, :, None] * np.eye(matrix.shape[-1])
    return np.asarray(np.linalg.solve(matrix, np.where(free, -gradient, 0.0)[:, :, None])[:, :, 0])
