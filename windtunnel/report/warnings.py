"""Warnings by weight: what spoils the answer, what weakens it, and what is good to know."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from windtunnel.errors import Diagnostic
from windtunnel.findings.scaling_law import DataModelLaw
from windtunnel.report.formatting import count, scientific, significant, typeset
from windtunnel.report.headline import FAR, Headline
from windtunnel.report.inputs import ReportInputs, ScalingLaw
from windtunnel.report.runs_table import segment_names

SPOILS, WEAKENS, NOTE = 0, 1, 2

SPOILING = (
    "not-converged", "start-point", "edited-fit", "validation-in-training", "mixed-decay",
    "duplicate-rows", "flop-rule", "odd-units", "transition", "under-tuned", "lack-of-fit",
    "holdout-missed", "baseline-better", "law-drifted", "form-decides", "extrapolates",
    "ratio-wide", "at-bound", "flat-direction", "outlier-driven", "heavy-tails", "collinear",
    "repeated-data", "non-monotone", "measured-worse", "no-signal", "edge-winner", "edge-minimum",
    "edge-mixture", "longer-horizon-differs", "form-assumed", "no-drift",
)  # fmt: skip
"""What may make the answer wrong, the worst first."""

NOTES = (
    "few-resamples", "noise-measured", "best-over", "within-noise", "outside-rates", "no-rate-law",
    "published-outside", "published-parametrization", "ratio-without-compute", "mixed-execution",
    "imported-in-law-alone", "source-changed", "no-law-of-part",
)  # fmt: skip
"""What changes no number of the answer."""


SEGMENT = re.compile(r"\b[0-9a-f]{16}\b")
"""Laws know trunks by their ids, readers do not."""
OF_BUDGETS = ("extrapolates", "ratio-outside", "form-decides")
"""Of the optimum of one budget."""


@dataclass(frozen=True, kw_only=True)
class PlacedWarning:
    """A warning with where it comes from, and how much it weighs."""

    code: str
    text: str
    origins: str
    weight: int


def placed_warnings(
    inputs: ReportInputs,
    laws: Sequence[ScalingLaw],
    headlines: Sequence[Headline],
) -> list[PlacedWarning]:
    """Every distinct warning once, the heaviest first.

    What a finding says of the optima of other budgets is a note: the answer is not there.
    """
    found: list[tuple[str, Diagnostic]] = [
        ("answer", w) for each in headlines for w in each.warnings
    ]
    found += [
        ("fit" if len(laws) == 1 else f"fit of {law.experiment}", warning)
        for law in laws
        if law.fit is not None
        for warning in law.fit.warnings
    ]
    found += [
        (f"{each.title}: {each.experiment}", warning)
        for each in inputs.findings
        for warning in each.warnings
    ]
    for search in inputs.searches:
        name = search.outcome.experiment.name
        found += [(f"search {name}", warning) for warning in search.outcome.warnings]
    found += [("study", warning) for warning in inputs.warnings]
    origins: dict[Diagnostic, list[str]] = {}
    for origin, warning in found:
        origins.setdefault(warning, []).append(origin)
    elsewhere = {
        warning
        for each in inputs.findings
        if isinstance(each, DataModelLaw)
        for warning in each.warnings
        if warning.code in OF_BUDGETS
    } - {warning for each in headlines for warning in each.warnings}
    names = segment_names(inputs)
    placed = [
        PlacedWarning(
            code=warning.code,
            text=SEGMENT.sub(lambda id: names.get(id[0], id[0]), warning_text(warning)),
            origins="; ".join(dict.fromkeys(each)),
            weight=NOTE if warning in elsewhere else _weight(warning),
        )
        for warning, each in origins.items()
    ]
    return sorted(placed, key=lambda each: (each.weight, _rank(each.code)))


QUANTITIES = {
    "params": ("params", count),
    "tokens": ("tokens", count),
    "flops": ("FLOPs", scientific),
    "optimal D/N": ("tokens per param", significant),
}


def warning_text(warning: Diagnostic) -> str:
    """The message with numbers for people; of an extrapolation the factor in place of decades."""
    values = warning.values
    match QUANTITIES.get(str(values.get("quantity"))), values.get("value"), values.get("edge"):
        case (name, write), float(value), float(edge) if value > 0 and edge > 0:
            far = f"a factor of {significant(max(value / edge, edge / value))}"
            side = "above the largest" if value > edge else "below the smallest"
            return f"{write(value)} {name} lie {far} {side} fitted ({write(edge)})"
    named = warning.message.replace("optimal D/N", "best tokens per param")
    return typeset(named.replace("D/N", "tokens per param"))


def _weight(warning: Diagnostic) -> int:
    if warning.code in NOTES or _is_near(warning):
        return NOTE
    return SPOILS if warning.code in SPOILING else WEAKENS


def _is_near(warning: Diagnostic) -> bool:
    """Whether it tells of a number so little beyond the runs that the page does not flag it."""
    match warning.values.get("value"), warning.values.get("edge"):
        case float(value), float(edge) if value > 0 and edge > 0:
            return max(value / edge, edge / value) <= FAR
    return False


def _rank(code: str) -> int:
    return SPOILING.index(code) if code in SPOILING else len(SPOILING)
