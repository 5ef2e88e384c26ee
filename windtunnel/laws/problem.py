"""One law on one table, scaled, with its free coefficients, ready to be fitted many times at once.

`Coordinates` maps the free coefficients to all of them: some are fixed, some tied, some pinned for
a profile. Arrays are of the scaled problem (inputs divided by `units`); values from the user are
raw.

For given exponents the other coefficients enter linearly, so their best values have a closed form
(variable projection, Golub and Pereyra 1973; for L(N, D) arXiv 2603.22339). This gives a start at
every point of a grid of exponents; `solver.minimise` then lowers the real objective.

Inputs are divided by their geometric means. The coefficients of L(N, D) are then the size of a
loss, and the normal equations of a 5 x 5 design have condition number 2e4 instead of 2e11
(measured). `theta` is always the scaled coefficients in the order of `law.names()`.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windtunnel.errors import FitError
from windtunnel.laws.forms import STEP, Law
from windtunnel.laws.solver import ITERATIONS, Objective, Solution, minimise
from windtunnel.laws.table import Floats, Table

# All coefficients (p, K), raw, and the problems' numbers -> the same with one of them recomputed
Pin = Callable[[Any, NDArray[np.intp]], Any]


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The map from free coefficients (p, F) to all of them (p, K).

    Attributes:
        fixed: raw values that stay, by name.
        tied: name -> the coefficient that it equals, raw.
        pinned: name -> its raw value as a function of the other coefficients.
    """

    law: type[Law]
    units: Floats
    fixed: Mapping[str, float] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    pinned: Mapping[str, Pin] = field(default_factory=dict)

    def __post_init__(self) -> None:
        law = self.law
        for name in (*self.fixed, *self.tied, *self.tied.values(), *self.pinned):
            law.index(name)
        for name, value in self.fixed.items():
            low, high = law.bounds[name]
            if not low <= value <= high:
                raise FitError(
                    "out-of-range",
                    f"fix {name}={value:g}: allowed from {low:g} to {high:g}",
                    coefficient=name,
                    value=value,
                    low=low,
                    high=high,
                )
        twice = set(self.tied) & (set(self.fixed) | set(self.tied.values()))
        if twice:
            raise FitError(
                "contradicting-options",
                f"{min(twice)} is both tied and fixed, or tied twice: keep one of them",
                options=["fix", "tie"],
                coefficient=min(twice),
            )
        if not self.free:
            raise FitError(
                "nothing-to-fit",
                f"no coefficient of {law.name} is left to fit: fix fewer, or judge the law with "
                "evaluate",
                law=law.name,
            )

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the coefficients that move, in the law's order."""
        held = {*self.fixed, *self.tied, *self.pinned}
        return tuple(name for name in self.law.names() if name not in held)

    @property
    def trivial(self) -> bool:
        """Whether every coefficient moves."""
        return len(self.free) == len(self.law.names())

    @property
    def places(self) -> NDArray[np.intp]:
        """Positions of the free coefficients among all."""
        return np.array([self.law.index(name) for name in self.free])

    def bounds(self) -> tuple[Floats, Floats]:
        """Lower and upper bounds (F,) of the free ones."""
        pairs = np.array([self.law.bounds[name] for name in self.free])
        return pairs[:, 0], pairs[:, 1]

    def expand(self, free: Any, which: NDArray[np.intp]) -> Any:
        """All coefficients (p, K) from the free ones (p, F); complex in, complex out."""
        if self.trivial:
            return free
        law, units = self.law, self.units
        theta = np.zeros((len(free), len(law.names())), free.dtype)
        theta[:, self.places] = free
        # Exponents first: the unit of a coefficient with a scale depends on them.
        for name in sorted((*self.fixed, *self.tied), key=law.unit_rank):
            raw: Any = self.fixed.get(name)
            if raw is None:
                raw = law.raw_value(self.tied[name], theta, units)
            theta[:, law.index(name)] = law.scaled_value(name, raw, theta, units)
        for name, pin in self.pinned.items():
            raw_theta = np.array(theta)
            for scaled in filter(law.unit_rank, law.names()):
                raw_theta[:, law.index(scaled)] = law.raw_value(scaled, theta, units)
            pinned = pin(raw_theta, which)
            theta[:, law.index(name)] = law.scaled_value(name, pinned, theta, units)
        return theta

    def slopes(self, free: Floats, which: NDArray[np.intp]) -> Floats:
        """Derivatives (p, K, F) of `expand`, by complex steps."""
        columns = []
        for k in range(free.shape[1]):
            stepped = free.astype(np.complex128)
            stepped[:, k] += 1j * STEP
            columns.append(self.expand(stepped, which).imag / STEP)
        return np.stack(columns, axis=2)


# Stands for a weight of 0 where its logarithm is taken.
TINY = 1e-300


@dataclass(frozen=True, eq=False)
class Problem:
    """R rows of a table as a law reads them: scaled `inputs` (I, R) and `output` (R,)."""

    law: type[Law]
    inputs: Floats
    output: Floats
    coordinates: Coordinates

    @classmethod
    def of(
        cls,
        law: type[Law],
        table: Table,
        *,
        fixed: Mapping[str, float] | None = None,
        tied: Mapping[str, str] | None = None,
    ) -> "Problem":
        """The scaled problem.

        Raises:
            FitError: a column is missing or holds what the law cannot take; an unknown coefficient.
        """
        columns = {name: table[name] for name in law.inputs}
        law.check(columns, table[law.output])
        raw = np.stack(list(columns.values()))
        units = law.units(raw)
        coordinates = Coordinates(law, units, fixed or {}, tied or {})
        return cls(law, raw / units[:, None], table[law.output], coordinates)

    @property
    def units(self) -> Floats:
        """What each input was divided by, shape (I,)."""
        return self.coordinates.units

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.output.size

    def pinned(self, **pins: Pin) -> "Problem":
        """The same problem with further coefficients computed from the others."""
        old = self.coordinates
        held = Coordinates(old.law, old.units, old.fixed, old.tied, {**old.pinned, **pins})
        return Problem(self.law, self.inputs, self.output, held)

    def raw(self, theta: Floats) -> Floats:
        """Coefficients (..., K) in raw units."""
        return self.law.in_units(theta, 1 / self.units)

    def predict(self, theta: Floats) -> Floats:
        """Outputs (p, R) for theta (p, K), or (R,) for (K,)."""
        return self.law.values(theta, self.inputs)

    def tangent(self, theta: Floats, *, log: bool) -> Floats:
        """Derivatives (F, R) of the output, or of its logarithm, by the free coefficients."""
        value, jacobian = self._slopes(theta[None, self.coordinates.places], np.zeros(1, np.intp))
        return np.asarray(jacobian[0] / value[0] if log else jacobian[0])

    def solve(
        self,
        objective: Objective,
        output: Floats,
        start: Floats,
        *,
        weight: Floats | None = None,
        tolerance: float = 1e-12,
        iterations: int = ITERATIONS,
    ) -> Solution:
        """Local optima theta (P, K) for outputs (P, R) from starts (P, K); None: weight 1."""
        target = objective.target(output)

        def residuals(free: Floats, which: NDArray[np.intp]) -> tuple[Floats, Floats]:
            value, jacobian = self._slopes(free, which)
            if objective.is_log:
                jacobian /= value[:, None, :]
                value = np.log(value)
            return value - target[which], jacobian

        lower, upper = self.coordinates.bounds()
        found = minimise(
            residuals,
            np.asarray(start)[:, self.coordinates.places],
            lower=lower,
            upper=upper,
            weight=np.ones_like(output) if weight is None else weight,
            delta=objective.delta,
            tolerance=tolerance,
            iterations=iterations,
        )
        whole = self.coordinates.expand(found.theta, np.arange(len(output)))
        return dataclasses.replace(found, theta=np.asarray(whole))

    def solve_in_logs(
        self,
        objective: Objective,
        output: Floats,
        start: Floats,
        *,
        weight: Floats | None = None,
    ) -> Solution:
        """As `solve`, over the logarithms of the coefficients that may not be negative.

        Where an exponent is large, its term matters to few rows and its weight must follow the
        exponent over many decades: a curved valley in the weight, a straight one in its logarithm.
        A weight of 0 stays where it is. Gradients reported are those of `solve`.
        """
        places = self.coordinates.places
        lower, upper = self.coordinates.bounds()
        in_log = lower == 0
        target = objective.target(output)

        def plain(moved: Floats) -> Floats:
            return np.where(in_log, np.exp(np.where(in_log, moved, 0.0)), moved)

        def residuals(moved: Floats, which: NDArray[np.intp]) -> tuple[Floats, Floats]:
            free = plain(moved)
            value, jacobian = self._slopes(free, which)
            jacobian = jacobian * np.where(in_log, free, 1.0)[:, :, None]
            if objective.is_log:
                jacobian, value = jacobian / value[:, None, :], np.log(value)
            return value - target[which], jacobian

        first = np.asarray(start)[:, places]
        moved = np.where(in_log, np.log(np.maximum(first, TINY)), first)
        found = minimise(
            residuals,
            moved,
            lower=np.where(in_log, -np.inf, lower),
            upper=np.where(in_log, np.inf, upper),
            weight=np.ones_like(output) if weight is None else weight,
            delta=objective.delta,
        )
        free = plain(found.theta)
        free = np.where(in_log & (free <= np.sqrt(TINY)), 0.0, free)
        whole = np.asarray(self.coordinates.expand(free, np.arange(len(output))))
        return self.solve(objective, output, whole, weight=weight)

    def projected_starts(self, output: Floats, scale: Floats) -> tuple[Floats, Floats]:
        """Best linear coefficients, in their bounds, at every point of the law's start grid.

        Args:
            output: measured outputs, shape (P, R).
            scale: what one unit of misfit is worth, shape (R,), shared by all problems.

        Returns:
            theta of shape (P, G, K) and the sum of squares (P, G). Fixed and tied coefficients are
            not yet in force: `solve` starts from the free part alone.
        """
        if self.law.separable is not None:
            simpler = dataclasses.replace(self, law=self.law.separable)
            theta, squares = simpler.projected_starts(output, scale)
            lifted = self.law.lifted(theta)
            return lifted, np.tile(squares, lifted.shape[1] // squares.shape[1])
        law, grid = self.law, self.law.start_grid()
        names = law.linear()
        theta = np.zeros((len(grid), len(law.names())))
        theta[:, [law.index(name) for name in law.grids]] = grid
        terms = np.empty((len(grid), self.rows, len(names)))
        for k, name in enumerate(names):
            unit = theta.copy()
            unit[:, law.index(name)] = 1.0
            terms[:, :, k] = law.values(unit, self.inputs)
        must = [k for k, name in enumerate(names) if law.bounds[name][0] < 0]
        linear, squares = _bounded_squares(terms / scale[:, None], (output / scale).T, must)
        out = np.repeat(theta[None], len(output), axis=0)
        out[:, :, [law.index(name) for name in names]] = linear.transpose(2, 0, 1)
        return out, squares.T

    def _slopes(self, free: Floats, which: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """Outputs (p, R) and derivatives (p, F, R) by the free coefficients."""
        if self.coordinates.trivial:
            return self.law.slopes(free, self.inputs)
        theta = self.coordinates.expand(free, which)
        value, jacobian = self.law.slopes(theta, self.inputs)
        chain = self.coordinates.slopes(free, which)
        return value, chain.transpose(0, 2, 1) @ jacobian


def _bounded_squares(design: Floats, target: Floats, must: list[int]) -> tuple[Floats, Floats]:
    """Least squares (G, L, P) of `design` (G, R, L), not negative but for the columns in `must`.

    A non-negative least-squares answer is the best feasible of the 2^L - 1 subset answers.
    """
    grid, _, columns = design.shape
    best = np.full((grid, target.shape[1]), np.inf)
    linear = np.zeros((grid, columns, target.shape[1]))
    total = np.sum(target**2, axis=0)
    bounded = [k for k in range(columns) if k not in must]
    subsets = itertools.chain.from_iterable(
        itertools.combinations(bounded, size) for size in range(len(bounded) + 1)
    )
    for chosen in subsets:
        subset = sorted((*must, *chosen))
        if not subset:
            continue
        q, r = np.linalg.qr(design[:, :, subset])
        # A column that others explain leaves a zero on the diagonal: its own share is taken as 0.
        flat = np.abs(np.einsum("gkk->gk", r)) < 1e-12 * np.abs(r).max(axis=(1, 2))[:, None]
        r = r + np.eye(len(subset)) * np.where(flat, 1e30, 0.0)[:, None, :]
        along = q.transpose(0, 2, 1) @ target
        part = np.linalg.solve(r, along)
        squares = np.maximum(total - np.sum(along**2, axis=1), 0.0)
        free = [k in must for k in subset]
        wins = np.all((part >= 0) | np.array(free)[:, None], axis=1) & (squares < best)
        best = np.where(wins, squares, best)
        whole = np.zeros_like(linear)
        whole[:, subset] = part
        linear = np.where(wins[:, None, :], whole, linear)
    return linear, best
