"""Task score from loss: the curve that turns a loss forecast into a benchmark forecast.

MiniCPM4 (arXiv 2506.07900) section 2.3.1 maps its ScalingBench loss to task scores by a sigmoid,
after Densing Law (arXiv 2412.04315).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from windtunnel.laws.forms.law import FREE, POSITIVE, Law
from windtunnel.laws.table import Floats

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
