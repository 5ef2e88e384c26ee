"""The headline: how to spend a budget, at three budgets, under both ways of counting FLOPs."""

import math
from dataclasses import dataclass

from windtunnel.errors import FitError
from windtunnel.laws import Caution, Fit, Interval, Optimum
from windtunnel.report.inputs import ScalingLaw


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The best model and data for one budget, or `problem`, the sentence that says why none."""

    label: str
    flops: float
    optimum: Optimum | None
    exact: Interval | None
    problem: str = ""

    @property
    def warnings(self) -> tuple[Caution, ...]:
        """Where the answer leaves what was measured, each sentence once."""
        if self.optimum is None:
            return ()
        # The run is named by its own N, D and C; what `loss` adds on C and D/N is said already.
        return tuple(dict.fromkeys((*self.optimum.warnings, *self.optimum.loss.warnings)))

    @property
    def extrapolated(self) -> bool:
        """Whether any of its numbers lies outside the fitted runs."""
        return bool(self.warnings)

    @property
    def exact_change(self) -> float | None:
        """Ratio under exact FLOPs over the ratio under 6ND, minus 1."""
        if self.optimum is None or self.exact is None:
            return None
        ratio = self.optimum.ratio.value
        return self.exact.value / ratio - 1 if math.isfinite(ratio) and ratio > 0 else None


def budgets(fit: Fit) -> tuple[tuple[str, float], ...]:
    """Three budgets in FLOPs by the fit's rule: inside, at the edge, and one decade beyond."""
    low, high = fit.domain["flops"]
    return (
        ("Middle of measured compute", math.sqrt(low * high)),
        ("Largest measured run", high),
        ("Ten times the largest run", 10 * high),
    )


def answers(law: ScalingLaw) -> tuple[Answer, ...]:
    """An answer for each budget; none without a fit."""
    if law.fit is None:
        return ()
    return tuple(_answer(law.fit, label, flops) for label, flops in budgets(law.fit))


def _answer(fit: Fit, label: str, flops: float) -> Answer:
    try:
        optimum = fit.optimum(flops)
    except FitError as refused:
        return Answer(label=label, flops=flops, optimum=None, exact=None, problem=str(refused))
    return Answer(label=label, flops=flops, optimum=optimum, exact=optimum.ratio_exact)
