"""What every law is, however it was found: a formula with named coefficients.

A law that is one regression is a `Law` (law.py); one that is found in stages is a `StagedLaw`.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from windtunnel.errors import FitError, did_you_mean
from windtunnel.laws.table import Floats


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
        """What a table must have for this law to be fitted, the output last."""
        return (*cls.inputs, cls.output)

    @property
    def coefficients(self) -> dict[str, float]:
        """By name, raw units."""
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
                f"law {cls.name} has no coefficient {name!r}; it has {', '.join(names)}"
                f"{did_you_mean(name, names)}"
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
            f"law {cls.name} has no compute-optimal split: it does not know both N and D"
        )

    @classmethod
    def split(cls, coefficients: Floats) -> tuple[Floats, Floats]:
        """Exponents a and b of N_opt ~ C^a and D_opt ~ C^b, for coefficients (..., K)."""
        raise FitError(
            f"law {cls.name} has no compute-optimal split: it does not know both N and D"
        )
