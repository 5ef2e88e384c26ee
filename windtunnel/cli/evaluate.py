"""`windtunnel fit --evaluate`: a given law on a table that it was not fitted to."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from windtunnel.cli.options import check_choice, numbered, pairs
from windtunnel.cli.output import check_output, write_output
from windtunnel.cli.text import print_json, say, terminal
from windtunnel.errors import ConfigError

if TYPE_CHECKING:
    from windtunnel.cli.fit_rows import FitOptions
    from windtunnel.laws import Evaluation, Law

OF_FITS = (
    "tie",
    "holdout",
    "noise",
    "over",
    "intervals",
    "bootstrap",
    "interpolate",
    "target",
    "default",
)
"""Options that only a fit has."""


def run_evaluate(
    source: Path,
    options: "FitOptions",
    fit: Path | None,
    others: Mapping[str, object],
    *,
    out: Path | None,
    as_json: bool,
) -> None:
    """Judge the law of a fit, or the one that `--fix` states, and print it.

    Args:
        source: Study file or table.
        options: As typed.
        fit: File of the fit; None: the coefficients of `--fix`.
        others: `law` and `figures`, as typed.
        out: File for the document.
        as_json: Whether to print it.

    Raises:
        ConfigError: An option that only a fit has, or a wrong column.
        FitError: The file holds no fit, or its law predicts no rows.
    """
    from windtunnel.cli.fit_rows import is_study_file, read_source
    from windtunnel.laws import evaluate
    from windtunnel.laws.registry import law_named
    from windtunnel.laws.result import Fit
    from windtunnel.laws.solver import OBJECTIVES
    from windtunnel.tables.law_table import naming_source

    inputs = [source] if fit is None else [source, fit]
    check_output("--out", out, inputs=inputs, study=source if is_study_file(source) else None)
    _refuse(options, fit, others)
    if options.objective is not None:
        check_choice("--objective", options.objective, OBJECTIVES)
    given: Fit | Law
    if fit is None:
        law = law_named(options.law)
        fixed = pairs("--fix", options.fix, numbered)
        for name in fixed:
            law.index(name)
        given = law(**fixed)
    else:
        given = Fit.read(fit)
        options = dataclasses.replace(options, law=given.law)
    read = read_source(source, options)
    from windtunnel.cli.fit import delta_of

    with naming_source(source, read.table):
        found = evaluate(
            given,
            read.table,
            objective=cast("Any", options.objective),
            delta=delta_of(options.delta),
            level=options.level,
            seed=options.seed,
            name=str(fit) if fit is not None else "coefficients",
        )
    found = dataclasses.replace(found, warnings=(*read.diagnostics, *found.warnings))
    if out is not None:
        write_output("--out", out, found.to_json())
    if as_json:
        print_json(json.loads(found.to_json()))
        return
    print_evaluation(found)
    if out is not None:
        print(f"wrote {out}")


def _refuse(options: "FitOptions", fit: Path | None, others: Mapping[str, object]) -> None:
    """Refuse the options that would change nothing.

    Raises:
        ConfigError: One of them is given.
    """
    plain = type(options)(law=options.law)
    names = [*OF_FITS, *(("fix", "level", "seed") if fit is not None else ())]
    given = [name for name in names if getattr(options, name) != getattr(plain, name)]
    given += [name for name in others if others[name] is not None and (fit or name == "figures")]
    if given:
        what = "--evaluate" if fit is not None else "--fix of every coefficient"
        raise ConfigError(
            "contradicting-options",
            f"--{given[0]}: {what} fits nothing, and judges the law as it is",
            options=[what, *(f"--{name}" for name in given)],
        )


def print_evaluation(found: "Evaluation") -> None:
    """Print the score of a given law: coefficients, objective, errors, drift and warnings."""
    from windtunnel.cli.print_fit import holdout_line, print_warnings

    console = terminal()
    rows = f"{found.rows} rows of {found.trunks} trunks, none of which it was fitted to"
    say(console, f"{found.formula} of {found.given}, on {rows}")
    for line in found.filters:
        say(console, line, label="filter:")
    for why, count in found.dropped:
        say(console, f"{count} rows: {why}", label="left out:")
    numbers = found.coefficients.items()
    say(console, ", ".join(f"{name} {value:.5g}" for name, value in numbers))
    delta = "" if found.delta is None else f", delta {found.delta:.3g}"
    say(
        console,
        f"objective {found.objective}{delta}: sum {found.objective_value:.8g}; residual rms "
        f"{found.residual_rms:.3%}",
    )
    say(console, holdout_line(found.score, found.level, ".2%"))
    if (drift := found.drift) is not None:
        say(
            console,
            f"drift: {drift.bias:+.2%} on average, {drift.slope * math.log(10):+.2%} per decade of "
            f"{drift.against} (standard error {drift.standard_error * math.log(10):.2%}, "
            f"p = {drift.p:.2g})",
        )
    print_warnings(console, found.warnings)
