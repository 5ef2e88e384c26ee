"""The figures of a fit, and those of a finding."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from windtunnel.findings import Finding
from windtunnel.findings.adaptation import AdaptationFinding
from windtunnel.findings.batch import BatchFinding
from windtunnel.findings.branches import BranchFinding
from windtunnel.findings.coordcheck import CoordinateFinding
from windtunnel.findings.dynamics import TrainingDynamics
from windtunnel.findings.lr_batch import JointFinding
from windtunnel.findings.lr_sensitivity import SensitivityFinding
from windtunnel.findings.lr_transfer import TransferFinding, WeightDecayFinding
from windtunnel.findings.mixture import MixtureFinding
from windtunnel.findings.overtraining import OvertrainingFinding
from windtunnel.findings.ranking import RankingFinding
from windtunnel.findings.scaling_law import DataModelLaw
from windtunnel.findings.schedules import SchedulesFinding
from windtunnel.laws import Fit, Table
from windtunnel.laws.fitting import decayed_only
from windtunnel.report.figures import (
    branches,
    coordcheck,
    dynamics,
    fit_checks,
    fit_curve,
    fit_scaling,
    fit_two_step,
    lr,
    mixture,
    scaling,
    schedules,
)
from windtunnel.report.figures.drawing import NO_SIZES, Drawing, save_all


def write_figures(fitted: Fit, table: Table, folder: Path) -> list[Path]:
    """Write every figure that this fit has as a PNG into `folder`; their paths.

    Raises:
        ConfigError: the folder or a file in it cannot be written.
    """
    sizes = np.unique(table.params) if "params" in table else NO_SIZES
    return save_all(fit_drawings(fitted, table), folder, sizes)


def _best_of_cells(fitted: Fit) -> Table:
    """The rows that a law of optima went through, not all that were tried."""
    cells = [cell for cell in fitted.details["cells"] if cell["y_best"] is not None]
    x, z, y = (np.array([cell[name] for cell in cells]) for name in ("x", "z", "y_best"))
    return Table(x=x, z=z, y=y)


def fit_drawings(fitted: Fit, table: Table) -> list[Drawing]:
    """The figures of a fit to this table, the telling ones first."""
    match fitted.law:
        case "isoflop":
            return fit_two_step.isoflop(fitted)
        case "lr-valley":
            return fit_two_step.lr_valley(fitted)
        case "batch":
            return fit_two_step.batch(fitted)
        case "envelope":
            return fit_two_step.envelope(fitted, table)
    rows, _ = decayed_only(table)
    if "cells" in fitted.details:
        rows = _best_of_cells(fitted)
    found: list[Drawing | None] = []
    if fitted.form.inputs[:2] == ("params", "tokens"):
        found += [fit_scaling.along_sizes(fitted, rows), fit_scaling.contours(fitted, rows)]
        found += [fit_scaling.ratio(fitted)]
    elif len(fitted.form.inputs) == 1:
        found += [fit_curve.of_table(fitted, rows)]
    else:
        found += [fit_checks.against_law(fitted, rows)]
    found += [fit_checks.residuals(fitted, rows), fit_checks.holdout(fitted)]
    return [drawing for drawing in found if drawing is not None]


DRAWN: dict[type[Finding], Callable[[Any], list[Drawing]]] = {
    CoordinateFinding: coordcheck.drawings,
    SensitivityFinding: lr.sensitivity_drawings,
    TransferFinding: lr.transfer_drawings,
    WeightDecayFinding: lr.transfer_drawings,
    JointFinding: lr.lr_batch_drawings,
    DataModelLaw: scaling.scaling_drawings,
    TrainingDynamics: dynamics.drawings,
    BatchFinding: scaling.batch_drawings,
    SchedulesFinding: schedules.schedule_drawings,
    BranchFinding: branches.branch_drawings,
    RankingFinding: branches.ranking_drawings,
    AdaptationFinding: branches.adaptation_drawings,
    MixtureFinding: lambda finding: mixture.drawings(finding.law) if finding.law else [],
    OvertrainingFinding: schedules.overtraining_drawings,
}


def finding_drawings(finding: Finding) -> list[Drawing]:
    """Every figure of one finding, the most telling first; none for a kind without figures."""
    draw = DRAWN.get(type(finding))
    return [] if draw is None else draw(finding)
