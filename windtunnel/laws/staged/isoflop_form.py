"""One L(N, D) through all rows of an isoFLOP table: a reading of its own, and a correction."""

import numpy as np
from numpy.typing import NDArray

from windtunnel.errors import FitError
from windtunnel.laws.forms.chinchilla import Chinchilla
from windtunnel.laws.identify import require_identified
from windtunnel.laws.solver.point import Point, best_point
from windtunnel.laws.solver.problem import Problem
from windtunnel.laws.staged.isoflop_budget import Budget
from windtunnel.laws.table import Floats, Table


def shared_form(table: Table, rows: NDArray[np.intp], tokens: Floats) -> Point | None:
    """L(N, D) through these rows, its outliers weighed down; None where it shows no trade-off."""
    columns = {"params": table.params[rows], "tokens": tokens[rows], "loss": table.loss[rows]}
    try:
        part = Table(columns, trunk=table.trunk[rows])
        problem = Problem.of(Chinchilla, part)
        require_identified(problem, part)
        point = best_point(problem, part, "huber-log", "auto")
    except FitError:
        return None
    return point if np.all(point.theta[1:3] > 0) else None


def correction(
    budgets: list[Budget], form: Point | None, log_params: Floats, log_cells: Floats
) -> Floats:
    """What each row's ln loss would gain had it spent its budget exactly, by the shared form.

    Two per cent more compute is worth 0.2% of loss or so: as much as seeds differ.

    Args:
        budgets: of the rows; a row in none of them gains nothing.
        form: of the table.
        log_params: ln N, (R,).
        log_cells: ln of C/k = N D, (R,).
    """
    if form is None:
        return np.zeros(log_params.size)
    exact = log_cells.copy()
    for budget in budgets:
        exact[budget.rows] = np.mean(log_cells[budget.rows])
    wanted, was = (
        form.form(np.exp(log_params), np.exp(cells - log_params)) for cells in (exact, log_cells)
    )
    return np.asarray(np.log(wanted / was))
