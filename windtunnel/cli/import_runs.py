"""`windtunnel import-runs`: finished runs of other tools as measurements for a study's law."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from windtunnel.cli.import_runs_columns import ImportOptions
from windtunnel.cli.import_runs_rows import read_runs
from windtunnel.cli.import_runs_source import open_source
from windtunnel.cli.text import print_json, say, si, terminal
from windtunnel.errors import ConfigError, StoreError, boundary
from windtunnel.runs.imported import (
    Arrivals,
    Imported,
    add_runs,
    arrivals,
    imported_file,
    read_imported,
    remove_run,
)
from windtunnel.runs.study import Study, open_study


def run_import(
    file: Path,
    text: str,
    options: ImportOptions,
    *,
    asked: str | None,
    tracking_uri: str | None,
    replace: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Read, check, and take in what is new; nothing is written before all of it is checked.

    Raises:
        ConfigError: The source cannot be used as it is, or a known label has other numbers now.
        TrackingError: MLflow does not answer.
        StoreError: The store cannot be written.
    """
    study = open_study(file)
    source = open_source(text, asked=asked, tracking_uri=tracking_uri)
    runs, notes = read_runs(study, source, options)
    _refuse_own(study, runs)
    found = arrivals(study.folder, runs)
    if found.changed and not replace:
        raise ConfigError(_changed(found))
    taken = (*found.new, *(run for _, run in found.changed))
    if not dry_run:
        study.store.open_for_writing()
        add_runs(study.folder, taken)
    notes = (*source.notes, *notes)
    if as_json:
        labels = {
            "new": [run.label for run in found.new],
            "replaced": [run.label for _, run in found.changed],
            "known": [run.label for run in found.known],
        }
        print_json({"written": bool(taken) and not dry_run, **labels, "notes": list(notes),
                    "runs": [run.row for run in runs]})  # fmt: skip
        return
    console = terminal()
    for note in notes:
        say(console, note, label="note")
    state = {run.segment: "new" for run in found.new}
    state |= {run.segment: "replaces" for _, run in found.changed}
    console.print(_runs_table(runs, "state", [state.get(run.segment, "known") for run in runs]))
    say(console, _summary(study, found, dry_run=dry_run))


def list_imported(file: Path, *, as_json: bool) -> None:
    """Print what a study has taken in, and from where.

    Raises:
        StoreError: The file of it is damaged.
    """
    study = open_study(file)
    runs = list(read_imported(study.folder).values())
    if as_json:
        print_json(
            {"runs": [{**run.row, "time": run.time, "origin": dict(run.origin)} for run in runs]}
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
    """Take one run out again, and say so.

    Raises:
        ConfigError: No run of that label.
    """
    study = open_study(file)
    run = remove_run(study.folder, label)
    print(f"{study.config.study}: took out {label!r} ({run.source}); its line stays in "
          f"{imported_file(study.folder)}")  # fmt: skip


def _refuse_own(study: Study, runs: Sequence[Imported]) -> None:
    """A study's own segments, back from MLflow or from `runs --out`, would count twice."""
    own = study.plan.by_id()
    found = [run for run in runs if {run.label, run.origin.get("segment")} & own.keys()]
    if found:
        raise ConfigError(
            f"{found[0].source}: {len(found)} of {len(runs)} runs are segments of this study "
            f"itself, such as {found[0].label!r}, and would count twice: leave them out with "
            "--exclude"
        )


def _changed(found: Arrivals) -> str:
    """Which labels have other numbers now, and which."""
    lines = []
    for old, new in found.changed:
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


def _flat(run: Imported) -> dict[str, Any]:
    stated = run.measured.as_json()
    return stated | {f"loss_{name}": loss for name, loss in stated.pop("losses").items()}


def _summary(study: Study, found: Arrivals, *, dry_run: bool) -> str:
    changed = len(found.new) + len(found.changed)
    parts = [f"{len(found.new)} new", f"{len(found.changed)} replaced"]
    said = ", ".join((*parts[: 2 if found.changed else 1], f"{len(found.known)} known already"))
    if dry_run:
        return f"{study.config.study}: {said}; a dry run, nothing was written"
    if not changed:
        return f"{study.config.study}: {said}; nothing was added"
    return (
        f"{study.config.study}: {said}; written to {imported_file(study.folder)}\n"
        f"next: windtunnel fit {study.file}"
    )


def _runs_table(runs: Sequence[Imported], last: str, cells: Sequence[str]) -> Table:
    table = Table(box=None)
    table.add_column("label", overflow="fold")
    for column in ("params", "tokens", "loss", "decayed", "experiment"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("segment", no_wrap=True)
    table.add_column(last)
    for run, cell in zip(runs, cells, strict=True):
        measured = run.measured
        table.add_row(
            _plain(run.label),
            si(measured.params),
            si(measured.tokens),
            f"{measured.loss:.4f}",
            "yes" if measured.decayed else "no",
            measured.experiment,
            run.segment,
            _plain(cell),
        )
    return table


def _plain(text: str) -> str:
    """Text in which rich reads no markup."""
    from rich.markup import escape

    return escape(text)
