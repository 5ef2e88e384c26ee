"""Base classes of laws: `Formula`, named coefficients and an equation, and `Law`, one regression.

A new `Law` is a frozen dataclass whose `equation` is the formula. Start points, gradients, bounds
and units follow from its class variables. Two-step laws derive from `two_step.base.TwoStepLaw`.
"""

import dataclasses
import itertools
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from windtunnel.errors import ColumnError, FitError, did_you_mean
from windtunnel.laws.table import Floats, Table


@dataclass(frozen=True)
class Formula(ABC):
    """Base of every law; its dataclass fields are the coefficients, in raw units.

    Attributes:
        name: what `--law` calls it.
        formula: the equation in plain text.
        source: where it comes from.
        inputs: columns that `equation` reads, in its order.
        output: the column it explains.
        multiplicative: whether noise multiplies the output (so the usual residual is of ln).
        allocates: whether it says how to split a budget (`log_optimum`, `split`).
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]
    output: ClassVar[str] = "loss"
    multiplicative: ClassVar[bool] = True
    allocates: ClassVar[bool] = False

    @staticmethod
    @abstractmethod
    def equation(*arrays: Any, **named: Any) -> Any:
        """The formula: inputs, then coefficients; arrays that broadcast, real or complex."""

    def __call__(self, *inputs: ArrayLike) -> Floats:
        """The output at these inputs, raw units, broadcast together."""
        arrays = [np.asarray(each, np.float64) for each in inputs]
        return np.asarray(self.equation(*arrays, *self.vector))

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """The columns that a fit of this law needs, the output last."""
        return (*cls.inputs, cls.output)

    @property
    def coefficients(self) -> dict[str, float]:
        """Coefficients by name, raw units."""
        return {name: float(getattr(self, name)) for name in self.names()}

    @property
    def vector(self) -> Floats:
        """The coefficients in the order of `names`, raw units."""
        return np.array(list(self.coefficients.values()))

    @classmethod
    def of(cls, vector: Sequence[float] | Floats) -> Self:
        """The law with these coefficients, in the order of `names`."""
        return cls(*(float(value) for value in vector))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The coefficients in order."""
        return tuple(field.name for field in dataclasses.fields(cls))

    @classmethod
    def index(cls, name: str) -> int:
        """Position of a coefficient.

        Raises:
            FitError: the law has none of that name.
        """
        names = cls.names()
        if name not in names:
            raise FitError(
                "unknown-coefficient",
                f"law {cls.name} has no coefficient {name!r}; it has {', '.join(names)}"
                f"{did_you_mean(name, names)}",
                law=cls.name,
                coefficient=name,
                known=list(names),
            )
        return names.index(name)

    @classmethod
    def values(cls, theta: Any, inputs: Floats) -> Floats:
        """Outputs (..., R) for coefficients (..., K) and inputs (I, R)."""
        shape = (*theta.shape[:-1], inputs.shape[-1])
        return np.broadcast_to(cls.equation(*inputs, *np.moveaxis(theta, -1, 0)[..., None]), shape)

    @classmethod
    def log_optimum(
        cls, coefficients: Floats, flops: ArrayLike, *, flop_factor: float = 6.0
    ) -> tuple[Floats, Floats]:
        """Ln N and ln D of lowest loss at C = k N D, for raw coefficients (..., K).

        Raises:
            FitError: the law does not say how to split a budget.
        """
        raise FitError(
            "no-optimum",
            f"law {cls.name} has no compute-optimal split: it does not know both N and D",
            law=cls.name,
        )

    @classmethod
    def split(cls, coefficients: Floats) -> tuple[Floats, Floats]:
        """Exponents a and b of N_opt ~ C^a and D_opt ~ C^b, for coefficients (..., K)."""
        raise FitError(
            "no-optimum",
            f"law {cls.name} has no compute-optimal split: it does not know both N and D",
            law=cls.name,
        )


# Complex-step derivative: no subtraction, so the step may be so small that it leaves no error.
STEP = 1e-30
FREE = (-np.inf, np.inf)
POSITIVE = (0.0, np.inf)
# Exponents of published laws lie between 0.1 and 0.9; an answer at these bounds is no answer.
EXPONENT = (0.01, 3.0)
# No law and no noise takes an output so far from the usual one; what is left is a diverged run.
ABSURD = 1e9


@dataclass(frozen=True)
class Law(Formula):
    """Base of every law that is one regression.

    Attributes:
        bounds: of every coefficient; a linear one is either free or not negative.
        grids: start values of the coefficients that are not linear, for scaled inputs.
        scaling: coefficient -> ((input, power), ...): measured in a unit u of that input, the
            coefficient is larger by u^power; a power is a number or a signed coefficient.
        distinct: fewest distinct values of each input that can carry the formula.
        headline: the number that people take from it; what influence is measured on.
        separable: for a law in which no coefficient is linear, the simpler law whose start points
            `lifted` turns into its own.
    """

    bounds: ClassVar[Mapping[str, tuple[float, float]]]
    grids: ClassVar[Mapping[str, Floats]]
    scaling: ClassVar[Mapping[str, tuple[tuple[str, str | float], ...]]] = {}
    distinct: ClassVar[Mapping[str, int]]
    headline: ClassVar[str]
    separable: ClassVar["type[Law] | None"] = None

    def __post_init__(self) -> None:
        for name, value in self.coefficients.items():
            low, high = self.bounds[name]
            if not (np.isfinite(value) and low <= value <= high):
                raise FitError(
                    "out-of-range",
                    f"{self.name}: {name} = {value}, allowed from {low:g} to {high:g}",
                    law=self.name,
                    coefficient=name,
                    value=value,
                    low=low,
                    high=high,
                )

    @classmethod
    def linear(cls) -> tuple[str, ...]:
        """Coefficients that enter linearly, so that the best ones have a closed form."""
        return tuple(name for name in cls.names() if name not in cls.grids)

    @classmethod
    def units(cls, inputs: Floats) -> Floats:
        """One unit (I,) per row of `inputs` (I, R): what the scaled problem divides by."""
        return np.asarray(np.exp(np.mean(np.log(np.abs(inputs) + np.finfo(float).tiny), axis=1)))

    @classmethod
    def factor(cls, name: str, theta: Any, units: Floats) -> Any:
        """Coefficient measured in `units` over the raw one, for coefficients theta (..., K)."""
        log = 0.0
        for column, power in cls.scaling.get(name, ()):
            log = log + _power(cls, power, theta) * np.log(units[cls.inputs.index(column)])
        with np.errstate(over="ignore"):  # of a resample of a table of few rows
            return np.exp(log)

    @classmethod
    def scaled_value(cls, name: str, raw: Any, theta: Any, units: Floats) -> Any:
        """A raw coefficient in `units`, beside the others theta (..., K), which are in them."""
        return raw * cls.factor(name, theta, units)

    @classmethod
    def raw_value(cls, name: str, theta: Any, units: Floats) -> Any:
        """The raw coefficient of theta (..., K), which is in `units`."""
        return theta[..., cls.index(name)] / cls.factor(name, theta, units)

    @classmethod
    def unit_rank(cls, name: str) -> int:
        """0 for a coefficient that is the same in all units; others depend on lower ranks alone."""
        return int(name in cls.scaling)

    @classmethod
    def in_units(cls, theta: Floats, units: Floats) -> Floats:
        """Coefficients (..., K) of the same law for inputs divided by `units` (I,)."""
        out = np.array(theta, np.float64)
        for name in cls.scaling:
            out[..., cls.index(name)] *= cls.factor(name, theta, units)
        return out

    @classmethod
    def slopes(cls, theta: Floats, inputs: Floats) -> tuple[Floats, Floats]:
        """Outputs (p, R) and their derivatives (p, K, R), by complex steps: exact to roundoff."""
        jacobian = np.empty((*theta.shape, inputs.shape[-1]))
        for k in range(theta.shape[1]):
            stepped = theta.astype(np.complex128)
            stepped[:, k] += 1j * STEP
            values: Any = cls.values(stepped, inputs)
            jacobian[:, k] = values.imag / STEP
        return np.asarray(values.real), jacobian

    @classmethod
    def lifted(cls, theta: Floats) -> Floats:
        """Start points (P, G, K) from those of `separable`, (P, g, k)."""
        raise NotImplementedError

    @classmethod
    def start_grid(cls) -> Floats:
        """Start values (G, number of non-linear coefficients) in the order of `grids`."""
        return np.array(list(itertools.product(*cls.grids.values()))).reshape(-1, len(cls.grids))

    @classmethod
    def check_design(cls, table: Table, free: Collection[str]) -> None:
        """Check that the rows tell the `free` coefficients apart; `distinct` is checked before.

        Raises:
            FitError: they do not, and what to add or to fix.
        """

    @classmethod
    def check(cls, inputs: Mapping[str, Floats], output: Floats) -> None:
        """Check that the formula can take these numbers.

        Raises:
            ColumnError: with the column, the row and the value.
        """
        for name, values in inputs.items():
            if (bad := np.flatnonzero(values <= 0)).size:
                raise ColumnError(
                    "out-of-range",
                    f"is {values[bad[0]]:g}: must be above 0",
                    name,
                    int(bad[0]),
                    value=float(values[bad[0]]),
                    above=0,
                )
        if np.ptp(output) == 0:
            raise ColumnError(
                "constant-column",
                f"is {output[0]:g} in every row: there is nothing to explain",
                cls.output,
                value=float(output[0]),
            )
        usual = float(np.median(np.abs(output)))
        if cls.multiplicative and (bad := np.flatnonzero(output > ABSURD * usual)).size:
            raise ColumnError(
                "diverged",
                f"is {output[bad[0]]:g}, the usual value {usual:.4g}: a diverged run? "
                "Leave it out with --where",
                cls.output,
                int(bad[0]),
                value=float(output[bad[0]]),
                usual=usual,
            )
        if cls.multiplicative and (bad := np.flatnonzero(output <= 0)).size:
            raise ColumnError(
                "out-of-range",
                f"is {output[bad[0]]:g}: must be above 0. Drop diverged and unfinished runs first",
                cls.output,
                int(bad[0]),
                value=float(output[bad[0]]),
                above=0,
            )


def _power(law: type[Law], power: str | float, theta: Any) -> Any:
    if isinstance(power, str):
        value = theta[..., law.index(power.lstrip("-"))]
        return -value if power.startswith("-") else value
    return power
