"""`windtunnel fit`: a fitted law with intervals and warnings, from a study or a table of runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from windtunnel.cli.options import (
    INPUT,
    OUTPUT,
    ROWS,
    AsJson,
    Scale,
    Where,
    check_choice,
    column,
    fixed,
    pairs,
    words,
)
from windtunnel.cli.output import check_output, write_output
from windtunnel.cli.text import print_json
from windtunnel.errors import ConfigError

if TYPE_CHECKING:
    from windtunnel.cli.fit_rows import FitOptions
    from windtunnel.laws import Fit, Table

LAW, OPTIMISATION, INTERVALS = "Law", "Optimisation", "Intervals"
MIXTURES = "Only for --law mixture"
"""Panels of the help."""


def fit(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Study file, or table of runs: .csv, .tsv, .json, .jsonl or .parquet.",
        ),
    ],
    law: Annotated[
        str | None,
        typer.Option(
            help="auto, chinchilla, coupled, power, power-offset, exp-offset, power2, isoflop, "
            "envelope, lr-valley, batch, data-constrained, sigmoid, moe, moe-data, upcycling or "
            "mixture; see docs/fit.md. "
            "Default: auto, or chinchilla with an option that auto does not take.",
            rich_help_panel=LAW,
        ),
    ] = None,
    params: Annotated[str, column("Parameters N.")] = "",
    tokens: Annotated[str, column("Training tokens D.")] = "",
    loss: Annotated[str, column("Loss.")] = "",
    flops: Annotated[str, column("Training compute C.")] = "",
    run: Annotated[str, column("Label of the run that a point of a curve belongs to.")] = "",
    trunk: Annotated[str, column("Label of the trunk that a run branched from.")] = "",
    x: Annotated[str, column("x of a power law.")] = "",
    y: Annotated[str, column("y of a power law.")] = "",
    z: Annotated[str, column("z of power2.")] = "",
    lr: Annotated[str, column("Learning rate.")] = "",
    batch_tokens: Annotated[str, column("Batch size in tokens.")] = "",
    unique_tokens: Annotated[str, column("Unique tokens.")] = "",
    score: Annotated[str, column("Task score.")] = "",
    experts: Annotated[str, column("Number of experts; 1 is a dense model.")] = "",
    sunk_tokens: Annotated[
        str, column("Tokens of the dense model before it was upcycled; tokens are then new ones.")
    ] = "",
    scale: Scale = None,
    flop_rule: Annotated[str, typer.Option(help="k of C = k N D.", rich_help_panel=INPUT)] = "6ND",
    where: Where = None,
    drop_highest: Annotated[
        int, typer.Option(min=0, help="Leave out the K highest losses.", rich_help_panel=ROWS)
    ] = 0,
    holdout: Annotated[
        str,
        typer.Option(
            metavar="CONDITION",
            help="Trunks to hold out and predict from the others: 'flops>=1e21', largest or none.",
            rich_help_panel=ROWS,
        ),
    ] = "largest",
    experiment: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Keep only the runs of this experiment of a study. Repeatable.",
            rich_help_panel=ROWS,
        ),
    ] = None,
    fix: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Fix a coefficient, in raw units. LOW..HIGH: in the middle, and refit the law at "
            "both ends. Every coefficient: judge that law (as --evaluate). Repeatable.",
            rich_help_panel=LAW,
        ),
    ] = None,
    tie: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NAME",
            help="Constrain two coefficients to be equal, for example alpha=beta. Repeatable.",
            rich_help_panel=LAW,
        ),
    ] = None,
    evaluate: Annotated[
        Path | None,
        typer.Option(
            metavar="FIT.json",
            help="Fit nothing: judge the law of this fit on the table, every row unseen. --fix of "
            "every coefficient judges a stated law.",
            rich_help_panel=LAW,
        ),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="huber-log, mse-log, mse or huber; default: huber-log, for sigmoid huber.",
            rich_help_panel=OPTIMISATION,
        ),
    ] = None,
    delta: Annotated[
        str | None,
        typer.Option(
            help="Huber delta, or auto: 1.345 times the noise sigma. Default: auto for power2 and "
            "if repeated seeds measure the noise, otherwise 1e-3.",
            rich_help_panel=OPTIMISATION,
        ),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Known noise of the loss between seeds, 0.2% or 0.002, for a table without seeds: "
            "for laws of the loss of runs: auto, chinchilla, coupled, data-constrained, moe, "
            "moe-data and upcycling.",
            rich_help_panel=INTERVALS,
        ),
    ] = None,
    intervals: Annotated[
        str,
        typer.Option(help="Method: two-level, case, profile or none.", rich_help_panel=INTERVALS),
    ] = "two-level",
    bootstrap: Annotated[
        int,
        typer.Option(
            min=0, help="Number of resamples; 0: no intervals.", rich_help_panel=INTERVALS
        ),
    ] = 1000,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the resampling.", rich_help_panel=INTERVALS)
    ] = 0,
    level: Annotated[
        float, typer.Option(help="Confidence level.", rich_help_panel=INTERVALS)
    ] = 0.9,
    interpolate: Annotated[
        str,
        typer.Option(
            help="isoflop: how the minimum of a budget is interpolated: akima, parabola or "
            "parametric.",
            rich_help_panel=OPTIMISATION,
        ),
    ] = "akima",
    over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COL",
            help="power2: another swept column, over which each y has its lowest loss; or none. "
            "Default: those that look swept. Repeatable.",
            rich_help_panel=LAW,
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SET[=WEIGHT]",
            help="Validation set whose loss the best mixture minimises; default: the mean over "
            "all sets. Repeatable.",
            rich_help_panel=MIXTURES,
        ),
    ] = None,
    default: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE=SHARE",
            help="Mixture that the best one is compared with. Repeatable.",
            rich_help_panel=MIXTURES,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the fit to this JSON file.", rich_help_panel=OUTPUT)
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Write figures to this folder.", rich_help_panel=OUTPUT)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit a scaling law to the runs of a study or of a table.

    Prints coefficients with intervals, the error on held-out runs, and warnings.
    """
    from windtunnel.cli.fit_rows import FitOptions

    options = FitOptions(
        law=law or _default_law(intervals, bootstrap, objective, delta, fix, tie),
        columns={
            "params": params, "tokens": tokens, "loss": loss, "flops": flops, "run": run,
            "trunk": trunk, "x": x, "y": y, "z": z, "lr": lr, "batch_tokens": batch_tokens,
            "unique_tokens": unique_tokens, "score": score, "experts": experts,
            "sunk_tokens": sunk_tokens,
        },
        scale=tuple(scale or ()),
        flop_rule=flop_rule,
        where=tuple(where or ()),
        drop_highest=drop_highest,
        experiment=tuple(experiment or ()),
        holdout=holdout,
        fix=tuple(fix or ()),
        tie=tuple(tie or ()),
        objective=objective,
        delta=delta,
        intervals=intervals,
        noise=noise,
        bootstrap=bootstrap,
        seed=seed,
        level=level,
        interpolate=interpolate,
        over=tuple(over or ()),
        target=tuple(target or ()),
        default=tuple(default or ()),
    )  # fmt: skip
    if evaluate is not None or _is_stated(options):
        from windtunnel.cli.evaluate import run_evaluate

        refuse_others = {"law": law, "figures": figures}
        run_evaluate(source, options, evaluate, refuse_others, out=out, as_json=as_json)
        return
    run_fit(source, options, out=out, figures=figures, as_json=as_json)


def _is_stated(options: "FitOptions") -> bool:
    """Whether --fix states every coefficient of a formula, each as one number."""
    from windtunnel.laws.registry import FORMULAS

    if options.law not in FORMULAS or any(".." in text for text in options.fix):
        return False
    fixed = {text.partition("=")[0].strip() for text in options.fix}
    return set(FORMULAS[options.law].names()) <= fixed


def _default_law(intervals: str, bootstrap: int, *options: object) -> str:
    from windtunnel.laws.fitting import default_law

    return default_law(intervals=intervals, bootstrap=bootstrap, others=any(options))


def run_fit(
    source: Path, options: "FitOptions", *, out: Path | None, figures: Path | None, as_json: bool
) -> None:
    """Fit a law, print it, and write the files that were requested.

    Raises:
        ConfigError: An unknown law, option value, column or file.
        FitError: The law cannot be fitted to the table.
    """
    from windtunnel.cli.fit_rows import is_study_file
    from windtunnel.runs.law_rows import MIXTURE

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
    from windtunnel.cli.print_fit import print_fit

    print_fit(fitted)
    for path in written:
        print(f"wrote {path}")


def fit_source(source: Path, options: "FitOptions") -> "tuple[Fit, Table]":
    """The fit that the options define, and the table it was made from.

    Raises:
        ConfigError: An unknown law, option value, column or file.
        FitError: The law cannot be fitted to the table.
    """
    from windtunnel.cli.fit_rows import read_source
    from windtunnel.laws import LAWS
    from windtunnel.laws import fit as fit_law
    from windtunnel.laws.regression import METHODS
    from windtunnel.laws.solver import OBJECTIVES
    from windtunnel.laws.two_step.isoflop import READINGS
    from windtunnel.runs.law_rows import MIXTURE
    from windtunnel.tables.law_table import naming_source

    check_choice("--law", options.law, (*LAWS, MIXTURE))
    for name in ("target", "default"):
        if getattr(options, name):
            raise ConfigError(
                "contradicting-options",
                f"--{name}: an option of --law {MIXTURE} alone",
                options=[f"--{name}", "--law"],
                law=options.law,
            )
    check_choice("--intervals", options.intervals, METHODS)
    check_choice("--interpolate", options.interpolate, READINGS)
    if options.objective is not None:
        check_choice("--objective", options.objective, OBJECTIVES)
    if not 0 < options.level < 1:
        raise ConfigError(
            "out-of-range",
            f"--level {options.level:g}: between 0 and 1, for example 0.9",
            option="--level",
            value=options.level,
        )
    fix, tie = pairs("--fix", options.fix, fixed), pairs("--tie", options.tie, words)
    read = read_source(source, options)
    table = read.table
    with naming_source(source, table):
        fitted = fit_law(
            table,
            options.law,
            objective=cast("Any", options.objective),
            delta=delta_of(options.delta),
            fix=fix,
            tie=tie,
            noise=_noise(options.noise),
            intervals=cast("Any", options.intervals if options.bootstrap else "none"),
            bootstrap=options.bootstrap,
            seed=options.seed,
            level=options.level,
            holdout=read.holdout,
            interpolate=cast("Any", options.interpolate),
            over=_over(options.over),
        )
    return fitted.warned(*read.diagnostics).made_from(dict(read.inputs)), table


def _over(columns: tuple[str, ...]) -> tuple[str, ...] | None:
    """The columns of `--over`; empty for the word none, None where the option was not given."""
    return () if columns == ("none",) else columns or None


def _noise(text: str | None) -> float | None:
    """The number of --noise; a share, also in per cent.

    Raises:
        ConfigError: It is none.
    """
    from windtunnel.laws.conditions import number

    if text is None:
        return None
    per_cent = text.strip().endswith("%")
    value = number(text.strip().removesuffix("%"))
    if value is None:
        raise ConfigError(
            "not-a-number",
            f"--noise {text}: a share such as 0.002 or 0.2%",
            option="--noise",
            value=text,
        )
    return value / 100 if per_cent else value


def delta_of(text: str | None) -> Any:
    """The number of --delta, or `auto`.

    Raises:
        ConfigError: It is neither.
    """
    from windtunnel.laws.conditions import number

    if text is None or text == "auto":
        return text
    value = number(text)
    if value is None:
        raise ConfigError(
            "not-a-number",
            f"--delta {text}: a number such as 1e-3, or auto",
            option="--delta",
            value=text,
        )
    return value
