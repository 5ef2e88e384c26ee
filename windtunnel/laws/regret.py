"""`power2` from a table of trials: the best y of every (x, z), the law through them, its regret.

A learning rate or batch law is flat around its optimum, so its exponents say little; what counts is
the loss given up by following the law instead of the local optimum (StepLaw, arXiv 2503.04715;
users.md, lesson 5).
"""

from typing import Any

import numpy as np

from windtunnel.errors import FitError
from windtunnel.laws.caution import Caution
from windtunnel.laws.forms.power2 import Power2
from windtunnel.laws.regression import Settings, regress
from windtunnel.laws.result import Fit
from windtunnel.laws.table import Floats, Table

# A cell of fewer trials has no neighbours on both sides of its best one.
MIN_TRIALS = 3
# Cells of a planted law recover its exponents only from this many on.
MIN_CELLS = 4


def fit_optima(table: Table, settings: Settings) -> Fit:
    """`power2` through the best y of each cell of equal x and z, judged by regret.

    Seeds of one (x, z, y) are averaged. Where the table has one trial per cell, the rows are the
    optima already and are fitted as they are.

    Raises:
        FitError: fewer than four cells whose optimum lies inside what was tried.
    """
    cells = table.cells("x", "z")
    if cells.max() + 1 == table.rows:
        return regress(table, Power2, settings, "largest")
    tried = [_trials(table, cells == cell) for cell in range(cells.max() + 1)]
    found = [(rates, losses, _optimum(rates, losses)) for rates, losses in tried]
    first = [int(np.flatnonzero(cells == cell)[0]) for cell in range(cells.max() + 1)]
    used = [k for k, (_, _, best) in enumerate(found) if np.isfinite(best)]
    edge = len(found) - len(used)
    if len(used) < MIN_CELLS:
        raise FitError(
            f"power2: {len(used)} of {len(found)} cells of (x, z) have their lowest loss inside "
            f"the y tried, need {MIN_CELLS}. Try y beyond the lowest loss in the others"
        )
    rows = [first[k] for k in used]
    optima = Table(
        x=table["x"][rows],
        z=table["z"][rows],
        y=np.exp([found[k][2] for k in used]),
        flop_factor=table.flop_factor,
        filters=(*table.filters, f"best y of each of {len(used)} cells of (x, z)"),
        dropped=(*table.dropped, ("not the best of its cell", table.rows - len(used))),
        names=table.names,
    )
    fit = regress(optima, Power2, settings, "largest")
    cautions = []
    if edge:
        cautions.append(
            Caution(
                "edge-minimum",
                f"{edge} of {len(found)} cells have their lowest loss at the smallest or largest y "
                "tried and are left out: try y beyond it",
            )
        )
    judged = [_regret(fit, table, found[k], first[k]) for k in range(len(found))]
    known = [row["regret"] for row in judged if row["regret"] is not None]
    details = {
        "regret_mean": float(np.mean(known)) if known else None,
        "regret_worst": float(np.max(known)) if known else None,
        "cells": judged,
    }
    return fit.detailed(details).warned(*cautions)


def _trials(table: Table, mask: Any) -> tuple[Floats, Floats]:
    """Ln y tried (ascending) and the mean loss of each."""
    rates, index = np.unique(np.log(table["y"][mask]), return_inverse=True)
    return rates, np.bincount(index, table.loss[mask]) / np.bincount(index)


def _optimum(rates: Floats, losses: Floats) -> float:
    """Ln y of the parabola through the lowest trial and its neighbours; nan at an edge."""
    best = int(np.argmin(losses))
    if rates.size < MIN_TRIALS or best in {0, rates.size - 1}:
        return float("nan")
    bend, slope, _ = np.polyfit(
        rates[best - 1 : best + 2] - rates[best], losses[best - 1 : best + 2], 2
    )
    return float(rates[best] - slope / (2 * bend))


def _regret(
    fit: Fit, table: Table, cell: tuple[Floats, Floats, float], row: int
) -> dict[str, float | None]:
    """What the law's y costs against the lowest trial: loss interpolated in ln y; never below 0.

    None where the law's y lies outside what was tried.
    """
    rates, losses, best = cell
    wanted = float(np.log(fit.form(table["x"][row], table["z"][row])))
    inside = rates[0] <= wanted <= rates[-1]
    at_law = float(np.interp(wanted, rates, losses)) if inside else None
    return {
        "x": float(table["x"][row]),
        "z": float(table["z"][row]),
        "y_best": float(np.exp(best)) if np.isfinite(best) else None,
        "y_law": float(np.exp(wanted)),
        "lowest_loss": float(losses.min()),
        "regret": None if at_law is None else max(at_law - float(losses.min()), 0.0),
    }
