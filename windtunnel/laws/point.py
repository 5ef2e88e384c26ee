"""The best coefficients of L(N, D) for one table, and how far to believe that they are the best."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from windtunnel.errors import FitError
from windtunnel.laws.chinchilla import Chinchilla
from windtunnel.laws.chinchilla_solver import (
    LOWER,
    UPPER,
    Grid,
    Objective,
    ObjectiveName,
    projected_starts,
    solve,
)
from windtunnel.laws.noise import seed_sigma
from windtunnel.laws.runs import Floats, Runs

# 95% efficient under normal noise, and deaf to what lies far outside it (Huber 1981).
DELTA_PER_SIGMA = 1.345
# Huber's delta is never below 0.01% of the loss: no training noise is smaller.
MIN_RELATIVE_DELTA = 1e-4
# Below this many replicates their spread says less than the residuals do.
MIN_REPLICATES = 5
AGREEMENT = 1e-6
MAX_GRADIENT = 1e-4
# Objectives per row below this are roundoff of an exact fit: there a gradient has no meaning.
EXACT = 1e-20


@dataclass(frozen=True, eq=False)
class Point:
    """The optimum `theta` (scaled, shape (5,)) of `objective` on `grid`, and the search for it."""

    grid: Grid
    objective: Objective
    theta: Floats
    cost: float
    gradient: float
    starts: int
    starts_agreeing: int
    converged: bool
    residual: Floats

    @property
    def exact(self) -> bool:
        """Whether the law leaves nothing over but roundoff, as on a made-up table without noise."""
        return self.cost <= EXACT * self.residual.size

    @property
    def form(self) -> Chinchilla:
        """The law in raw units."""
        return Chinchilla(*self.grid.raw(self.theta).tolist())

    @property
    def tangent(self) -> Floats:
        """Derivatives of ln loss by all five coefficients, shape (5, R).

        Coefficients at a bound are among them: had the noise been kinder they would have been free,
        and counting them fixed would let luck add a degree of freedom.
        """
        return self.grid.log_slopes(self.theta)

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which of E, a, b, alpha, beta lie inside their bounds, shape (5,)."""
        margin = 1e-9
        return np.asarray((self.theta > LOWER + margin) & (self.theta < UPPER - margin))


def best_point(runs: Runs, name: ObjectiveName, delta: float | None) -> Point:
    """The lowest optimum over 64 starts; for the Huber objectives `delta` is measured if None."""
    objective = Objective(name)
    if not objective.is_huber:
        if delta is not None:
            raise FitError(f"delta = {delta} given, but objective {name!r} has none: leave it out")
        return _search(runs, objective)
    if delta is not None:
        return _search(runs, Objective(name, delta))
    return _with_measured_delta(runs, name)


def _with_measured_delta(runs: Runs, name: ObjectiveName) -> Point:
    """Delta = 1.345 sigma, from seed replicates or else from residuals, twice."""
    scale = 1.0 if Objective(name).is_log else float(np.median(runs.loss))
    smallest = MIN_RELATIVE_DELTA * scale
    sigma = seed_sigma(runs)
    if sigma is not None and np.sum(runs.seeds - 1) >= MIN_REPLICATES:
        return _search(runs, Objective(name, max(DELTA_PER_SIGMA * sigma * scale, smallest)))
    point = _search(runs, Objective(name))
    for _ in range(2):
        residual = point.objective.target(point.form.predict(runs.params, runs.tokens))
        residual = residual - point.objective.target(runs.loss)
        spread = 1.4826 * float(np.median(np.abs(residual))) * np.sqrt(runs.rows / (runs.rows - 5))
        point = _search(runs, Objective(name, max(DELTA_PER_SIGMA * spread, smallest)))
    return point


def _search(runs: Runs, objective: Objective) -> Point:
    grid = Grid.of(runs.params, runs.tokens)
    scale = runs.loss if objective.is_log else np.ones(runs.rows)
    starts = projected_starts(grid, runs.loss[None], scale)[0][0]
    losses = np.broadcast_to(runs.loss, (len(starts), runs.rows))
    found = solve(grid, objective, losses, starts)
    best = int(np.argmin(found.cost))
    theta, cost, gradient = found.theta[best], float(found.cost[best]), float(found.gradient[best])
    exact = cost <= EXACT * runs.rows
    if not exact and np.any(np.all(theta == starts, axis=1)):
        raise FitError(
            "the optimiser returned one of its start points: it did not move, so this is no fit. "
            "Check the table for a constant column or losses in another unit"
        )
    return Point(
        grid=grid,
        objective=objective,
        theta=theta,
        cost=cost,
        gradient=gradient,
        starts=len(starts),
        starts_agreeing=int(np.sum(found.cost <= cost * (1 + AGREEMENT) + EXACT * runs.rows)),
        converged=exact or gradient <= MAX_GRADIENT,
        residual=np.log(runs.loss) - np.log(grid.predict(theta)),
    )
