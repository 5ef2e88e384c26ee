"""Every command: its options and what it prints. Heavy libraries load inside the commands."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from windtunnel.cli import EXIT_INTERRUPTED, EXIT_SOME_FAILED

app = typer.Typer(
    name="windtunnel",
    help="Scaling-law experiments on small muP models, before the full-size run.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
check = typer.Typer(help="Check that a model family transfers.", no_args_is_help=True)
app.add_typer(check, name="check")

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="A study file.")]
FitFile = Annotated[
    Path, typer.Argument(metavar="FIT.json", help="What windtunnel fit --out wrote.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Scaling-law experiments on small muP models, before the full-size run."""
    if version:
        from windtunnel import __version__

        print(f"windtunnel {__version__}")
        raise typer.Exit


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("hparams.yaml"),
) -> None:
    """Write a commented study file to start from."""
    from windtunnel.cli.init import write_template

    write_template(file)
    print(f"wrote {file}\nnext: windtunnel plan {file}")


@app.command()
def plan(
    study: StudyFile,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Print the study with every default filled in.")
    ] = False,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Time a few real updates of every shape here first.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a sweep would run and cost. Trains nothing and prepares nothing."""
    from windtunnel.cli.plan import print_plan, print_resolved
    from windtunnel.trials.study import open_study

    opened = open_study(study)
    if resolved:
        print_resolved(opened.config)
    else:
        print_plan(opened, calibrates=calibrate, as_json=as_json)


@app.command()
def sweep(
    study: StudyFile,
    engine: Annotated[
        str, typer.Option(help="ray, or local: in this process, one segment at a time.")
    ] = "ray",
    address: Annotated[
        str | None, typer.Option(help="Join the Ray cluster at this address.")
    ] = None,
    accept_execution_change: Annotated[
        bool,
        typer.Option(
            "--accept-execution-change",
            help="Go on with trunks that were computed on another device, torch or version.",
        ),
    ] = False,
) -> None:
    """Run a study, or go on with it: what is finished is not run again."""
    from windtunnel.cli.sweep import run_sweep

    result = run_sweep(
        study, engine=engine, address=address, accept_execution_change=accept_execution_change
    )
    if result.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if result.failed or result.stopped:
        raise typer.Exit(EXIT_SOME_FAILED)


@app.command()
def status(study: StudyFile, as_json: AsJson = False) -> None:
    """Say how far a study is."""
    from windtunnel.cli.tables import print_status
    from windtunnel.trials.progress import study_progress
    from windtunnel.trials.study import open_study

    opened = open_study(study)
    print_status(opened, study_progress(opened), as_json=as_json)


@app.command()
def gc(
    study: StudyFile,
    yes: Annotated[bool, typer.Option("--yes", help="Free it; without this, only say so.")] = False,
    last_forks: Annotated[
        bool, typer.Option("--last-forks", help="Also each trunk's last fork.")
    ] = False,
    ends: Annotated[
        bool, typer.Option("--ends", help="Also the weights at the ends of branches.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say which checkpoints nobody needs any more, and free them on --yes. Loses no result."""
    from windtunnel.cli.gc import run_gc
    from windtunnel.trials.study import open_study

    run_gc(open_study(study), yes=yes, last_forks=last_forks, ends=ends, as_json=as_json)


@app.command()
def runs(
    study: StudyFile,
    out: Annotated[Path | None, typer.Option(help="Write a CSV file.")] = None,
    as_json: AsJson = False,
) -> None:
    """One row a finished or diverged segment."""
    from windtunnel.cli.tables import print_runs, write_csv
    from windtunnel.trials.gather import gather
    from windtunnel.trials.study import open_study

    opened = open_study(study)
    rows = gather(opened.store, opened.plan)
    if out is not None:
        write_csv(out, rows)
        print(f"wrote {len(rows)} rows to {out}", file=sys.stderr if as_json else sys.stdout)
    if as_json or out is None:
        print_runs(rows, as_json=as_json)


@app.command()
def winner(
    study: StudyFile,
    every: Annotated[
        bool, typer.Option("--all", help="Also every trial, its values and its loss.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What each search found: the best trials, repeated on new seeds, and how sure it is."""
    from windtunnel.cli.winner import print_winner
    from windtunnel.trials.study import open_study

    print_winner(open_study(study), as_json=as_json, every=every)


@app.command()
def fit(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A study file, or a table of runs: .csv, .jsonl, .jsonl.gz or .parquet.",
        ),
    ],
    law: Annotated[
        str,
        typer.Option(
            help="chinchilla, power, power-offset, exp-offset, power2, isoflop, envelope, "
            "lr-valley, batch, data-constrained or sigmoid; see docs/fit.md."
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
        str | None, typer.Option(help="Only this experiment's rows (of a study).")
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
            "measure the noise, else 1e-3."
        ),
    ] = None,
    intervals: Annotated[str, typer.Option(help="two-level, case, profile or none.")] = "two-level",
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples; 0: no intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resampling.")] = 0,
    level: Annotated[float, typer.Option(help="Coverage of the intervals.")] = 0.9,
    interpolate: Annotated[
        str, typer.Option(help="isoflop: akima, parabola or parametric.")
    ] = "akima",
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
        experiment=experiment,
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
    )  # fmt: skip
    run_fit(source, options, out=out, figures=figures, as_json=as_json)


@app.command()
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
    as_json: AsJson = False,
) -> None:
    """Forecast a run from a written fit, with a prediction interval."""
    from windtunnel.cli.use_fit import run_predict

    inputs = {
        "params": params, "tokens": tokens, "unique_tokens": unique_tokens, "flops": flops,
        "loss": loss, "x": x, "z": z,
    }  # fmt: skip
    run_predict(fit, inputs, as_json=as_json)


@app.command()
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


@app.command()
def report(
    study: StudyFile,
    out: Annotated[Path | None, typer.Option(help="Where to write the page.")] = None,
) -> None:
    """Write one self-contained HTML page about a study."""
    from windtunnel.report import write_report
    from windtunnel.trials.study import open_study

    print(f"report: {write_report(open_study(study), out)}")


@app.command()
def sync(study: StudyFile) -> None:
    """Mirror the store to MLflow again, filling what is missing."""
    from windtunnel.cli.tracking import sync_study

    sync_study(study)


@app.command()
def ui(
    study: StudyFile,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open the study's runs in MLflow's own pages."""
    from windtunnel.cli.tracking import serve_study

    serve_study(study, port=port)


@check.command()
def mup(
    study: Annotated[
        Path | None,
        typer.Argument(metavar="[STUDY.yaml]", help="Take model and recipe from a study."),
    ] = None,
    widths: Annotated[
        str | None, typer.Option(help="Widths, comma-separated; at least a factor of 8 apart.")
    ] = None,
    depth: Annotated[int | None, typer.Option(min=1, help="Layers; default: the study's.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Updates.")] = 16,
    parametrization: Annotated[
        str | None, typer.Option(help="mup or standard; default: the study's.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the figure (.png, .svg, .pdf).")] = None,
    as_json: AsJson = False,
) -> None:
    """Train several widths a few updates: changes must not depend on width. Exit 3 on a fail."""
    from windtunnel.cli.coordcheck import run_check

    passed = run_check(
        study,
        widths=widths,
        depth=depth,
        steps=steps,
        parametrization=parametrization,
        plot=plot,
        as_json=as_json,
    )
    if not passed:
        raise typer.Exit(EXIT_SOME_FAILED)
