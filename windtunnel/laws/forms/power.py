"""y = a x^b, alone and with an offset, and an exponential to compare with.

y = a x^b is a straight line in logs. The offset c is what no amount of x can remove; whether the
approach to it is a power or an exponential is MiniCPM's question to the loss envelope (arXiv
2404.06395, section 4.3).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from windtunnel.laws.forms.law import FREE, POSITIVE, Law

# Either sign; none of them a round number that a planted law would use.
SIGNED = np.concatenate([-np.geomspace(2.37, 0.0613, 8), np.geomspace(0.0613, 2.37, 8)])


@dataclass(frozen=True)
class Power(Law):
    """y = a x^b with a > 0."""

    a: float
    b: float

    name: ClassVar[str] = "power"
    formula: ClassVar[str] = "y = a x^b"
    source: ClassVar[str] = "a straight line in logs"
    inputs: ClassVar[tuple[str, ...]] = ("x",)
    output: ClassVar[str] = "y"
    distinct: ClassVar = {"x": 2}
    headline: ClassVar[str] = "b"
    bounds: ClassVar = {"a": POSITIVE, "b": (-20.0, 20.0)}
    grids: ClassVar = {"b": SIGNED}
    scaling: ClassVar = {"a": (("x", "b"),)}

    @staticmethod
    def equation(x: Any, a: Any, b: Any) -> Any:
        """The formula."""
        return a * x**b


@dataclass(frozen=True)
class PowerOffset(Law):
    """y = c + a x^b; a and c of either sign."""

    c: float
    a: float
    b: float

    name: ClassVar[str] = "power-offset"
    formula: ClassVar[str] = "y = c + a x^b"
    source: ClassVar[str] = "MiniCPM (arXiv 2404.06395) section 4.3, L(C) = L0 + a C^b"
    inputs: ClassVar[tuple[str, ...]] = ("x",)
    output: ClassVar[str] = "y"
    distinct: ClassVar = {"x": 3}
    headline: ClassVar[str] = "b"
    bounds: ClassVar = {"c": FREE, "a": FREE, "b": (-20.0, 20.0)}
    grids: ClassVar = {"b": SIGNED}
    scaling: ClassVar = {"a": (("x", "b"),)}

    @staticmethod
    def equation(x: Any, c: Any, a: Any, b: Any) -> Any:
        """The formula."""
        return c + a * x**b


@dataclass(frozen=True)
class ExpOffset(Law):
    """y = c + a exp(-b x) with b > 0; a and c of either sign."""

    c: float
    a: float
    b: float

    name: ClassVar[str] = "exp-offset"
    formula: ClassVar[str] = "y = c + a exp(-b x)"
    source: ClassVar[str] = "MiniCPM (arXiv 2404.06395) section 4.3, L(C) = L0 + a exp(-b C)"
    inputs: ClassVar[tuple[str, ...]] = ("x",)
    output: ClassVar[str] = "y"
    distinct: ClassVar = {"x": 3}
    headline: ClassVar[str] = "b"
    bounds: ClassVar = {"c": FREE, "a": FREE, "b": POSITIVE}
    grids: ClassVar = {"b": np.geomspace(0.0013, 17.0, 16)}
    scaling: ClassVar = {"b": (("x", 1.0),)}

    @staticmethod
    def equation(x: Any, c: Any, a: Any, b: Any) -> Any:
        """The formula."""
        return c + a * np.exp(-b * x)
