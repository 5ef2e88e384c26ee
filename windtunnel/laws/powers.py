"""Laws of one regression other than Chinchilla: power laws, an exponential, and a sigmoid.

- y = a x^b is a straight line in logs; the offset c is the part that no amount of x removes.
  MiniCPM (arXiv 2404.06395, section 4.3) compares a power with an exponential on the loss envelope.
- y = a x^b z^c gives an optimal learning rate or batch size from model size and data. StepLaw
  (arXiv 2503.04715) has lr = 1.79 N^-0.713 D^0.307 and batch_tokens = 0.58 D^0.571.
- The sigmoid maps loss to a task score, as MiniCPM4 (arXiv 2506.07900) section 2.3.1 does after
  Densing Law (arXiv 2412.04315).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from windtunnel.laws.forms import FREE, POSITIVE, Law
from windtunnel.laws.table import Floats

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


SIGNED_COARSE = np.array([-1.13, -0.57, -0.29, -0.061, 0.061, 0.29, 0.57, 1.13])


@dataclass(frozen=True)
class Power2(Law):
    """y = a x^b z^c with a > 0: a plane in logs."""

    a: float
    b: float
    c: float

    name: ClassVar[str] = "power2"
    formula: ClassVar[str] = "y = a x^b z^c"
    source: ClassVar[str] = "StepLaw (arXiv 2503.04715), lr(N, D) and batch(N, D)"
    inputs: ClassVar[tuple[str, ...]] = ("x", "z")
    output: ClassVar[str] = "y"
    distinct: ClassVar = {"x": 2, "z": 2}
    headline: ClassVar[str] = "b"
    bounds: ClassVar = {"a": POSITIVE, "b": (-20.0, 20.0), "c": (-20.0, 20.0)}
    grids: ClassVar = {"b": SIGNED_COARSE, "c": SIGNED_COARSE}
    scaling: ClassVar = {"a": (("x", "b"), ("z", "c"))}

    @staticmethod
    def equation(x: Any, z: Any, a: Any, b: Any, c: Any) -> Any:
        """The formula."""
        return a * x**b * z**c


STEEPNESS = np.geomspace(0.73, 61.0, 6)


@dataclass(frozen=True)
class Sigmoid(Law):
    """y = d + c / (1 + exp(-g (L - l))), c >= 0; g < 0 where the score falls with the loss."""

    d: float
    c: float
    g: float
    l: float  # noqa: E741 - the published name

    name: ClassVar[str] = "sigmoid"
    formula: ClassVar[str] = "y = d + c / (1 + exp(-g (L - l)))"
    source: ClassVar[str] = "MiniCPM4 (arXiv 2506.07900) section 2.3.1; Densing Law (2412.04315)"
    inputs: ClassVar[tuple[str, ...]] = ("loss",)
    output: ClassVar[str] = "score"
    distinct: ClassVar = {"loss": 4}
    headline: ClassVar[str] = "g"
    bounds: ClassVar = {"d": FREE, "c": POSITIVE, "g": FREE, "l": FREE}
    grids: ClassVar = {
        "g": np.concatenate([-STEEPNESS, STEEPNESS]),
        "l": np.array([0.57, 0.83, 0.97, 1.13, 1.37]),
    }
    scaling: ClassVar = {"g": (("loss", 1.0),), "l": (("loss", -1.0),)}
    multiplicative: ClassVar[bool] = False

    @staticmethod
    def equation(loss: Any, d: Any, c: Any, g: Any, l: Any) -> Any:  # noqa: E741
        """The formula; the exponent is cut where the curve is flat to the last digit."""
        exponent = -g * (loss - l)
        cut = np.clip(exponent.real, -700.0, 700.0) + 1j * np.imag(exponent)
        return d + c / (1 + np.exp(cut if np.iscomplexobj(exponent) else cut.real))

    def loss_at(self, score: Floats | float) -> Floats:
        """The loss at which the curve reaches `score`; nan outside (d, d + c)."""
        share = (np.asarray(score, np.float64) - self.d) / self.c
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.l + np.log(share / (1 - share)) / self.g)
