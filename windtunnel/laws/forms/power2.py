"""y = a x^b z^c: an optimal learning rate or batch against model size and data.

StepLaw (arXiv 2503.04715): lr = 1.79 N^-0.713 D^0.307 and batch_tokens = 0.58 D^0.571.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from windtunnel.laws.forms.law import POSITIVE, Law

SIGNED = np.array([-1.13, -0.57, -0.29, -0.061, 0.061, 0.29, 0.57, 1.13])


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
    grids: ClassVar = {"b": SIGNED, "c": SIGNED}
    scaling: ClassVar = {"a": (("x", "b"), ("z", "c"))}

    @staticmethod
    def equation(x: Any, z: Any, a: Any, b: Any, c: Any) -> Any:
        """The formula."""
        return a * x**b * z**c
