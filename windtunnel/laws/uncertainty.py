"""Two-level parametric bootstrap: what else the coefficients could have been.

Every resample draws its own trunk and branch variance from their posterior (`noise`), new noise for
every trunk and branch on top of the fitted law, and fits again. Resampling rows or trunks of so few
instead covers .68 to .93 at a nominal .90 (design.md, decision 8).
"""

from dataclasses import dataclass

import numpy as np

from windtunnel.laws.chinchilla_solver import projected_starts, solve
from windtunnel.laws.noise import Noise
from windtunnel.laws.point import EXACT, MAX_GRADIENT, Point
from windtunnel.laws.runs import Floats, Runs

# Below one degree of freedom between trunks their noise is unknown, and an interval would be a lie.
MIN_TRUNK_DF = 1.0


@dataclass(frozen=True, eq=False)
class Resamples:
    """Raw coefficients (count, 5), sigmas (count, 2), and the share of refits not converged."""

    draws: Floats
    sigmas: Floats
    unconverged: float

    @classmethod
    def none(cls) -> "Resamples":
        """No uncertainty computed: empty arrays."""
        return cls(np.empty((0, 5)), np.empty((0, 2)), 0.0)


def resample(
    runs: Runs, point: Point, noise: Noise, *, count: int, rng: np.random.Generator
) -> Resamples:
    """Refits of `count` tables drawn from the fitted law and its noise.

    None (empty) where the design leaves less than one degree of freedom for trunk noise.
    """
    if not count or noise.trunk_df < MIN_TRUNK_DF:
        return Resamples.none()
    sigmas = noise.draw(rng, count)
    trunk_index = runs.trunk_index
    shared = rng.standard_normal((count, trunk_index.max() + 1))[:, trunk_index]
    own = rng.standard_normal((count, runs.rows))
    law = point.grid.predict(point.theta)
    loss = law * np.exp(sigmas[:, :1] * shared + sigmas[:, 1:] * own)
    theta, unconverged = _refit(point, loss, law)
    return Resamples(point.grid.raw(theta), sigmas, unconverged)


def _refit(point: Point, loss: Floats, law: Floats) -> tuple[Floats, float]:
    """Theta (count, 5) from two starts each: the fit itself and the best of the projected grid."""
    scale = law if point.objective.is_log else np.ones_like(law)
    starts, squares = projected_starts(point.grid, loss, scale)
    count = len(loss)
    nearest = starts[np.arange(count), np.argmin(squares, axis=1)]
    start = np.concatenate([np.broadcast_to(point.theta, (count, 5)), nearest])
    twice = np.concatenate([loss, loss])
    # Objectives settled to 1e-8 leave coefficients far closer than their spread.
    found = solve(point.grid, point.objective, twice, start, tolerance=1e-8)
    second = found.cost[count:] < found.cost[:count]
    theta = np.where(second[:, None], found.theta[count:], found.theta[:count])
    gradient = np.where(second, found.gradient[count:], found.gradient[:count])
    cost = np.minimum(found.cost[:count], found.cost[count:])
    # At a tolerance of 1e-8 a settled gradient is near 1e-4; ten times that has not settled.
    astray = (gradient > 10 * MAX_GRADIENT) & (cost > EXACT * law.size)
    return theta, float(np.mean(astray))
