"""Every command: its options and what it prints. Heavy libraries load inside the commands."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from windtunnel.cli import EXIT_SOME_FAILED
from windtunnel.cli.app_export import exports, forecast
from windtunnel.cli.app_import import imports
from windtunnel.cli.app_laws import laws
from windtunnel.cli.options import AsJson, StudyFile

app = typer.Typer(
    name="windtunnel",
    help="Scaling-law experiments on small muP models, before the full-size run.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
check = typer.Typer(help="Check that a model family transfers.", no_args_is_help=True)
app.add_typer(check, name="check")
app.add_typer(laws)
app.add_typer(exports)
app.add_typer(forecast, name="forecast")
app.add_typer(imports)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Scaling-law experiments on small muP models, before the full-size run."""
    if version:
        from windtunnel.version import __version__

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
    from windtunnel.runs.study import open_study

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

    code = run_sweep(
        study, engine=engine, address=address, accept_execution_change=accept_execution_change
    )
    raise typer.Exit(code)


@app.command()
def status(study: StudyFile, as_json: AsJson = False) -> None:
    """Say how far a study is."""
    from windtunnel.cli.tables import print_status
    from windtunnel.runs.progress import study_progress
    from windtunnel.runs.study import open_study

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
    from windtunnel.runs.study import open_study

    run_gc(open_study(study), yes=yes, last_forks=last_forks, ends=ends, as_json=as_json)


@app.command()
def runs(
    study: StudyFile,
    out: Annotated[Path | None, typer.Option(help="Write a CSV file.")] = None,
    as_json: AsJson = False,
) -> None:
    """One row a finished or diverged segment, and one an imported run."""
    from windtunnel.cli.output import check_output
    from windtunnel.cli.tables import print_runs, write_csv
    from windtunnel.runs.imported import study_rows
    from windtunnel.runs.study import open_study

    check_output("--out", out, study=study)
    opened = open_study(study)
    rows = study_rows(opened)
    if out is not None:
        write_csv(out, rows)
        print(f"wrote {len(rows)} rows to {out}", file=sys.stderr if as_json else sys.stdout)
    if as_json or out is None:
        print_runs(rows, as_json=as_json)


@app.command()
def records(
    study: StudyFile,
    out: Annotated[Path, typer.Option(help="Folder to write them into.")],
) -> None:
    """Write what a study measured as a few small files, which figures and notebooks start from."""
    from windtunnel.cli.output import check_output
    from windtunnel.findings import records_of, write_records
    from windtunnel.findings.records import FILES
    from windtunnel.runs.study import open_study

    for name in sorted(FILES):
        check_output("--out", out / name, study=study)
    for path in write_records(records_of(open_study(study)), out):
        print(path)


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
    from windtunnel.runs.study import open_study

    print_winner(open_study(study), as_json=as_json, every=every)


@app.command()
def report(
    study: StudyFile,
    out: Annotated[Path | None, typer.Option(help="Where to write the page.")] = None,
) -> None:
    """Write one self-contained HTML page about a study."""
    from windtunnel.cli.output import check_output
    from windtunnel.report import write_report
    from windtunnel.runs.study import open_study

    check_output("--out", out, study=study, allowed="report.html")
    print(f"report: {write_report(open_study(study), out)}")


@app.command()
def sync(study: StudyFile) -> None:
    """Mirror the store to MLflow again, filling what is missing."""
    from windtunnel.cli.tracking import sync_study

    sync_study(study)


@app.command()
def ui(
    study: StudyFile,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
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
