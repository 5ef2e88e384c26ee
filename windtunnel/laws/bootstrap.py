"""Resampled coefficients: a two-level parametric bootstrap, or case resampling of trunks.

Two-level: every resample draws from the posterior (`posterior`) which size may be off, how trunk
noise changes with size, and both variances. It then adds new noise for every trunk and branch to
the law that all other sizes give, and fits the law again.

Case: whole trunks are drawn with replacement, within their size where every size has several. At a
nominal .90 this covers far less (alpha on six sizes, six horizons, two seeds;
analysis/coverage.py): rows .34 to .69, trunks within a size .27 to .73. A few trunks do not show
their own spread. Case resampling is kept for comparison.
"""

import dataclasses
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from windtunnel.laws.point_estimate import EXACT, MAX_COSINE, MAX_GRADIENT, Point
from windtunnel.laws.posterior import Layout, Posterior, trunk_sigma
from windtunnel.laws.solver import Solution
from windtunnel.laws.table import Floats

# Numbers of a block of refits: residuals and Jacobians of a block stay in a core's cache.
BLOCK = 160_000


@dataclass(frozen=True, eq=False)
class Resamples:
    """Raw coefficients (count, K), their noise (count, 3), and how many refits did not converge.

    `sigmas` holds (sigma_trunk in the middle of the sizes, sigma_branch, slope of sigma_trunk).
    """

    draws: Floats
    sigmas: Floats
    failed: int

    @classmethod
    def none(cls, coefficients: int) -> "Resamples":
        """No uncertainty computed: empty arrays."""
        return cls(np.empty((0, coefficients)), np.empty((0, 3)), 0)


def resample(
    point: Point, layout: Layout, posterior: Posterior, *, count: int, rng: np.random.Generator
) -> Resamples:
    """Refits of `count` tables drawn from the fitted law and the posterior of its noise."""
    if not count:
        return Resamples.none(point.theta.size)
    drawn = posterior.draw(rng, count)
    theta, weight = _laws(point, layout, drawn.off)
    shared = rng.standard_normal((count, layout.trunk.max() + 1))[:, layout.trunk]
    own = rng.standard_normal((count, point.problem.rows))
    trunk = trunk_sigma(drawn.sigmas[:, None, :], layout.values, layout.span)
    noise = trunk * shared + drawn.sigmas[:, 1:2] * own
    law = point.problem.predict(theta)
    output = law * np.exp(noise) if point.multiplicative else law + noise
    return _collected(point, refit(point, output, weight=weight, start=theta), drawn.sigmas)


def resample_cases(
    point: Point, layout: Layout, posterior: Posterior, *, count: int, rng: np.random.Generator
) -> Resamples:
    """Refits of `count` tables whose trunks are drawn with replacement."""
    if not count:
        return Resamples.none(point.theta.size)
    weight = np.stack([_drawn_weights(layout, rng) for _ in range(count)])
    output = np.broadcast_to(point.problem.output, weight.shape)
    found = refit(point, output, weight=weight)
    return _collected(point, found, posterior.draw(rng, count).sigmas)


def without(point: Point, left_out: NDArray[np.bool_]) -> Point:
    """The optimum of the same objective over all rows but these; residuals of all rows."""
    problem = point.problem
    found = refit(point, problem.output[None], weight=(~left_out)[None].astype(np.float64))
    theta = found.theta[0]
    predicted, measured = problem.predict(theta), problem.output
    residual = measured - predicted
    if point.multiplicative:
        residual = np.log(measured) - np.log(predicted)
    return dataclasses.replace(point, theta=theta, cost=float(found.cost[0]), residual=residual)


def refit(
    point: Point, output: Floats, *, weight: Floats | None = None, start: Floats | None = None
) -> Solution:
    """Optima for outputs (P, R), from two starts each: `start` and the best of the start grid.

    `weight` (P, R) is 1 unless given, `start` (P, K) the point itself. Every optimum is polished to
    the same tolerance as the fit itself.
    """
    count = len(output)
    weights = np.ones_like(output) if weight is None else weight
    starts = np.broadcast_to(point.theta, (count, point.theta.size)) if start is None else start
    blocks = _blocks(count, point.theta.size * point.problem.rows)
    workers = min(os.cpu_count() or 1, 8, len(blocks))

    def one(block: slice) -> Solution:
        return _refit_block(point, output[block], weights[block], starts[block])

    if workers == 1:
        parts = [one(block) for block in blocks]
    else:
        # numpy leaves the interpreter lock while it computes, so threads are enough.
        with ThreadPoolExecutor(workers) as pool:
            parts = list(pool.map(one, blocks))
    return Solution(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("theta", "cost", "gradient_norm", "cosine")
        )
    )


def _laws(point: Point, layout: Layout, off: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """For every entry of `off`: theta (K,) fitted without that size, and the weight of its rows."""
    which, back = np.unique(off, return_inverse=True)
    weight = np.array([np.where(layout.size == size, 0.0, 1.0) for size in which])
    output = np.broadcast_to(point.problem.output, weight.shape)
    theta = refit(point, output, weight=weight).theta
    return theta[back], weight[back]


def _refit_block(point: Point, output: Floats, weight: Floats, start: Floats) -> Solution:
    problem, objective = point.problem, point.objective
    scale = np.abs(problem.predict(point.theta)) if objective.is_log else np.ones(problem.rows)
    starts, squares = problem.projected_starts(output, scale)
    nearest = starts[np.arange(len(output)), np.argmin(squares, axis=1)]
    first = problem.solve(objective, output, start, weight=weight)
    found = first.better(problem.solve(objective, output, nearest, weight=weight))
    astray = ~_settled(found, problem.rows)
    if not astray.any():
        return found
    again = problem.solve_in_logs(
        objective, output[astray], found.theta[astray], weight=weight[astray]
    )
    return found.replaced(astray, found.pick(astray).better(again))


def _blocks(count: int, numbers: int) -> list[slice]:
    size = max(1, BLOCK // max(numbers, 1))
    return [slice(start, start + size) for start in range(0, count, size)]


def _collected(point: Point, found: Solution, sigmas: Floats) -> Resamples:
    failed = int(np.sum(~_settled(found, point.problem.rows)))
    return Resamples(point.problem.raw(found.theta), sigmas, failed)


def _settled(found: Solution, rows: int) -> NDArray[np.bool_]:
    """Which problems are at an optimum."""
    flat = (found.gradient_norm <= MAX_GRADIENT) | (found.cosine <= MAX_COSINE)
    return np.asarray(flat | (found.cost <= EXACT * rows))


def _drawn_weights(layout: Layout, rng: np.random.Generator) -> Floats:
    """How often each row's trunk was drawn, shape (R,)."""
    drawn = np.zeros(layout.trunk.max() + 1)
    for group in _strata(layout):
        np.add.at(drawn, rng.choice(group, group.size), 1)
    return drawn[layout.trunk]


def _strata(layout: Layout) -> Iterator[NDArray[np.intp]]:
    """Trunks of each size, or all trunks at once where some size has only one."""
    groups = [np.unique(layout.trunk[layout.size == s]) for s in np.unique(layout.size)]
    if min(group.size for group in groups) >= 2:
        yield from groups
    else:
        yield np.unique(layout.trunk)
