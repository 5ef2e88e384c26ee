"""Profile intervals: how far a number can be moved before the best fit under it is too bad.

A number is pinned at a value, everything else is fitted again, and the rise of the objective is
judged against chi-square with one degree of freedom, scaled by the residuals (for Huber's objective
the robust drop-in-dispersion test of Hampel et al. 1986). Rows count as independent: where branches
share a trunk the interval is too narrow, and `two-level` is the one to quote.
"""

from collections.abc import Callable

import numpy as np

from windtunnel.laws.interval import Span, beyond_bounds
from windtunnel.laws.point_estimate import Point
from windtunnel.laws.problem import Pin
from windtunnel.laws.table import Floats, Table

# Signed steps in standard errors; a crossing is interpolated between two of them.
REACH = np.concatenate([np.arange(0.25, 4.0, 0.25), np.geomspace(4.0, 200.0, 16)])


FARTHEST = 300.0
"""Of a step in a logarithm, so that a float holds it."""


def intervals(point: Point, table: Table, level: float) -> dict[str, Span]:
    """Intervals of every free coefficient, and of a, b and ratio where the law splits budgets."""
    from scipy.stats import chi2

    limit = float(np.sqrt(chi2.ppf(level, 1)))
    law, raw = point.problem.law, point.problem.raw(point.theta)
    spans = {}
    for name in point.problem.coordinates.free:
        value = float(raw[law.index(name)])
        log = law.bounds[name][0] >= 0 and value > 0
        ends = _profile(point, name, _constant, value, limit, log=log)
        spans[name] = beyond_bounds(ends, law.bounds[name])
    if law.allocates and point.problem.coordinates.trivial and np.all(raw[1:5] > 0):
        spans |= _allocation(point, table, raw, limit)
    return spans


def _allocation(point: Point, table: Table, raw: Floats, limit: float) -> dict[str, Span]:
    """Of the exponent a = beta / (alpha + beta), of b = 1 - a, and of D/N at the largest budget."""
    law, flops = point.problem.law, float(table.budget.max())
    share = float(law.split(raw)[0])

    def beta(values: Floats) -> Pin:
        odds = values / (1 - values)
        return lambda theta, which: theta[:, law.index("alpha")] * odds[which]

    low, high = _profile(point, "beta", beta, share, limit, log=False, within=(0.001, 0.999))
    log_params, log_tokens = law.log_optimum(raw, flops, flop_factor=table.flop_factor)

    def of_ratio(values: Floats) -> Pin:
        # A for a given D/N at `flops`: the optimum has alpha A N^-alpha = beta B D^-beta.
        half = np.log(flops / table.flop_factor) / 2

        def pin(theta: Floats, which: np.typing.NDArray[np.intp]) -> Floats:
            b, alpha, beta = (theta[:, law.index(name)] for name in ("B", "alpha", "beta"))
            log_ratio = np.log(values[which])
            log_n, log_d = half - log_ratio / 2, half + log_ratio / 2
            return np.asarray(beta * b / alpha * np.exp(alpha * log_n - beta * log_d))

        return pin

    ratio = float(np.exp(log_tokens - log_params))
    return {
        "a": (low, high),
        "b": (1 - high, 1 - low),
        "ratio": _profile(point, "A", of_ratio, ratio, limit, log=True),
    }


def _constant(values: Floats) -> Pin:
    return lambda theta, which: values[which] + 0 * theta[:, 0]


def _profile(
    point: Point,
    name: str,
    pin: Callable[[Floats], Pin],
    value: float,
    limit: float,
    *,
    log: bool,
    within: Span | None = None,
) -> Span:
    """Where the signed root of the scaled rise crosses `limit`, on a log or a plain axis."""
    low, high = point.problem.law.bounds[name] if within is None else within
    centre = np.log(value) if log else value
    step = _step(point, pin, name, value, log=log)
    at = centre + step * np.concatenate([-REACH[::-1], REACH])
    values = np.exp(np.clip(at, -700, 700)) if log else at
    inside = (values > low) & (values < high)
    values, at = values[inside], at[inside]
    rise = _root_rise(point, pin(values), name, len(values))
    found = []
    for side, end in ((-1, low), (1, high)):
        chosen = (at - centre) * side > 0
        distance = np.abs(at[chosen] - centre)
        order = np.argsort(distance)
        root = np.maximum.accumulate(rise[chosen][order]) if order.size else np.empty(0)
        if not root.size or root[-1] < limit:
            found.append(float(end))
            continue
        x = np.concatenate([[0.0], distance[order]])
        y = np.concatenate([[0.0], root])
        first = int(np.argmax(y >= limit))
        part = (limit - y[first - 1]) / max(y[first] - y[first - 1], 1e-300)
        edge = centre + side * (x[first - 1] + part * (x[first] - x[first - 1]))
        found.append(float(np.exp(edge)) if log else float(edge))
    return found[0], found[1]


def _step(
    point: Point, pin: Callable[[Floats], Pin], name: str, value: float, *, log: bool
) -> float:
    """A standard error, roughly: where a small move raises the root by about one."""
    step = 1e-3 if log else 1e-3 * max(abs(value), 1e-3)
    for _ in range(12):
        moved = np.array([value * np.exp(min(step, FARTHEST)) if log else value + step])
        rise = float(_root_rise(point, pin(moved), name, 1)[0])
        if 0.3 < rise < 3:
            break
        step *= float(np.clip(1 / max(rise, 1e-3), 0.01, 30))
    return step


def _root_rise(point: Point, pin: Pin, name: str, count: int) -> Floats:
    """Square root of twice the rise of the objective, in units of the residuals' variance."""
    problem, objective = point.problem, point.objective
    held = problem.pinned(**{name: pin})
    output = np.broadcast_to(problem.output, (count, problem.rows))
    start = np.broadcast_to(point.theta, (count, point.theta.size))
    cost = held.solve(objective, output, start).cost
    residual = objective.target(problem.predict(point.theta)) - objective.target(problem.output)
    spare = problem.rows - len(problem.coordinates.free)
    bent = np.minimum(np.abs(residual), objective.delta)
    inside = float(np.mean(np.abs(residual) <= objective.delta))
    variance = float(np.sum(bent**2)) / spare / max(inside, 1 / problem.rows)
    return np.asarray(np.sqrt(np.maximum(2 * (cost - point.cost), 0) / max(variance, 1e-300)))
