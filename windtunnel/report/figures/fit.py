"""Figures that come with every fit: as files beside it, and as pictures in a study's report."""

from pathlib import Path

import numpy as np

from windtunnel.laws import Fit, Table
from windtunnel.laws.fitting import decayed_only
from windtunnel.report.figures import (
    fit_checks,
    fit_contours,
    fit_curve,
    fit_ratio,
    fit_sizes,
    fit_stages,
)
from windtunnel.report.figures.sheet import Drawing, save_all


def write_figures(fitted: Fit, table: Table, folder: Path) -> list[Path]:
    """Write every figure that this fit has as a PNG into `folder`; their paths.

    Raises:
        ConfigError: the folder or a file in it cannot be written.
    """
    sizes = np.unique(table.params) if "params" in table else np.empty(0)
    return save_all(drawings(fitted, table), folder, sizes)


def _best_of_cells(fitted: Fit) -> Table:
    """The rows that a law of optima went through, not all that were tried."""
    cells = [cell for cell in fitted.details["cells"] if cell["y_best"] is not None]
    x, z, y = (np.array([cell[name] for cell in cells]) for name in ("x", "z", "y_best"))
    return Table(x=x, z=z, y=y)


def drawings(fitted: Fit, table: Table) -> list[Drawing]:
    """The figures of a fit to this table, the telling ones first."""
    match fitted.law:
        case "isoflop":
            return fit_stages.isoflop(fitted)
        case "lr-valley":
            return fit_stages.lr_valley(fitted)
        case "batch":
            return fit_stages.batch(fitted)
        case "envelope":
            return fit_stages.envelope(fitted, table)
    rows, _ = decayed_only(table)
    if "cells" in fitted.details:
        rows = _best_of_cells(fitted)
    found: list[Drawing | None] = []
    if fitted.form.inputs[:2] == ("params", "tokens"):
        found += [fit_sizes.along_sizes(fitted, rows), fit_contours.contours(fitted, rows)]
        found += [fit_ratio.ratio(fitted)]
    elif len(fitted.form.inputs) == 1:
        found += [fit_curve.of_table(fitted, rows)]
    else:
        found += [fit_checks.against_law(fitted, rows)]
    found += [fit_checks.residuals(fitted, rows), fit_checks.holdout(fitted)]
    return [drawing for drawing in found if drawing is not None]
