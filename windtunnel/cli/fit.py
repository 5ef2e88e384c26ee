"""`windtunnel fit`: a study or anyone's table in, a law with intervals and warnings out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from windtunnel.cli.fit_errors import of_source
from windtunnel.cli.fit_pairs import numbered, pairs, words
from windtunnel.cli.output import check_output, write_output
from windtunnel.cli.text import print_json
from windtunnel.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from windtunnel.config import StudyConfig
    from windtunnel.laws import Diagnostic, Fit, Table
    from windtunnel.tables.file import TableFile
    from windtunnel.tables.read import ReadTable

OF_SIZE_AND_DATA = {"chinchilla", "isoflop", "envelope", "data-constrained"}
MIXTURE = "mixture"
"""A law of another kind: not of size and data, but of what the data is made of."""
# Taken along where a table has them: other laws of the same table, and what a fit compares with.
OPTIONAL = ("flops", "flops_exact", "params", "tokens", "loss")


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Every option of the command, as typed."""

    law: str
    columns: Mapping[str, str] = field(default_factory=dict)
    scale: tuple[str, ...] = ()
    flop_rule: str = "6ND"
    where: tuple[str, ...] = ()
    drop_highest: int = 0
    experiment: tuple[str, ...] = ()
    holdout: str = "largest"
    fix: tuple[str, ...] = ()
    tie: tuple[str, ...] = ()
    objective: str | None = None
    delta: str | None = None
    intervals: str = "two-level"
    bootstrap: int = 1000
    seed: int = 0
    level: float = 0.9
    interpolate: str = "akima"
    target: tuple[str, ...] = ()
    default: tuple[str, ...] = ()


def run_fit(
    source: Path, options: FitOptions, *, out: Path | None, figures: Path | None, as_json: bool
) -> None:
    """Fit, print, and write where asked.

    Raises:
        ConfigError: An unknown law, option value, column or file.
        FitError: The table cannot carry the law.
    """
    check_output("--out", out, inputs=[source], study=source if is_study_file(source) else None)
    if options.law == MIXTURE:
        from windtunnel.cli.fit_mixture import run_fit_mixture

        run_fit_mixture(source, options, out=out, figures=figures, as_json=as_json)
        return
    fitted, table = fit_source(source, options)
    if out is not None:
        write_output("--out", out, fitted.to_json())
    written = [] if out is None else [out]
    if figures is not None:
        from windtunnel.report.figures.registry import write_figures

        written += write_figures(fitted, table, figures)
    if as_json:
        print_json(json.loads(fitted.to_json()))
        return
    from windtunnel.cli.fit_text import print_fit

    print_fit(fitted)
    for path in written:
        print(f"wrote {path}")


def fit_source(source: Path, options: FitOptions) -> "tuple[Fit, Table]":
    """The fit that the options ask for, and the table it was made from."""
    from windtunnel.laws import LAWS, fit
    from windtunnel.laws.regression import METHODS
    from windtunnel.laws.solver import OBJECTIVES
    from windtunnel.laws.two_step.isoflop import READINGS

    _one_of("--law", options.law, (*LAWS, MIXTURE))
    for name in ("target", "default"):
        if getattr(options, name):
            raise ConfigError(f"--{name}: an option of --law {MIXTURE} alone")
    _one_of("--intervals", options.intervals, METHODS)
    _one_of("--interpolate", options.interpolate, READINGS)
    if options.objective is not None:
        _one_of("--objective", options.objective, OBJECTIVES)
    if not 0 < options.level < 1:
        raise ConfigError(f"--level {options.level:g}: between 0 and 1, for example 0.9")
    fix, tie = pairs("--fix", options.fix, numbered), pairs("--tie", options.tie, words)
    read = read_source(source, options)
    table = read.table
    with of_source(source, table):
        fitted = fit(
            table,
            options.law,
            objective=cast("Any", options.objective),
            delta=_delta(options.delta),
            fix=fix,
            tie=tie,
            intervals=cast("Any", options.intervals if options.bootstrap else "none"),
            bootstrap=options.bootstrap,
            seed=options.seed,
            level=options.level,
            holdout=read.holdout,
            interpolate=cast("Any", options.interpolate),
        )
    return fitted.warned(*read.diagnostics).made_from(dict(read.inputs)), table


def read_source(source: Path, options: FitOptions) -> "ReadTable":
    """The table of a study or of a file, selected and checked."""
    from windtunnel.laws import OF_CURVES, needs_of
    from windtunnel.tables.read import read_table
    from windtunnel.tables.warnings import loss_unit, of_unit

    file, said, inputs = source_file(source, options)
    needs = needs_of(options.law)
    named = {name: column for name, column in options.columns.items() if column}
    read = read_table(
        file,
        columns=named,
        needs=needs,
        optional=[name for name in OPTIONAL if name not in needs],
        where=options.where,
        drop_highest=options.drop_highest,
        flop_rule=options.flop_rule,
        holdout=options.holdout,
        decayed_only=options.law not in OF_CURVES,
        scale=pairs("--scale", options.scale, numbered),
    )
    table = read.table
    if is_study_file(source):
        from windtunnel.runs.imported import imported_diagnostics

        kept, cells = set(table.labels["run"].tolist()), zip(*file.columns.values(), strict=True)
        rows = [dict(zip(file.columns, each, strict=True)) for each in cells]
        said += imported_diagnostics([row for row in rows if row["run"] in kept])
    else:
        column = table.names.get("loss", "loss")
        unit = loss_unit(column)
        said = (*said, *of_unit(column))
        table = table.stated(
            loss_unit=f"{unit}, by its name" if unit else "nats per token, assumed",
            params_convention="as counted in the table",
        )
    return read._replace(table=table, diagnostics=(*said, *read.diagnostics), inputs=inputs)


def is_study_file(source: Path) -> bool:
    """Whether it is a study, and no table."""
    return source.suffix in {".yaml", ".yml"}


def source_file(
    source: Path, options: FitOptions
) -> "tuple[TableFile, tuple[Diagnostic, ...], dict[str, str]]":
    """Raw cells of a study's runs or of a file, what must be said of them, and `Fit.inputs`."""
    from windtunnel.tables.formats import read_file

    if is_study_file(source):
        return _study_file(source, options)
    if options.experiment:
        raise ConfigError(f"--experiment {options.experiment[0]}: only a study has experiments")
    return read_file(source), (), {}


def _said_options(options: FitOptions) -> dict[str, str]:
    """Options that make the fit another one than that of the study's own columns and rows."""
    columns = [f"--{name} {column}" for name, column in options.columns.items() if column]
    columns += [f"--scale {each}" for each in options.scale]
    columns += [f"--flop-rule {options.flop_rule}"] if options.flop_rule != "6ND" else []
    rows = [f"--where {each!r}" for each in options.where]
    rows += [f"--drop-highest {options.drop_highest}"] if options.drop_highest else []
    rows += [f"--fix {each}" for each in options.fix] + [f"--tie {each}" for each in options.tie]
    rows += [f"--objective {options.objective}"] if options.objective else []
    said = {"columns": " ".join(columns), "options": " ".join(rows)}
    return {name: text for name, text in said.items() if text}


def _fitted_experiments(config: "StudyConfig", law: str) -> set[str]:
    """Whose rows a law takes: one recipe's for laws of size and data, and one mixture's.

    Trials of a search differ in their recipes, variants of a branch experiment in their data.
    """
    from windtunnel.config.branch import BranchExperiment
    from windtunnel.config.search import SearchExperiment
    from windtunnel.config.study import ScalingExperiment

    scaling = {e.name for e in config.experiments if isinstance(e, ScalingExperiment)}
    if scaling and law in OF_SIZE_AND_DATA:
        return scaling
    if law == MIXTURE:
        branching = [e for e in config.experiments if isinstance(e, BranchExperiment)]
        designed = {e.name for e in branching if e.design is not None}
        return designed or {e.name for e in branching}
    others = (SearchExperiment, BranchExperiment)
    return {e.name for e in config.experiments if not isinstance(e, others)}


def _study_file(
    source: Path, options: FitOptions
) -> "tuple[TableFile, tuple[Diagnostic, ...], dict[str, str]]":
    """A study's runs as a table: finished segments, or whole curves for the laws of curves."""
    from windtunnel.errors import FitError
    from windtunnel.laws import OF_CURVES, Diagnostic
    from windtunnel.report.collect import execution_warnings
    from windtunnel.runs.curves import curve_diagnostics, read_curve
    from windtunnel.runs.forecast import law_inputs
    from windtunnel.runs.imported import study_rows
    from windtunnel.runs.study import open_study
    from windtunnel.runs.table import gather
    from windtunnel.tables.file import TableFile

    study = open_study(source)
    for asked in options.experiment:
        _one_of("--experiment", asked, [each.name for each in study.config.experiments])
    taken = set(options.experiment) or _fitted_experiments(study.config, options.law)
    imports = options.law in OF_SIZE_AND_DATA and options.law not in OF_CURVES
    rows: list[dict[str, Any]] = [
        {**row, "run": row["segment"]}
        for row in (study_rows(study) if imports else gather(study.store, study.plan))
        if taken & set(row["experiment"].split("+"))
    ]
    if options.law == MIXTURE:
        from windtunnel.cli.fit_mixture import of_variants

        rows = of_variants(rows, study.config, taken)
    inputs = law_inputs(study.config.study, rows, taken) | _said_options(options)
    if options.law not in OF_CURVES and not any("decayed" in text for text in options.where):
        rows = [row for row in rows if row["decayed"]]
    if options.law == "envelope":
        wanted = {row["segment"] for row in rows}
        of_curves = [p for p in study.plan.segments if p.id in wanted]
        curves = (read_curve(study.store, p) for p in of_curves)
        rows = [
            {"run": c.segment, "trunk": c.trunk, "params": c.params, "tokens": t, "loss": value}
            for c in curves
            if c is not None
            for t, value in zip(c.tokens.tolist(), c.loss.tolist(), strict=True)
        ]
    if not taken:
        kind = "branch" if options.law == MIXTURE else "scaling or grid"
        there = ", ".join(f"{each.name} ({each.kind})" for each in study.config.experiments)
        raise FitError(
            f"{source}: law {options.law} takes a {kind} experiment, and the study has {there}; "
            "add one, or name one of these with --experiment"
        )
    if not rows:
        raise FitError(
            f"{source}: no finished segment yet of {', '.join(sorted(taken))}: a law needs at "
            "least 6; run the sweep, or name another experiment with --experiment"
        )
    names = dict.fromkeys(name for row in rows for name in row)
    said = tuple(Diagnostic("mixed-execution", text) for text in execution_warnings(study))
    if options.law == "envelope":
        said += curve_diagnostics(study.store, of_curves)
    return (
        TableFile(
            path=source,
            columns={name: [row.get(name) for row in rows] for name in names},
            places=[f"segment {row['run']}" for row in rows],
        ),
        said,
        inputs,
    )


def _one_of(option: str, value: str, allowed: Any) -> None:
    if value not in allowed:
        hint = did_you_mean(value, allowed)
        raise ConfigError(f"{option} {value}: allowed are {', '.join(allowed)}{hint}")


def _delta(text: str | None) -> Any:
    from windtunnel.laws.conditions import number

    if text is None or text == "auto":
        return text
    value = number(text)
    if value is None:
        raise ConfigError(f"--delta {text}: a number such as 1e-3, or auto")
    return value
