"""The law refitted at the ends and in the middle of a band in which one coefficient is fixed."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from windtunnel.errors import FitError
from windtunnel.laws.forms import Law
from windtunnel.laws.point_estimate import best_point, require_identified
from windtunnel.laws.problem import Problem
from windtunnel.laws.regression import Settings
from windtunnel.laws.table import Table

Fixed = float | tuple[float, float]
"""A value, or the low and high end of a band."""


def middle_of(fix: Mapping[str, Fixed]) -> tuple[dict[str, float], tuple[str, float, float] | None]:
    """The fixed values, that of a band in its middle, and the band: name, low and high.

    Raises:
        FitError: two bands, or one whose ends are not in order.
    """
    bands = {name: value for name, value in fix.items() if isinstance(value, tuple | list)}
    plain = {name: value for name, value in fix.items() if not isinstance(value, tuple | list)}
    if len(bands) > 1:
        raise FitError(
            "contradicting-options",
            f"fix: bands for {' and '.join(bands)}: give one, and a number for the others",
            options=["fix"],
            coefficients=list(bands),
        )
    for name, (low, high) in bands.items():
        if not low < high:
            raise FitError(
                "out-of-order",
                f"fix {name}={low:g}..{high:g}: the first end must be below the second",
                coefficient=name,
                low=low,
                high=high,
            )
        return {**plain, name: (low + high) / 2}, (name, float(low), float(high))
    return plain, None


def band_of(
    table: Table, law: type[Law], settings: Settings, band: tuple[str, float, float]
) -> dict[str, Any]:
    """The laws at the ends and in the middle of a band, as JSON data for a fit's details.

    `settings` has the middle fixed. Of each law the coefficients, its objective, and, where it
    splits budgets, the optimal D/N and the loss there at the largest budget.

    Raises:
        FitError: the table cannot carry the law, or an end is out of bounds.
    """
    name, low, high = band
    rows = [_law_at(table, law, settings, name, value) for value in (low, (low + high) / 2, high)]
    flops = float(table.budget.max()) if law.allocates else None
    return {"fixed": name, "low": low, "high": high, "flops": flops, "laws": rows}


def _law_at(
    table: Table, law: type[Law], settings: Settings, name: str, value: float
) -> dict[str, Any]:
    at = dataclasses.replace(settings, fixed={**settings.fixed, name: value})
    problem = Problem.of(law, table, fixed=at.fixed, tied=at.tied)
    require_identified(law, table, len(problem.coordinates.free))
    point = best_point(problem, table, at.objective, at.delta, known=at.noise)
    form = point.form
    found: dict[str, Any] = {
        **form.coefficients,
        "objective": point.cost,
        "residual_rms": float(np.sqrt(np.mean(point.residual**2))),
    }
    if law.allocates:
        log_params, log_tokens = form.log_optimum(
            form.vector, float(table.budget.max()), flop_factor=table.flop_factor
        )
        known = np.isfinite(log_params) and np.isfinite(log_tokens)
        params, tokens = np.exp(log_params), np.exp(log_tokens)
        fresh = [tokens] * (len(law.inputs) - 2)
        found["ratio"] = float(tokens / params) if known else None
        found["loss"] = float(form(params, tokens, *fresh)) if known else None
    return found
