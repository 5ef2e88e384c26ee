"""`windtunnel import-runs`: finished runs of other tools as measurements for a study's law."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from windtunnel.cli.options import INPUT, ROWS, AsJson, Scale, StudyFile, Where, column
from windtunnel.cli.text import print_json, say, terminal
from windtunnel.errors import ConfigError, StoreError, boundary
from windtunnel.quantities import write_count

if TYPE_CHECKING:
    from windtunnel.cli.import_rows import ImportOptions
    from windtunnel.runs.imported import Arrivals, Imported
    from windtunnel.runs.study import Study


def import_runs(
    study: StudyFile,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="Table (.csv, .tsv, .json, .jsonl or .parquet), mlflow:EXPERIMENT, CSV export of "
            "a W&B runs table, or wandb/ folder.",
        ),
    ] = None,
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="csv, mlflow or wandb; default: detected.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            help="MLflow tracking URI; default: MLFLOW_TRACKING_URI.", rich_help_panel=INPUT
        ),
    ] = None,
    params: Annotated[str, column("Non-embedding parameters N.", metavar="COL|NUMBER")] = "",
    tokens: Annotated[
        str, column("Training tokens D, counted from update 0.", metavar="COL|NUMBER")
    ] = "",
    loss: Annotated[str, column("Validation loss.")] = "",
    flops: Annotated[str, column("Training compute C.", metavar="COL|NUMBER")] = "",
    run: Annotated[str, column("Label of the run; default: its name.")] = "",
    trunk: Annotated[
        str, column("Label shared by runs with shared noise, such as branches of one trunk.")
    ] = "",
    batch_tokens: Annotated[str, column("Batch size in tokens.", metavar="COL|NUMBER")] = "",
    lr: Annotated[str, column("Peak learning rate.", metavar="COL|NUMBER")] = "",
    loss_of: Annotated[
        list[str] | None,
        column("Loss on one validation set. Repeatable.", metavar="SET=COL"),
    ] = None,
    decayed: Annotated[
        str | None,
        column(
            "Whether the learning rate was decayed when the loss was measured. Required unless "
            "there is a column `decayed`.",
            metavar="COL|true|false",
        ),
    ] = None,
    scale: Scale = None,
    unit: Annotated[
        str | None,
        typer.Option(
            help="Unit of the losses: nats-per-token (the default), bits-per-token, "
            "nats-per-byte or bits-per-byte.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(
            help="Scaling experiment that the runs are added to; default: the only one.",
            rich_help_panel=ROWS,
        ),
    ] = None,
    where: Where = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Leave out the rows that meet a condition. Repeatable.",
            rich_help_panel=ROWS,
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Replace runs that were imported with other numbers."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the runs without importing them.")
    ] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the imported runs.")] = False,
    remove: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Remove an imported run.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Import finished runs of other tools into a study.

    The scaling law of the study is then fitted to them as well.
    """
    from windtunnel.cli.import_rows import ImportOptions

    if [source is not None, listed, remove is not None].count(True) != 1:
        raise ConfigError(
            "contradicting-options",
            "import-runs: give one of SOURCE (a table, mlflow:EXPERIMENT or a wandb folder), "
            "--list, and --remove LABEL",
            options=["SOURCE", "--list", "--remove"],
        )
    if listed:
        list_imported(study, as_json=as_json)
    elif remove is not None:
        remove_imported(study, remove)
    elif source is not None:
        from windtunnel.cli.import_rows import ImportOptions

        options = ImportOptions(
            columns={
                "params": params, "tokens": tokens, "loss": loss, "flops": flops, "run": run,
                "trunk": trunk, "batch_tokens": batch_tokens, "lr": lr,
            },
            loss_of=tuple(loss_of or ()),
            decayed=decayed,
            scale=tuple(scale or ()),
            unit=unit,
            experiment=experiment,
            where=tuple(where or ()),
            exclude=tuple(exclude or ()),
        )  # fmt: skip
        run_import(
            study,
            source,
            options,
            file_format=file_format,
            tracking_uri=tracking_uri,
            replace=replace,
            dry_run=dry_run,
            as_json=as_json,
        )


def run_import(
    file: Path,
    text: str,
    options: "ImportOptions",
    *,
    file_format: str | None,
    tracking_uri: str | None,
    replace: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Read and check the runs, and import the new ones. Nothing is written before all are checked.

    Raises:
        ConfigError: The source cannot be used, or the numbers of an imported run changed.
        TrackingError: MLflow does not answer.
        StoreError: The store cannot be written.
    """
    from windtunnel.cli.import_rows import read_runs
    from windtunnel.cli.import_sources import open_source
    from windtunnel.runs.imported import add_runs, arrivals
    from windtunnel.runs.study import open_study
    from windtunnel.runs.table import as_row

    study = open_study(file)
    source = open_source(text, file_format=file_format, tracking_uri=tracking_uri)
    runs, notes = read_runs(study, source, options)
    _refuse_own(study, runs)
    new_runs = arrivals(study.folder, runs)
    if new_runs.changed and not replace:
        raise ConfigError(
            "changed-numbers", _changed(new_runs), labels=[new.label for _, new in new_runs.changed]
        )
    taken = (*new_runs.new, *(run for _, run in new_runs.changed))
    if not dry_run:
        study.store.open_for_writing()
        add_runs(study.folder, taken)
    notes = (*source.notes, *notes)
    if as_json:
        labels = {
            "new": [run.label for run in new_runs.new],
            "replaced": [run.label for _, run in new_runs.changed],
            "known": [run.label for run in new_runs.known],
        }
        print_json({"written": bool(taken) and not dry_run, **labels, "notes": list(notes),
                    "runs": [as_row(imported.run) for imported in runs]})  # fmt: skip
        return
    console = terminal()
    for note in notes:
        say(console, note, label="note")
    state = {run.segment: "new" for run in new_runs.new}
    state |= {run.segment: "replaces" for _, run in new_runs.changed}
    console.print(_runs_table(runs, "state", [state.get(run.segment, "known") for run in runs]))
    say(console, _summary(study, new_runs, dry_run=dry_run))


def list_imported(file: Path, *, as_json: bool) -> None:
    """Print the imported runs of a study and their sources.

    Raises:
        StoreError: The file of it is damaged.
    """
    from windtunnel.runs.imported import imported_file, read_imported
    from windtunnel.runs.study import open_study
    from windtunnel.runs.table import as_row

    study = open_study(file)
    runs = list(read_imported(study.folder).values())
    if as_json:
        print_json(
            {
                "runs": [
                    {**as_row(each.run), "time": each.time, "origin": dict(each.origin)}
                    for each in runs
                ]
            }
        )
        return
    if not runs:
        print(f"{study.config.study}: nothing is imported")
        return
    fix = "put back a copy of the file, or import the run again"
    origins = []
    for run in runs:
        where = f"{imported_file(study.folder)}, run {run.label!r}"
        with boundary(where, fix, StoreError, what="its time is none"):
            day = datetime.fromtimestamp(run.time, UTC).strftime("%Y-%m-%d")
        origins.append(f"{run.source}, {day}")
    terminal().print(_runs_table(runs, "from", origins))


def remove_imported(file: Path, label: str) -> None:
    """Remove one imported run.

    Raises:
        ConfigError: No run of that label.
    """
    from windtunnel.runs.imported import imported_file, remove_run
    from windtunnel.runs.study import open_study

    study = open_study(file)
    run = remove_run(study.folder, label)
    print(f"{study.config.study}: took out {label!r} ({run.source}); its line stays in "
          f"{imported_file(study.folder)}")  # fmt: skip


def _refuse_own(study: "Study", runs: "Sequence[Imported]") -> None:
    """Refuse segments of the study itself, which would count twice."""
    segments = study.plan.by_id()
    repeated = [run for run in runs if {run.label, run.origin.get("segment")} & segments.keys()]
    if repeated:
        raise ConfigError(
            "own-segments",
            f"{repeated[0].source}: {len(repeated)} of {len(runs)} runs are segments of this study "
            f"itself, such as {repeated[0].label!r}, and would count twice: leave them out with "
            "--exclude",
            source=repeated[0].source,
            label=repeated[0].label,
            count=len(repeated),
            runs=len(runs),
        )


def _changed(new_runs: "Arrivals") -> str:
    """The labels whose numbers changed, with both values."""
    lines = []
    for old, new in new_runs.changed:
        before, after = _flat(old), _flat(new)
        what = [
            f"{name} {before.get(name)} -> {after.get(name)}"
            for name in dict.fromkeys((*before, *after))
            if before.get(name) != after.get(name)
        ]
        lines.append(f"  {new.label!r} (of {old.source}): {', '.join(what)}")
    return (
        f"{len(lines)} runs were imported before with other numbers:\n" + "\n".join(lines) + "\n"
        "nothing was written; --replace takes the new ones, --run COL names the runs otherwise"
    )


def _flat(run: "Imported") -> dict[str, Any]:
    stated = run.measured.as_json()
    return stated | {f"loss_{name}": loss for name, loss in stated.pop("losses").items()}


def _summary(study: "Study", new_runs: "Arrivals", *, dry_run: bool) -> str:
    from windtunnel.runs.imported import imported_file

    changed = len(new_runs.new) + len(new_runs.changed)
    parts = [f"{len(new_runs.new)} new", f"{len(new_runs.changed)} replaced"]
    counts = ", ".join(
        (*parts[: 2 if new_runs.changed else 1], f"{len(new_runs.known)} known already")
    )
    if dry_run:
        return f"{study.config.study}: {counts}; a dry run, nothing was written"
    if not changed:
        return f"{study.config.study}: {counts}; nothing was added"
    return (
        f"{study.config.study}: {counts}; written to {imported_file(study.folder)}\n"
        f"next: windtunnel fit {study.file}"
    )


def _runs_table(runs: "Sequence[Imported]", last: str, cells: Sequence[str]) -> Table:
    table = Table(box=None)
    table.add_column("label", overflow="fold")
    for name in ("params", "tokens", "loss", "decayed", "experiment"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("segment", no_wrap=True)
    table.add_column(last)
    for run, cell in zip(runs, cells, strict=True):
        measured = run.measured
        table.add_row(
            _plain(run.label),
            write_count(measured.params),
            write_count(measured.tokens),
            f"{measured.loss:.4f}",
            "yes" if measured.decayed else "no",
            measured.experiment,
            run.segment,
            _plain(cell),
        )
    return table


def _plain(text: str) -> str:
    """The text with rich markup escaped."""
    from rich.markup import escape

    return escape(text)
