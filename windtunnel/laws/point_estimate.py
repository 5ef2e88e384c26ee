"""The point estimate: the best coefficients of a law for one table, and how far to trust them.

`require_identified` refuses a table that cannot determine the law. `best_point` searches from every
start and reports convergence and how many starts agree.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from windtunnel.errors import FitError
from windtunnel.laws.forms import Law
from windtunnel.laws.noise import replicates, seed_sigma
from windtunnel.laws.problem import Problem
from windtunnel.laws.solver import Objective, ObjectiveName, Solution
from windtunnel.laws.table import Floats, Table

# Above this, two inputs are one variable and their terms cannot be told apart at all.
MAX_CORRELATION = 0.999
WORDS = {"params": "model sizes", "tokens": "horizons"}


def correlation(law: type[Law], table: Table) -> float | None:
    """Pearson r of the logs of the first two inputs; 1 or -1 means one variable, not two.

    None with one input, or where one of them is the same in every row.
    """
    if len(law.inputs) < 2:
        return None
    first, second = (np.log(table[name]) for name in law.inputs[:2])
    if min(np.ptp(first), np.ptp(second)) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def enough(law: type[Law], table: Table, keep: NDArray[np.bool_], coefficients: int) -> bool:
    """Whether the kept rows still have the distinct values and the rows that the law needs."""
    wide = all(np.unique(table[name][keep]).size >= least for name, least in law.distinct.items())
    return wide and int(keep.sum()) > coefficients


def require_identified(law: type[Law], table: Table, coefficients: int) -> None:
    """Refuse a table that cannot carry a law with so many coefficients, and say what to add.

    Raises:
        FitError: too few rows or distinct values, or two inputs that are one.
    """
    for name, least in law.distinct.items():
        distinct = np.unique(table[name]).size
        if distinct < least:
            words = WORDS.get(name, f"values of {name}")
            raise FitError(
                "too-few-values",
                f"{law.formula} needs at least {least} distinct values of {name}; this table has "
                f"{distinct}: add {least - distinct} or more {words}",
                column=name,
                values=distinct,
                needed=least,
            )
    if table.rows <= coefficients:
        raise FitError(
            "too-few-rows",
            f"{law.formula} has {coefficients} coefficients to fit and needs at least "
            f"{coefficients + 1} rows; this table has {table.rows}: add runs, or fix a coefficient",
            rows=table.rows,
            needed=coefficients + 1,
        )
    r = correlation(law, table)
    if r is not None and abs(r) > MAX_CORRELATION:
        first, second = law.inputs[:2]
        raise FitError(
            "collinear",
            f"ln {first} and ln {second} are one variable in this table (r = {r:.4f}): the two "
            "terms cannot be told apart. Give every size several horizons, and let the smallest "
            "run the longest",
            columns=[first, second],
            correlation=r,
        )


# 95% efficient under normal noise, and deaf to what lies far outside it (Huber 1981).
DELTA_PER_SIGMA = 1.345
# Huber's delta is never below 0.01% of the output: no training noise is smaller.
MIN_RELATIVE_DELTA = 1e-4
# Without seeds to measure one: Hoffmann et al. 2022 (arXiv 2203.15556) equation 3.
PUBLISHED_DELTA = 1e-3
# Below this many replicates their spread says less than the residuals do.
MIN_REPLICATES = 5
AGREEMENT = 1e-6
# A polish of a law of more coefficients costs milliseconds, so fewer starts and refits have one.
FEW_COEFFICIENTS = 6
MAX_GRADIENT = 1e-7
# A cosine this small is what rounding leaves where the gradient itself carries a unit.
MAX_COSINE = 1e-6
# Objectives per row below this are roundoff of an exact fit: there a gradient has no meaning.
EXACT = 1e-20


@dataclass(frozen=True, eq=False)
class Point:
    """The optimum `theta` (scaled, shape (K,)) of `objective` on `problem`, and the search for it.

    `residual` is ln(measured / predicted), or measured - predicted for a law with additive noise.
    """

    problem: Problem
    objective: Objective
    theta: Floats
    cost: float
    gradient_norm: float
    starts: int
    starts_agreeing: int
    moved: bool
    converged: bool
    residual: Floats

    @property
    def exact(self) -> bool:
        """Whether the law leaves nothing over but roundoff, as on a made-up table without noise."""
        return self.cost <= EXACT * self.residual.size

    @property
    def form(self) -> Law:
        """The law in raw units."""
        return self.problem.law.of(self.problem.raw(self.theta))

    @property
    def multiplicative(self) -> bool:
        """Whether noise multiplies the output."""
        return self.problem.law.multiplicative

    @property
    def tangent(self) -> Floats:
        """Derivatives of ln output (or of the output) by the free coefficients, shape (F, R).

        Coefficients at a bound are among them: had the noise been kinder they would have been free,
        and counting them fixed would let luck add a degree of freedom.
        """
        return self.problem.tangent(self.theta, log=self.multiplicative)

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which coefficients lie inside their bounds, shape (K,)."""
        law = self.problem.law
        low, high = np.array([law.bounds[name] for name in law.names()]).T
        margin = 1e-9 * np.maximum(1e-3, np.abs(self.theta))
        return np.asarray((self.theta > low + margin) & (self.theta < high - margin))


def best_point(
    problem: Problem,
    table: Table,
    name: ObjectiveName,
    delta: float | Literal["auto"] | None,
    *,
    known: float | None = None,
) -> Point:
    """The lowest optimum over the start grid of `problem`.

    `delta` is a number, `auto` (1.345 sigma, measured), or None: `auto` where seeds measure the
    noise, or it is `known`, else 1e-3 of ln loss as Hoffmann et al.
    """
    objective = Objective(name)
    if not objective.is_huber:
        if delta not in (None, "auto"):
            raise FitError(
                "contradicting-options",
                f"delta = {delta} given, but objective {name!r} has none: leave it out",
                options=["delta", "objective"],
                objective=name,
            )
        return search(problem, objective)
    sigma = _seeds(problem, table)
    if sigma is None:
        sigma = known
    if delta is None and objective.is_log and sigma is None:
        delta = PUBLISHED_DELTA
    if delta is None or isinstance(delta, str):
        return _with_measured_delta(problem, sigma, name)
    return search(problem, Objective(name, delta))


def search(problem: Problem, objective: Objective) -> Point:
    """The lowest optimum from every start; from the best of very many, where most of these agree.

    Raises:
        FitError: no start gives finite residuals.
    """
    output = problem.output
    scale = np.abs(output) if objective.is_log else np.ones(problem.rows)
    theta, squares = (each[0] for each in problem.projected_starts(output[None], scale))
    starts = problem.coordinates.expand(theta[:, problem.coordinates.places], np.arange(0))
    found = None
    if len(problem.law.names()) > FEW_COEFFICIENTS:
        nearest = np.argsort(squares, kind="stable")[: len(starts) // 4]
        found = _polished(problem, objective, starts[nearest])
        if 2 * _agreeing(found, problem.rows) > nearest.size:
            starts = starts[nearest]
        else:
            found = None
    if found is None:
        found = _polished(problem, objective, starts)
    if not np.isfinite(found.cost).any():
        raise FitError(
            "not-finite",
            f"{problem.law.name}: no start gives finite residuals. Look for values of the wrong "
            "sign or unit",
            law=problem.law.name,
        )
    best = int(np.argmin(found.cost))
    theta, cost = found.theta[best], float(found.cost[best])
    exact = cost <= EXACT * problem.rows
    # An exact table may be hit by a start; elsewhere an answer equal to one is no answer.
    moved = exact or not bool(np.any(np.all(theta == starts, axis=1)))
    flat = found.gradient_norm[best] <= MAX_GRADIENT or found.cosine[best] <= MAX_COSINE
    predicted = problem.predict(theta)
    multiplicative = problem.law.multiplicative
    return Point(
        problem=problem,
        objective=objective,
        theta=theta,
        cost=cost,
        gradient_norm=float(found.gradient_norm[best]),
        starts=len(starts),
        starts_agreeing=_agreeing(found, problem.rows),
        moved=moved,
        converged=moved and (exact or bool(flat)),
        residual=np.log(output) - np.log(predicted) if multiplicative else output - predicted,
    )


def _polished(problem: Problem, objective: Objective, starts: Floats) -> Solution:
    outputs = np.broadcast_to(problem.output, (len(starts), problem.rows))
    found = problem.solve(objective, outputs, starts)
    return found.better(problem.solve_in_logs(objective, outputs, found.theta))


def _agreeing(found: Solution, rows: int) -> int:
    """How many starts reached the lowest optimum."""
    return int(np.sum(found.cost <= found.cost.min() * (1 + AGREEMENT) + EXACT * rows))


def _seeds(problem: Problem, table: Table) -> float | None:
    """Seed noise, where enough replicates measure it."""
    law = problem.law
    output = np.log(problem.output) if law.multiplicative else problem.output
    cells = table.cells(*law.inputs)
    if replicates(cells, table.trunk_index) < MIN_REPLICATES:
        return None
    return seed_sigma(output, cells, table.trunk_index, robust=True)


def _with_measured_delta(problem: Problem, sigma: float | None, name: ObjectiveName) -> Point:
    """Delta = 1.345 sigma, which seeds have measured, or else from residuals, twice."""
    level = float(np.median(np.abs(problem.output)))
    # What turns the law's noise (of ln output, or of output) into the residual's unit.
    unit = 1.0
    if problem.law.multiplicative != Objective(name).is_log:
        unit = level if problem.law.multiplicative else 1 / level
    smallest = MIN_RELATIVE_DELTA * (1.0 if Objective(name).is_log else level)
    if sigma is not None:
        return search(problem, Objective(name, max(DELTA_PER_SIGMA * sigma * unit, smallest)))
    point = search(problem, Objective(name))
    spare = max(problem.rows - len(problem.coordinates.free), 1)
    for _ in range(2):
        target = point.objective.target
        residual = target(problem.predict(point.theta)) - target(problem.output)
        spread = 1.4826 * float(np.median(np.abs(residual))) * np.sqrt(problem.rows / spare)
        point = search(problem, Objective(name, max(DELTA_PER_SIGMA * spread, smallest)))
    return point
