"""Tables of a fit, a prediction and an optimum, and of the steps of two-step laws."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from windtunnel.cli.text import say, terminal
from windtunnel.laws import Diagnostic, Fit, HoldOut, Interval, Optimum
from windtunnel.laws.result import optima
from windtunnel.laws.two_step.base import TwoStepLaw
from windtunnel.quantities import write_count

NO_SHIFT = 1e-6
INFLUENCED = {
    "ratio": "optimal D/N at the largest budget",
    "loss": "the law's loss of the largest run",
}
"""What `influence` is of, in words."""


def print_fit(fitted: Fit) -> None:
    """Print a fit: coefficients, noise, hold-out, optima and warnings."""
    console = terminal()
    say(console, f"{fitted.form.formula} over {fitted.rows} rows of {fitted.trunks} trunks")
    say(console, "; ".join(_conventions(fitted)))
    for line in fitted.filters:
        say(console, line, label="filter:")
    for why, rows in fitted.dropped:
        say(console, f"{rows} rows: {why}", label="left out:")
    console.print(_coefficients(fitted))
    _print_noise(console, fitted)
    for detail in tables(fitted.law, fitted.details):
        if isinstance(detail, str):
            say(console, detail)
        else:
            console.print(detail)
    if best := optima(fitted):
        console.print(_optima(best, fitted.level))
    print_warnings(console, fitted.warnings)


def print_prediction(fitted: Fit, inputs: Mapping[str, float], output: Interval) -> None:
    """Print a prediction with its interval."""
    console = terminal()
    at = ", ".join(f"{name} = {write_count(value)}" for name, value in inputs.items())
    say(
        console,
        f"{fitted.form.output} at {at}: {output.value:.5g}, {fitted.level:.0%} prediction interval "
        f"{_span(output.low, output.high, digits=5)}",
    )
    if (transition := output.transition) is not None:
        say(
            console,
            f"by the law alone {_span(transition.low, output.high, digits=5)}; the lower end holds "
            f"{transition.share:.0%} more for a transition",
        )
    print_warnings(console, output.warnings)
    _print_fit_codes(console, fitted)


def print_optimum(fitted: Fit, best: Optimum) -> None:
    """Print one split of one budget."""
    console = terminal()
    console.print(_optima([best], fitted.level))
    if best.excess > 0:
        say(console, f"this split loses {best.excess:.4g} in loss against the best one")
    print_warnings(console, tuple(dict.fromkeys((*best.warnings, *best.loss.warnings))))
    _print_fit_codes(console, fitted)


def print_warnings(console: Console, warnings: Iterable[Diagnostic]) -> None:
    """Print one line per warning, with its code."""
    for warning in warnings:
        say(console, str(warning), label="warning:")


def warning_codes(fitted: Fit) -> list[str]:
    """The codes of the warnings of a fit, each once."""
    return list(dict.fromkeys(warning.code for warning in fitted.warnings))


def _print_fit_codes(console: Console, fitted: Fit) -> None:
    """Print the codes of the warnings of the fit, which `fit` printed in full."""
    if codes := warning_codes(fitted):
        say(console, f"{', '.join(codes)} (docs/fit.md)", label="the fit itself warns:")


def _conventions(fitted: Fit) -> list[str]:
    """The columns of a fit, and the conventions for their units."""
    columns = set(fitted.columns)
    conventions = [f"{name} = column {column!r}" for name, column in fitted.columns.items()]
    if "loss" in columns:
        conventions.append(f"loss in {fitted.loss_unit}")
    if "params" in columns:
        conventions.append(f"params {fitted.params_convention}")
    if columns & {"tokens", "flops"}:
        conventions.append(f"C = {fitted.flop_rule}")
    return conventions


def _coefficients(fitted: Fit) -> Table:
    table = Table(box=None)
    for name in ("", "value", f"{fitted.level:.0%} interval ({fitted.method})"):
        table.add_column(name, justify="right")
    values = dict(fitted.coefficients)
    if fitted.form.allocates:
        a, b = fitted.exponents
        # a and b are coefficients of some laws already.
        values |= {} if "a" in values else {"a": a.value, "b": b.value}
    for name, value in values.items():
        span = fitted.intervals.get(name)
        table.add_row(name, f"{value:.5g}", _span(*span) if span else "none")
    return table


def _print_noise(console: Console, fitted: Fit) -> None:
    unit = ".2%" if fitted.form.multiplicative else ".3g"
    seeds = f", seeds {fitted.sigma_seed:{unit}}" if fitted.sigma_seed is not None else ""
    of = f"ln {fitted.form.output}" if fitted.form.multiplicative else fitted.form.output
    if isinstance(fitted.form, TwoStepLaw):
        of = "the runs (ln)"
    say(
        console,
        f"noise of {of}: trunk {fitted.sigma_trunk:{unit}}, branch {fitted.sigma_branch:{unit}}"
        f"{seeds}; residual rms {fitted.residual_rms:{unit}}",
    )
    if fitted.misfit is None:
        _print_search(console, fitted)
    _print_holdout(console, fitted, unit)
    if (pulls := fitted.influence) is not None:
        name = INFLUENCED.get(pulls.quantity, pulls.quantity)
        for pull in (*pulls.trunks[:1], *pulls.rows[:1]):
            kind = "trunk " if pull in pulls.trunks else ""
            if abs(pull.shift) < NO_SHIFT:
                continue
            say(
                console,
                f"influence: without {kind}{pull.label}, {name} is {pull.value_without:.4g} "
                f"instead of {pulls.value:.4g}",
            )


def _print_search(console: Console, fitted: Fit) -> None:
    delta = f", delta {fitted.delta:.3g}" if fitted.delta is not None else ""
    say(
        console,
        f"objective {fitted.objective}{delta}: sum {fitted.objective_value:.8g}, gradient "
        f"{fitted.gradient_norm:.1e}; {fitted.starts_agreeing} of {fitted.starts} starts agree",
    )


def _print_holdout(console: Console, fitted: Fit, unit: str) -> None:
    for held in fitted.holdouts:
        say(console, holdout_line(held, fitted.level, unit))


def holdout_line(held: HoldOut, level: float, unit: str) -> str:
    """The score of a hold-out in words; errors in `unit`, a format."""
    # The logarithm of a forecast of 0 or less is none.
    bias = "none" if math.isnan(held.error) else f"{held.error:+{unit}}"
    verdict = covered = ""
    if held.inside is not None:
        verdict = f" ({'inside' if held.inside else 'outside'} its {level:.0%} interval)"
    if held.covered is not None:
        covered = f"; {_share_inside(held)} inside their own intervals"
    naive = "".join(f"; {name} {error:.2%}" for name, error in held.baselines.items())
    return (
        f"hold-out, {held.what}: mean relative error {held.mean_relative_error:.2%}, bias "
        f"{bias}{verdict}{covered}{naive}"
    )


def _share_inside(held: HoldOut) -> str:
    count = len(held.points) or held.rows
    unit = "rows" if count == held.rows else "points"
    return f"{round((held.covered or 0) * count)} of {count} {unit}"


def _optima(best: Iterable[Optimum], level: float) -> Table:
    """A table of optima with one column per budget."""
    shown = list(best)
    known = not all(math.isnan(each.ratio.low) or each.excess for each in shown)
    title = "this split" if shown[0].excess else "compute-optimal"
    title += f" ({level:.0%} intervals)" if known else ""
    table = Table(box=None, title=title, title_justify="left")
    table.add_column("FLOPs")
    for each in shown:
        table.add_column(f"{each.flops:.2e}", justify="right", no_wrap=True)
    table.add_row("tokens/param", *(_interval(each.ratio) for each in shown))
    if any(each.ratio_exact is not None for each in shown):
        exact = (each.ratio_exact for each in shown)
        table.add_row("  exact FLOPs", *(_interval(x) if x else "none" for x in exact))
    table.add_row("params", *(_interval(each.params) for each in shown))
    table.add_row("tokens", *(_interval(each.tokens) for each in shown))
    if not all(math.isnan(each.loss.value) for each in shown):
        table.add_row("loss", *(_loss(each.loss) for each in shown))
    return table


def _loss(loss: Interval) -> str:
    if math.isnan(loss.low):
        return f"{loss.value:.4g}"
    return f"{loss.value:.4g} ({loss.low:.4g} to {loss.high:.4g})"


def _interval(interval: Interval) -> str:
    if math.isnan(interval.low) or interval.low == interval.high:
        return write_count(interval.value)
    ends = (
        write_count(end) if math.isfinite(end) else "unbounded"
        for end in (interval.low, interval.high)
    )
    return f"{write_count(interval.value)} ({' to '.join(ends)})"


def _span(low: float, high: float, *, digits: int = 4) -> str:
    if math.isnan(low):
        return "none"
    return " to ".join(
        f"{end:.{digits}g}" if math.isfinite(end) else "unbounded" for end in (low, high)
    )


ROWS_SHOWN = 40
"""Most rows of a table: a batch law has 30 loss levels per size."""

COLUMNS: Mapping[str, Mapping[str, tuple[tuple[str, str], ...]]] = {
    "auto": {
        "forms": (("form", "form"), ("weight", "weight"), ("optimal D/N", "ratio")),
        "extrapolations": (
            ("form", "form"),
            ("held out by", "axis"),
            ("top", "factor"),
            ("rows", "rows"),
            ("decades", "decades"),
            ("mean error (ln)", "error"),
            ("bias (ln)", "bias"),
        ),
    },
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
    """The details of a law as tables and sentences; a sentence follows a cut table."""
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
    if band := details.get("band"):
        yield _band(band)
    yield from _sentences(law, details)


def _band(band: Mapping[str, Any]) -> Table:
    """The laws at the ends and in the middle of a band, one a column."""
    at = f", optimum at {band['flops']:.2e} FLOPs" if band["flops"] is not None else ""
    title = f"{band['fixed']} fixed from {band['low']:g} to {band['high']:g}{at}"
    table = Table(box=None, title=title, title_justify="left")
    for heading in ("", "low", "middle", "high"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in band["laws"][0]:
        table.add_row(name, *(_cell(law, name) for law in band["laws"]))
    return table


def _misfit(details: Mapping[str, Any]) -> str:
    """The misfit of `auto`, and how much wider intervals become beyond the table."""
    widths = " and ".join(
        f"{factor:.2f} times as wide in {axis}" for axis, factor in details["widening"].items()
    )
    if details.get("assumed"):
        return f"no misfit; beyond the table intervals are {widths}, as assumed with the form"
    return (
        f"smooth misfit {details['misfit']:.2%} half a table from its middle; beyond the table "
        f"intervals are {widths}, as rolling extrapolations ask"
    )


def _sentences(law: str, details: Mapping[str, Any]) -> Iterator[str]:
    if law == "auto":
        yield _misfit(details)
    elif law == "isoflop":
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
            f"{_percents(details)}"
        )


def _percents(details: Mapping[str, Any]) -> str:
    """Regrets in per cent of the lowest loss; empty for a fit of an earlier version."""
    mean, worst = details.get("regret_mean_percent"), details.get("regret_worst_percent")
    return "" if mean is None else f" ({mean:.3g}% and {worst:.3g}% of the lowest loss)"


def _cell(row: Mapping[str, Any], path: str) -> str:
    value: Any = row
    for key in path.split("."):
        value = value[key]
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
