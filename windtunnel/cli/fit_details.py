"""What a staged law went through, as tables: budgets, valleys, loss levels, regret."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

ROWS_SHOWN = 40
"""Of the levels of a batch law there are thirty a size; the JSON has them all."""

COLUMNS: Mapping[str, Mapping[str, tuple[tuple[str, str], ...]]] = {
    "isoflop": {
        "budgets": (
            ("FLOPs", "flops"),
            ("sizes", "sizes"),
            ("N* akima", "params.akima"),
            ("N* parabola", "params.parabola"),
            ("N* parametric", "params.parametric"),
            ("left out", "why_not"),
        )
    },
    "lr-valley": {
        "sizes": (
            ("params", "params"),
            ("best lr", "optimum"),
            ("loss there", "lowest_loss"),
            ("lowest tried", "lowest_cell"),
            ("left out", "why_not"),
        )
    },
    "batch": {
        "levels": (
            ("params", "params"),
            ("loss", "loss"),
            ("best batch", "best_batch_tokens"),
            ("tokens there", "fewest_tokens"),
            ("left out", "why_not"),
        )
    },
    "power2": {
        "cells": (
            ("x", "x"),
            ("z", "z"),
            ("best y", "y_best"),
            ("law's y", "y_law"),
            ("lowest loss", "lowest_loss"),
            ("regret", "regret"),
        )
    },
}


def tables(law: str, details: Mapping[str, Any]) -> Iterator[Table | str]:
    """Tables and sentences of a law's details; a sentence where a table was cut."""
    for name, columns in COLUMNS.get(law, {}).items():
        rows = details.get(name) or []
        table = Table(box=None, title=name, title_justify="left")
        for heading, _ in columns:
            table.add_column(heading, justify="right", no_wrap=True)
        for row in rows[:ROWS_SHOWN]:
            table.add_row(*(_cell(row, path) for _, path in columns))
        if rows:
            yield table
        if len(rows) > ROWS_SHOWN:
            yield f"and {len(rows) - ROWS_SHOWN} more {name}: see --json"
    yield from _sentences(law, details)


def _sentences(law: str, details: Mapping[str, Any]) -> Iterator[str]:
    if law == "isoflop":
        for other, gap in details["parabola_gap_tokens"].items():
            yield (
                f"the parabola's optimal tokens are {gap['mean']:+.1%} off the {other} ones "
                f"(standard error {gap['standard_error']:.1%} over {gap['budgets']} budgets)"
            )
        yield f"this law goes through the {details['interpolate']} optima"
    elif law == "lr-valley":
        yield f"the best lr changes by a factor of {details['per_doubling']:.3g} per doubling of N"
        words = {"best": "the best shared lr", "smallest": "the smallest size's lr"}
        for name, found in details["shared"].items():
            if found is not None:
                yield (
                    f"{words[name]}, {found['lr']:.3g}, gives up {found['mean_percent']:.2f}% of "
                    f"loss on average, {found['worst_percent']:.2f}% at worst"
                )
    elif law == "batch":
        for off, extra in details["regret"].items():
            yield f"a batch {off} off its best needs {extra:.1%} more tokens"
    elif law == "envelope":
        for name, form in details["forms"].items():
            if form["rms"] is not None:
                yield f"{name}: rms {form['rms']:.2%}, AIC {form['aic']:.1f}"
        yield f"{details['nodes']} points of the envelope of {details['runs']} runs"
    elif law == "power2" and details.get("regret_mean") is not None:
        yield (
            f"regret, the loss given up by the law: {details['regret_mean']:.3g} on average, "
            f"{details['regret_worst']:.3g} at worst"
        )


def _cell(row: Mapping[str, Any], path: str) -> str:
    value: Any = row
    for key in path.split("."):
        value = value[key]
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
