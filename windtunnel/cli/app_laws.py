"""The commands of laws: fit one, predict from it, split a budget by it."""

from pathlib import Path
from typing import Annotated

import typer

from windtunnel.cli.options import AsJson

laws = typer.Typer()

FitFile = Annotated[
    Path, typer.Argument(metavar="FIT.json", help="What windtunnel fit --out wrote.")
]


@laws.command()
def fit(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A study file, or a table of runs: .csv, .tsv, .json, .jsonl or .parquet.",
        ),
    ],
    law: Annotated[
        str,
        typer.Option(
            help="chinchilla, power, power-offset, exp-offset, power2, isoflop, envelope, "
            "lr-valley, batch, data-constrained, sigmoid or mixture; see docs/fit.md."
        ),
    ] = "chinchilla",
    params: Annotated[str, typer.Option(metavar="COL", help="Column with N.")] = "",
    tokens: Annotated[str, typer.Option(metavar="COL", help="Column with D.")] = "",
    loss: Annotated[str, typer.Option(metavar="COL", help="Column with the loss.")] = "",
    flops: Annotated[str, typer.Option(metavar="COL", help="Column with compute C.")] = "",
    run: Annotated[str, typer.Option(metavar="COL", help="Column that tells curves apart.")] = "",
    trunk: Annotated[str, typer.Option(metavar="COL", help="Column with the trunk's label.")] = "",
    x: Annotated[str, typer.Option(metavar="COL", help="Column x of power laws.")] = "",
    y: Annotated[str, typer.Option(metavar="COL", help="Column y of power laws.")] = "",
    z: Annotated[str, typer.Option(metavar="COL", help="Column z of power2.")] = "",
    lr: Annotated[str, typer.Option(metavar="COL", help="Column with the learning rate.")] = "",
    batch_tokens: Annotated[
        str, typer.Option(metavar="COL", help="Column with the batch, in tokens.")
    ] = "",
    unique_tokens: Annotated[
        str, typer.Option(metavar="COL", help="Column with the unique tokens.")
    ] = "",
    score: Annotated[str, typer.Option(metavar="COL", help="Column with the task score.")] = "",
    scale: Annotated[
        list[str] | None,
        typer.Option(metavar="COL=FACTOR", help="Multiply a column, as params=1e9. Repeatable."),
    ] = None,
    flop_rule: Annotated[str, typer.Option(help="k in C = k N D.")] = "6ND",
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="CONDITION", help="Keep rows with 'column OP value'. Repeatable."),
    ] = None,
    drop_highest: Annotated[int, typer.Option(min=0, help="Leave out the K highest losses.")] = 0,
    holdout: Annotated[
        str,
        typer.Option(
            metavar="CONDITION",
            help="Trunks that a second fit leaves out and predicts: 'flops>=1e21', largest, none.",
        ),
    ] = "largest",
    experiment: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this experiment's rows (of a study). Repeatable."),
    ] = None,
    fix: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Hold a coefficient, raw units. Repeatable."),
    ] = None,
    tie: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=NAME", help="Make two equal, as alpha=beta. Repeatable."),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(help="huber-log, mse-log, mse or huber. Default: huber-log; sigmoid: huber."),
    ] = None,
    delta: Annotated[
        str | None,
        typer.Option(
            help="Huber's delta, or auto: 1.345 sigma of the noise. Default: auto where seeds "
            "measure the noise, and for power2, else 1e-3."
        ),
    ] = None,
    intervals: Annotated[str, typer.Option(help="two-level, case, profile or none.")] = "two-level",
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples; 0: no intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resampling.")] = 0,
    level: Annotated[float, typer.Option(help="Coverage of the intervals.")] = 0.9,
    interpolate: Annotated[
        str, typer.Option(help="isoflop: akima, parabola or parametric.")
    ] = "akima",
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SET[=WEIGHT]",
            help="mixture: whose loss the best one minimises. Default: the mean. Repeatable.",
        ),
    ] = None,
    default: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE=SHARE",
            help="mixture: a mixture to compare the best one with. Repeatable.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the fit as JSON.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Write pictures into this folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fit a law to a table of runs, with intervals, hold-out and warnings."""
    from windtunnel.cli.fit import FitOptions, run_fit

    options = FitOptions(
        law=law,
        columns={
            "params": params, "tokens": tokens, "loss": loss, "flops": flops, "run": run,
            "trunk": trunk, "x": x, "y": y, "z": z, "lr": lr, "batch_tokens": batch_tokens,
            "unique_tokens": unique_tokens, "score": score,
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
        bootstrap=bootstrap,
        seed=seed,
        level=level,
        interpolate=interpolate,
        target=tuple(target or ()),
        default=tuple(default or ()),
    )  # fmt: skip
    run_fit(source, options, out=out, figures=figures, as_json=as_json)


@laws.command()
def predict(
    fit: FitFile,
    params: Annotated[float | None, typer.Option(help="N, parameters.")] = None,
    tokens: Annotated[float | None, typer.Option(help="D, tokens.")] = None,
    unique_tokens: Annotated[
        float | None, typer.Option(help="Unique tokens (data-constrained).")
    ] = None,
    flops: Annotated[float | None, typer.Option(help="C, FLOPs (envelope, isoflop).")] = None,
    loss: Annotated[float | None, typer.Option(help="Loss (sigmoid, batch).")] = None,
    x: Annotated[float | None, typer.Option(help="x of a power law.")] = None,
    z: Annotated[float | None, typer.Option(help="z of power2.")] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE=SHARE", help="Share of a source (mixture). Repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Forecast a run from a written fit, with a prediction interval."""
    from windtunnel.cli.use_fit import run_predict

    inputs = {
        "params": params, "tokens": tokens, "unique_tokens": unique_tokens, "flops": flops,
        "loss": loss, "x": x, "z": z,
    }  # fmt: skip
    run_predict(fit, inputs, tuple(weight or ()), as_json=as_json)


@laws.command()
def optimum(
    fit: FitFile,
    flops: Annotated[float | None, typer.Option(help="Budget C, FLOPs.")] = None,
    params: Annotated[float | None, typer.Option(help="N: the budget it is best for.")] = None,
    tokens: Annotated[float | None, typer.Option(help="D: the budget it is best for.")] = None,
    tokens_per_param: Annotated[
        float | None, typer.Option(help="D/N: the budget it is best for.")
    ] = None,
    unique_tokens: Annotated[
        float | None, typer.Option(help="With --flops: how many tokens are fresh.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Split a budget into params and tokens; with --flops and another, price that split."""
    from windtunnel.cli.use_fit import run_optimum

    constraints = {
        "flops": flops, "params": params, "tokens": tokens, "tokens_per_param": tokens_per_param,
        "unique_tokens": unique_tokens,
    }  # fmt: skip
    run_optimum(fit, constraints, as_json=as_json)
