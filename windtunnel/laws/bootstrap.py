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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from windtunnel.laws.point_estimate import EXACT, FEW_COEFFICIENTS, MAX_COSINE, MAX_GRADIENT, Point
from windtunnel.laws.posterior import Layout, Posterior, trunk_sigma
from windtunnel.laws.solver import ITERATIONS, Solution, huber
from windtunnel.laws.table import Floats

# Numbers of a block of refits: residuals and Jacobians of a block stay in a core's cache.
BLOCK = 160_000
# Of a law of many coefficients, the best of the start grid is polished only where it may lie in
# another basin: of 500 resamples of data-constrained (182 rows), 92% were downhill, and polishing
# these found a lower optimum in 4, by .13% at most. The few that take over PATIENCE steps are
# polished together in logarithms, not one by one in each block.
PATIENCE = 60


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

    For a law of many coefficients, the second is left out where it lies in the same basin.

    `weight` (P, R) is 1 unless given, `start` (P, K) the point itself. Every optimum is polished to
    the same tolerance as the fit itself.
    """
    count = len(output)
    weights = np.ones_like(output) if weight is None else weight
    starts = np.broadcast_to(point.theta, (count, point.theta.size)) if start is None else start
    found = _in_blocks(
        point,
        np.arange(count),
        lambda rows: _refit_block(point, output[rows], weights[rows], starts[rows]),
    )
    astray = ~_settled(found, point.problem.rows)
    if point.theta.size > FEW_COEFFICIENTS:
        astray |= ~found.finished
    if not astray.any():
        return found
    again = _in_blocks(
        point,
        np.flatnonzero(astray),
        lambda rows: point.problem.solve_in_logs(
            point.objective, output[rows], found.theta[rows], weight=weights[rows]
        ),
    )
    return found.replaced(astray, found.pick(astray).better(again))


def _in_blocks(
    point: Point, rows: NDArray[np.intp], solve: Callable[[NDArray[np.intp]], Solution]
) -> Solution:
    """Solutions of the numbered refits, a block at a time, in as many threads as cores."""
    size = max(1, BLOCK // max(point.theta.size * point.problem.rows, 1))
    blocks = [rows[start : start + size] for start in range(0, rows.size, size)]
    workers = min(os.cpu_count() or 1, 8, len(blocks))
    if workers == 1:
        parts = [solve(block) for block in blocks]
    else:
        # numpy leaves the interpreter lock while it computes, so threads are enough.
        with ThreadPoolExecutor(workers) as pool:
            parts = list(pool.map(solve, blocks))
    return Solution(
        *(
            np.concatenate([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(Solution)
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
    many = point.theta.size > FEW_COEFFICIENTS
    iterations = PATIENCE if many else ITERATIONS

    def solve(rows: NDArray[np.bool_], first: Floats) -> Solution:
        return problem.solve(
            objective, output[rows], first[rows], weight=weight[rows], iterations=iterations
        )

    again = np.ones(len(output), bool)
    found = solve(again, start)
    if many:
        again = ~(_settled(found, problem.rows) & _downhill(point, output, weight, nearest, found))
    if not again.any():
        return found
    return found.replaced(again, found.pick(again).better(solve(again, nearest)))


def _downhill(
    point: Point, output: Floats, weight: Floats, start: Floats, found: Solution
) -> NDArray[np.bool_]:
    """Whether the objective (P,) falls all the way from `start` (P, K) to the optimum found.

    The way is straight, in logarithms of the coefficients that may not be negative. Such a start
    lies in the basin of that optimum, and polishing it would only find it again.
    """
    problem, objective = point.problem, point.objective
    law, target = problem.law, objective.target(output)
    positive = np.array([law.bounds[name][0] == 0 for name in law.names()])
    in_log = positive & (start > 0) & (found.theta > 0)
    ends = [np.where(in_log, np.log(np.where(in_log, e, 1.0)), e) for e in (start, found.theta)]
    costs = []
    for share in np.linspace(0, 1, 5, endpoint=False):
        between = ends[0] + share * (ends[1] - ends[0])
        with np.errstate(all="ignore"):
            predicted = problem.predict(np.where(in_log, np.exp(between), between))
            residual = objective.target(predicted) - target
            costs.append(huber(residual, weight, objective.delta))
    steps = np.diff([*costs, found.cost], axis=0)
    return np.asarray(np.all(steps < 0, axis=0))


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
