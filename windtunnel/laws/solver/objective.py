"""What a fit minimises: the sum over rows of squares or of Huber's rho of the residuals."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from windtunnel.errors import FitError, did_you_mean
from windtunnel.laws.table import Floats

ObjectiveName = Literal["huber-log", "mse-log", "mse", "huber"]
OBJECTIVES: tuple[ObjectiveName, ...] = ("huber-log", "mse-log", "mse", "huber")


@dataclass(frozen=True)
class Objective:
    """Sum of Huber(residual, delta) over rows: r^2/2 up to delta, delta (|r| - delta/2) beyond.

    The residual is ln(predicted) - ln(measured) for the `-log` objectives, predicted - measured
    otherwise; `delta` is in the same unit, and infinite for least squares.
    """

    name: ObjectiveName
    delta: float = np.inf

    def __post_init__(self) -> None:
        if self.name not in OBJECTIVES:
            raise FitError(
                f"objective = {self.name!r}: one of {', '.join(OBJECTIVES)}"
                + did_you_mean(str(self.name), OBJECTIVES)
            )
        if not self.delta > 0:
            raise FitError(f"delta = {self.delta}: must be above 0, in the unit of the residual")

    @property
    def is_log(self) -> bool:
        """Whether residuals are differences of logarithms."""
        return self.name.endswith("-log")

    @property
    def is_huber(self) -> bool:
        """Whether large residuals count linearly."""
        return self.name.startswith("huber")

    def target(self, output: Floats) -> Floats:
        """The measured side of the residual."""
        return np.log(output) if self.is_log else output
