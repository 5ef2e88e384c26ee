"""The batch that reaches a loss with the fewest tokens, and what another batch costs.

A grid over `recipe.batch_tokens` at one learning rate, read as MiniCPM (arXiv 2404.06395) section
3.2 does: the law `batch` goes through decayed ends at several lengths.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from windtunnel.config.study import GridExperiment
from windtunnel.errors import Diagnostic, FitError
from windtunnel.findings.base import Finding, Quantity, coefficient
from windtunnel.findings.records import Records
from windtunnel.laws import Fit, Interval, fit

AXIS = "recipe.batch_tokens"
MINICPM_EXPONENT = 6.24
"""Of 1.21e9 / L^6.24, L on C4 in nats per token. Another loss has another factor in front of it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchFinding(Finding):
    """Best batch against loss, batch* = k / L^p.

    Attributes:
        fitted: the law `batch`; None where it cannot be fitted, for the reason in `problem`.
        diverged: (size, batch_tokens) of every run that diverged.
    """

    fitted: Fit | None
    problem: FitError | None = None
    sizes: dict[float, str]
    diverged: tuple[tuple[str, int], ...] = ()

    kind: ClassVar[str] = "batch-size"
    title: ClassVar[str] = "Batch size"

    @property
    def lead(self) -> str:
        """The law, the cost of another batch, and MiniCPM's exponent for comparison."""
        if self.fitted is None:
            return f"No best batch can be read from these runs. {self.problem}."
        p, span = self.fitted.coefficients["p"], self.fitted.intervals.get("p")
        known = theirs = ""
        if span is not None:
            inside = "inside" if span[0] <= MINICPM_EXPONENT <= span[1] else "outside"
            known = f" (90%: {span[0]:.2f} to {span[1]:.2f})"
            theirs = f"; MiniCPM's {MINICPM_EXPONENT} lies {inside}"
        best = ", ".join(
            f"{at.value:,.0f} for {name} at {loss:.2f} nats" for name, loss, at in self._bests()
        )
        off = self.fitted.details["regret"]
        return (
            f"The batch that needs the fewest tokens grows as the loss falls, as L^-{p:.2f}{known}"
            f"{theirs}. In tokens per update it is {best}. A batch 2 times off costs "
            f"{off['2x']:.1%} more tokens, 4 times off {off['4x']:.1%}. MiniCPM's loss is of C4 "
            "by another tokenizer, so only the exponents of the two laws can be compared."
        )

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Exponent, growth, best batches, and regret."""
        if self.fitted is None:
            return ()
        p = coefficient(self.fitted, "p")
        regret = self.fitted.details["regret"]
        return (
            self.quantity("exponent", p),
            self.quantity("growth", Interval(0.9**-p.value, 0.9**-p.low, 0.9**-p.high)),
            *(at for _, _, at in self._bests()),
            *(
                self.quantity("extra-tokens", 100 * cost, "%", times=times)
                for times, cost in regret.items()
            ),
        )

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """Those of the fit, such as minima at an edge, and divergence."""
        found = list(self.fitted.warnings) if self.fitted else []
        if self.diverged:
            cells = list(dict.fromkeys(f"{size} at {batch:,}" for size, batch in self.diverged))
            found.append(
                Diagnostic(
                    "diverged-runs",
                    f"{len(self.diverged)} runs diverged and are left out: {', '.join(cells)} "
                    "tokens per update",
                    runs=len(self.diverged),
                    cells=cells,
                )
            )
        return tuple(found)

    def _bests(self) -> Iterator[tuple[str, float, Quantity]]:
        """Size, its lowest loss that has a best batch, and the law's batch there."""
        assert self.fitted is not None
        minima = self.fitted.details["minima"]
        for params in sorted(set(minima["params"])):
            losses = zip(minima["params"], minima["loss"], strict=True)
            loss = min(loss for of, loss in losses if of == params)
            at = self.fitted.predict(loss, trunks=math.inf)
            name = self.sizes[params]
            yield name, loss, self.quantity("best", at, "tokens per update", size=name)


def batches(records: Records) -> tuple[BatchFinding, ...]:
    """A finding for each grid over batches alone, or over batches and sizes."""
    return tuple(
        _finding(records, experiment.name)
        for experiment in records.config.experiments
        if isinstance(experiment, GridExperiment)
        and AXIS in experiment.axes
        and set(experiment.axes) <= {AXIS, "size"}
        and _is_enough(records, experiment.name)
    )


def _is_enough(records: Records, experiment: str) -> bool:
    """Whether two batches have two decayed lengths each, the least that a law can use."""
    pairs = {(run.batch_tokens, run.horizon) for run in records.of(experiment)}
    lengths = np.unique([batch for batch, _ in pairs], return_counts=True)[1]
    return int(np.sum(lengths >= 2)) >= 2


def _finding(records: Records, experiment: str) -> BatchFinding:
    runs = records.of(experiment, decayed=False)
    fitted, problem = None, None
    try:
        fitted = fit(records.table(experiment), "batch")
    except FitError as refused:
        problem = refused
    return BatchFinding(
        experiment=experiment,
        fitted=fitted,
        problem=problem,
        sizes={float(run.params): run.size for run in runs},
        diverged=tuple((run.size, run.batch_tokens) for run in runs if run.diverged),
    )
