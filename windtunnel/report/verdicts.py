"""Verdicts: what each figure shows, in one sentence, from the numbers of its finding or fit."""

import math
from functools import singledispatch

from windtunnel.findings import Finding
from windtunnel.findings.base import coefficient
from windtunnel.findings.coordcheck import CoordinateFinding, parametrization_name
from windtunnel.findings.forecast_scores import ForecastScores
from windtunnel.findings.labels import RULE_LABELS
from windtunnel.findings.lr_batch import RULES, JointFinding
from windtunnel.findings.lr_curves import LRCurves, SeedNoise
from windtunnel.findings.lr_transfer import TransferFinding
from windtunnel.findings.scaling_law import DataModelLaw, against_published
from windtunnel.laws import Fit
from windtunnel.report.figures.fit_checks import residual, unit_noise
from windtunnel.report.inputs import Grid, ReportInputs, ScalingLaw, Search


@singledispatch
def verdict(finding: Finding) -> str:
    """The judgement on a finding; empty of a kind whose lead is all that there is to say."""
    return ""


@verdict.register
def _(finding: TransferFinding) -> str:
    judged = {
        variant.name: _transfers(variant, finding.noise)
        for variant in finding.variants
        if variant.transferred and variant.transferred[0].known
    }
    if finding.noise is None or not judged:
        return ""
    what = f"The best {finding.noun}"
    if len(set(judged.values())) == 1:
        return f"{what} {next(iter(judged.values()))} over {finding.word}."
    each = "; ".join(f"{words} for {name}" for name, words in judged.items())
    return f"{what} over {finding.word} {each}."


def _transfers(variant: LRCurves, noise: SeedNoise | None) -> str:
    """Whether what the smallest one's value gives up at the largest is within noise."""
    lost, drift = variant.transferred[0].lost, variant.drift
    if noise is None:
        return ""
    if lost.value > noise.sigma.value:
        return "does not transfer: it gives up more than the noise between seeds"
    if drift is not None and math.isfinite(drift.low) and 1 not in drift:
        way = "falls" if drift.value < 1 else "rises"
        return f"transfers within noise, though it {way}"
    return "transfers within noise"


@verdict.register
def _(finding: JointFinding) -> str:
    if finding.exponent is None:
        return ""
    if not finding.supports:
        nearest = min(RULES, key=lambda name: abs(RULES[name] - finding.exponent.value))  # type: ignore[union-attr]
        return (
            f"The best rate follows the batch by no usual rule; {RULE_LABELS[nearest]} is nearest."
        )
    rules = " or ".join(RULE_LABELS[name] for name in finding.supports)
    return f"The best rate follows the batch as by {rules}."


@verdict.register
def _(finding: CoordinateFinding) -> str:
    passed = {
        parametrization_name(check): "passes" if check["passed"] else "fails"
        for check in finding.checks
    }
    return f"{'; '.join(f'{name} {outcome}' for name, outcome in passed.items())}."


@verdict.register
def _(finding: DataModelLaw) -> str:
    size, _ = finding.fit.exponents
    if not finding.fit.has_optimum or math.isnan(size.low):
        return ""
    if size.low <= 0.5 <= size.high:
        return "Whether more compute wants other tokens per param is not decided."
    return f"More compute wants {'fewer' if size.low > 0.5 else 'more'} tokens per param."


def further(finding: Finding, count: int) -> list[str]:
    """Verdicts of the figures that read a finding again: its own but for one of exponents."""
    found = [verdict(finding)] * count
    if isinstance(finding, DataModelLaw) and count:
        of = finding.mean.chinchilla
        known = against_published(coefficient(of, "alpha"), coefficient(of, "beta"))
        found[-1] = f"Of the exponents, {known}."
    return found


def of_grid(grid: Grid) -> str:
    """Where each size is best, at the last horizon."""
    last = grid.cells[-1].horizon if grid.cells else ""
    cells = [cell for cell in grid.cells if cell.horizon == last and cell.losses]
    best = {c.size: ", ".join(c.values) for c in cells if c.mean == grid.best(c.size, last)}
    if len(set(best.values())) == 1:
        sizes = "The size is" if len(best) == 1 else f"All {len(best)} sizes are"
        return f"{sizes} best at {next(iter(best.values()))}."
    each = "; ".join(f"{size.replace('x', '×')} at {values}" for size, values in best.items())
    return f"Best: {each}." if best else "No combination has a loss yet."


def of_frontier(law: ScalingLaw) -> str:
    """How closely the runs of a law lie to it."""
    if law.fit is None:
        return f"{len(law.runs)} decayed runs, and no law through them yet."
    return f"The law follows its {law.fit.rows} runs to {_rms(law, law.fit):.2%} of the loss (rms)."


def of_forecast(scores: ForecastScores) -> str:
    """How many runs lie inside their interval, and who forecast best."""
    if not scores.measured:
        return "No held-out run has been measured yet."
    inside = "The forecast has no interval"
    if scores.with_interval:
        inside = (
            f"{scores.inside} of {scores.with_interval} measured runs lie inside the "
            f"{scores.level:.0%} interval"
        )
    if scores.comparison is None:
        return f"{inside}."
    if scores.law_won:
        return f"{inside}, and the law forecast best."
    if scores.comparison.winner:
        return f"{inside}, but a baseline forecast better: {scores.comparison.winner}."
    return f"{inside}; the best two forecasts differ by less than one seed-noise σ."


def of_residuals(law: ScalingLaw, fit: Fit) -> str:
    """How many runs lie as near to the law as the noise has them."""
    two = 2 * unit_noise(fit)
    inside = sum(abs(residual(run, fit)) <= two for run in law.runs)
    return f"{inside} of {len(law.runs)} runs lie within 2σ of the law."


def of_curves(inputs: ReportInputs) -> str:
    """How many segments trained as they should."""
    lost = sum(state.state == "diverged" for state in inputs.states)
    trunks = sum(curve.kind == "trunk" for curve in inputs.curves)
    ends = "none diverged" if not lost else f"{lost} diverged"
    return f"{trunks} trunks and {len(inputs.curves) - trunks} branches: {ends}."


def of_slices(search: Search) -> str:
    """Which trial won, and which axis decides."""
    winner = search.outcome.winner
    if winner is None:
        return "No trial has won yet."
    won = f"Trial {winner.result.trial.number} wins"
    if not search.importances:
        return f"{won}."
    axis = max(search.importances, key=lambda name: search.importances[name])
    return f"{won}; {axis.rpartition('.')[2]} decides {search.importances[axis]:.0%} of the spread."


def of_best_so_far(search: Search) -> str:
    """How much of the compute had been spent when the lowest loss was found."""
    outcome = search.outcome
    losses = [each.value if each.value is not None else math.inf for each in outcome.results]
    place = losses.index(min(losses))
    spent = sum(outcome.flops[: place + 1]) / (sum(outcome.flops) or 1)
    return f"The lowest loss was found after {spent:.0%} of the compute."


def _rms(law: ScalingLaw, fit: Fit) -> float:
    return math.sqrt(sum(residual(run, fit) ** 2 for run in law.runs) / len(law.runs))
