"""What else the coefficients could have been: a two-level parametric bootstrap, or case resampling.

Two-level: every resample draws its own trunk and branch variance from their posterior (`noise`),
new noise for every trunk and branch on top of the fitted law, and fits again. Case: whole trunks
are drawn with replacement, within their size where every size has several. Resampling so few rows
or trunks covers .68 to .93 at a nominal .90 (design.md, decision 8): it is here to compare with.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from windtunnel.laws.noise import Noise
from windtunnel.laws.solver.least_squares import Solution
from windtunnel.laws.solver.point import EXACT, MAX_COSINE, MAX_GRADIENT, Point
from windtunnel.laws.table import Floats

# Below one degree of freedom between trunks their noise is unknown, and an interval would be a lie.
MIN_TRUNK_DF = 1.0
# Numbers of a block of refits: residuals and Jacobians of a block stay in a core's cache.
BLOCK = 160_000


@dataclass(frozen=True, eq=False)
class Resamples:
    """Raw coefficients (count, K), sigmas (count, 2), and how many refits did not converge."""

    draws: Floats
    sigmas: Floats
    failed: int

    @classmethod
    def none(cls, coefficients: int) -> "Resamples":
        """No uncertainty computed: empty arrays."""
        return cls(np.empty((0, coefficients)), np.empty((0, 2)), 0)


def resample(
    point: Point,
    noise: Noise,
    trunk_index: NDArray[np.intp],
    *,
    count: int,
    rng: np.random.Generator,
) -> Resamples:
    """Refits of `count` tables drawn from the fitted law and its noise.

    None (empty) where the design leaves less than one degree of freedom for trunk noise.
    """
    problem = point.problem
    if not count or noise.trunk_df < MIN_TRUNK_DF:
        return Resamples.none(point.theta.size)
    sigmas = noise.draw(rng, count)
    shared = rng.standard_normal((count, trunk_index.max() + 1))[:, trunk_index]
    own = rng.standard_normal((count, problem.rows))
    law = problem.predict(point.theta)
    drawn = sigmas[:, :1] * shared + sigmas[:, 1:] * own
    output = law * np.exp(drawn) if point.multiplicative else law + drawn
    return _collected(point, refit(point, output), sigmas)


def resample_cases(
    point: Point,
    noise: Noise,
    trunk_index: NDArray[np.intp],
    size_index: NDArray[np.intp],
    *,
    count: int,
    rng: np.random.Generator,
) -> Resamples:
    """Refits of `count` tables whose trunks are drawn with replacement."""
    if not count:
        return Resamples.none(point.theta.size)
    weight = np.stack([_drawn_weights(trunk_index, size_index, rng) for _ in range(count)])
    output = np.broadcast_to(point.problem.output, weight.shape)
    return _collected(point, refit(point, output, weight=weight), noise.draw(rng, count))


def refit(point: Point, output: Floats, *, weight: Floats | None = None) -> Solution:
    """Optima for outputs (P, R), from two starts each: the fit and the best of the start grid.

    Every one is polished to the same tolerance as the fit itself.
    """
    blocks = _blocks(len(output), point.theta.size * point.problem.rows)
    workers = min(os.cpu_count() or 1, 8, len(blocks))

    def one(block: slice) -> Solution:
        return _refit_block(point, output[block], None if weight is None else weight[block])

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


def _refit_block(point: Point, output: Floats, weight: Floats | None) -> Solution:
    problem, objective = point.problem, point.objective
    scale = np.abs(problem.predict(point.theta)) if objective.is_log else np.ones(problem.rows)
    count = len(output)
    from_fit = np.broadcast_to(point.theta, (count, point.theta.size))
    first = problem.solve(objective, output, from_fit, weight=weight)
    if weight is not None:
        return first
    starts, squares = problem.projected_starts(output, scale)
    nearest = starts[np.arange(count), np.argmin(squares, axis=1)]
    second = problem.solve(objective, output, nearest)
    return first.better(second)


def _blocks(count: int, numbers: int) -> list[slice]:
    size = max(1, BLOCK // max(numbers, 1))
    return [slice(start, start + size) for start in range(0, count, size)]


def _collected(point: Point, found: Solution, sigmas: Floats) -> Resamples:
    flat = (found.gradient_norm <= MAX_GRADIENT) | (found.cosine <= MAX_COSINE)
    good = flat | (found.cost <= EXACT * point.problem.rows)
    return Resamples(point.problem.raw(found.theta), sigmas, int(np.sum(~good)))


def _drawn_weights(
    trunk_index: NDArray[np.intp], size_index: NDArray[np.intp], rng: np.random.Generator
) -> Floats:
    """How often each row's trunk was drawn, shape (R,)."""
    drawn = np.zeros(trunk_index.max() + 1)
    for group in _strata(trunk_index, size_index):
        np.add.at(drawn, rng.choice(group, group.size), 1)
    return drawn[trunk_index]


def _strata(
    trunk_index: NDArray[np.intp], size_index: NDArray[np.intp]
) -> Iterator[NDArray[np.intp]]:
    """Trunks of each size, or all trunks at once where some size has only one."""
    groups = [np.unique(trunk_index[size_index == s]) for s in np.unique(size_index)]
    if min(group.size for group in groups) >= 2:
        yield from groups
    else:
        yield np.unique(trunk_index)
