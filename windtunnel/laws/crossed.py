"""A term w x^-p y^-q exp(c ln x ln y) of two inputs, and the laws that have one.

Its exponents are those at x = y = 1, so that they depend on the units of the other input; `Crossed`
converts them.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from windtunnel.errors import FitError
from windtunnel.laws.forms import Law
from windtunnel.laws.table import Floats, Table

SIGNED = (-20.0, 20.0)
"""Of an exponent at x = 1, which lies far from the rows, so that its sign says nothing."""


class Term(NamedTuple):
    """The names in w x^-p y^-q exp(c ln x ln y): coefficients, and the inputs x and y.

    y is None where no unit can be chosen for it.
    """

    weight: str
    p: str
    q: str
    cross: str
    x: str
    y: str | None


@dataclass(frozen=True)
class Crossed(Law):
    """Base of laws with one `Term`; `scaling` has their other coefficients."""

    term: ClassVar[Term]

    @classmethod
    def unit_rank(cls, name: str) -> int:
        """The cross coefficient is the same in all units, p and q depend on it, w on all three."""
        if name in {cls.term.p, cls.term.q}:
            return 1
        return 2 if name == cls.term.weight else super().unit_rank(name)

    @classmethod
    def scaled_value(cls, name: str, raw: Any, theta: Any, units: Floats) -> Any:
        """As `Law`; exponents are shifted."""
        if name in {cls.term.p, cls.term.q}:
            return raw - cls._shift(name, theta, units)
        if name == cls.term.weight:
            return raw * cls._factor(theta, units)
        return super().scaled_value(name, raw, theta, units)

    @classmethod
    def raw_value(cls, name: str, theta: Any, units: Floats) -> Any:
        """As `Law`; exponents are shifted."""
        if name in {cls.term.p, cls.term.q}:
            return theta[..., cls.index(name)] + cls._shift(name, theta, units)
        if name == cls.term.weight:
            with np.errstate(all="ignore"):  # far along a profile
                return theta[..., cls.index(name)] / cls._factor(theta, units)
        return super().raw_value(name, theta, units)

    @classmethod
    def in_units(cls, theta: Floats, units: Floats) -> Floats:
        """As `Law`; the weight follows the shifted exponents."""
        out = super().in_units(theta, units)
        for name in (cls.term.p, cls.term.q):
            out[..., cls.index(name)] -= cls._shift(name, theta, units)
        out[..., cls.index(cls.term.weight)] *= cls._factor(out, units)
        return out

    @classmethod
    def _shift(cls, name: str, theta: Any, units: Floats) -> Any:
        """What the unit of the other input takes off an exponent."""
        x, y = cls._log_units(units)
        return theta[..., cls.index(cls.term.cross)] * (y if name == cls.term.p else x)

    @classmethod
    def _factor(cls, theta: Any, units: Floats) -> Any:
        """Weight in `units` over the raw one, for exponents that are in them."""
        x, y = cls._log_units(units)
        p, q, cross = (
            theta[..., cls.index(name)] for name in (cls.term.p, cls.term.q, cls.term.cross)
        )
        with np.errstate(all="ignore"):  # of a resample of a table of few rows
            return np.exp(-p * x - q * y - cross * x * y)

    @classmethod
    def _log_units(cls, units: Floats) -> tuple[float, float]:
        names = (cls.term.x, cls.term.y)
        x, y = (0.0 if name is None else np.log(units[cls.inputs.index(name)]) for name in names)
        return float(x), float(y)


MAX_CORRELATION = 0.999
"""Above this two inputs are one variable."""


def refuse_one_variable(table: Table, first: str, second: str) -> None:
    """Check that two inputs vary apart.

    Raises:
        FitError: the logarithm of one is a line in that of the other.
    """
    r = float(np.corrcoef(np.log(table[first]), np.log(table[second]))[0, 1])
    if abs(r) > MAX_CORRELATION:
        raise FitError(
            "collinear",
            f"ln {first} and ln {second} are one variable in this table (r = {r:.4f}): their "
            f"effects cannot be told apart. Vary {second} at each of several {first}",
            columns=[first, second],
            correlation=r,
        )
