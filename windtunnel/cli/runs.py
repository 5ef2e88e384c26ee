"""`windtunnel runs`: the table of runs, for people, as CSV and as JSON."""

import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from windtunnel.cli.options import AsJson, StudyFile
from windtunnel.cli.output import check_output, write_output
from windtunnel.cli.text import print_json, terminal
from windtunnel.quantities import write_count

if TYPE_CHECKING:
    from windtunnel.runs.run import Run
    from windtunnel.runs.table import Row


def runs(
    study: StudyFile,
    out: Annotated[Path | None, typer.Option(help="Write all columns to this CSV file.")] = None,
    as_json: AsJson = False,
) -> None:
    """List runs: one row per finished, diverged or imported run."""
    from windtunnel.runs.imported import study_runs
    from windtunnel.runs.study import open_study
    from windtunnel.runs.table import as_row

    check_output("--out", out, study=study)
    found = study_runs(open_study(study))
    rows = [as_row(run) for run in found]
    if out is not None:
        write_csv(out, rows)
        print(f"wrote {len(rows)} rows to {out}", file=sys.stderr if as_json else sys.stdout)
    if as_json:
        print_json(rows)
    elif out is None:
        print_runs(found)


def print_runs(runs: "list[Run]") -> None:
    """Print the main columns of the runs."""
    from windtunnel.runs.table import variant_name

    table = Table(box=None)
    names = ("segment", "kind", "size", "params", "horizon", "tokens", "seed", "outcome", "loss")
    for column in names:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("bits/byte", justify="right")
    copying = any(run.copy_gain is not None for run in runs)
    if copying:
        table.add_column("copy gain", justify="right")
    branching = any(run.variants for run in runs)
    if branching:
        table.add_column("variant", overflow="fold")
    for run in runs:
        table.add_row(
            run.segment,
            run.kind,
            run.size,
            write_count(run.params),
            run.horizon or "",
            write_count(run.tokens),
            "" if run.init_seed is None else str(run.init_seed),
            run.outcome,
            "" if run.loss is None else f"{run.loss:.4f}",
            "" if run.bits_per_byte is None else f"{run.bits_per_byte:.4f}",
            *(["" if run.copy_gain is None else f"{run.copy_gain:.3f}"] if copying else []),
            *([variant_name(run.variants) or ""] if branching else []),
        )
    terminal().print(table)


def _no_formula(cell: Any) -> Any:
    """The cell, quoted if a spreadsheet would run it as a formula: labels come from any file."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in {"=", "+", "-", "@"} else cell


def write_csv(path: Path, rows: "list[Row]") -> None:
    """Write all columns, floats in full precision, None as an empty cell.

    Raises:
        ConfigError: The file cannot be written.
    """
    from windtunnel.runs.table import COLUMNS

    names = list(COLUMNS)
    names += [name for name in dict.fromkeys(n for row in rows for n in row) if name not in names]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows({name: _no_formula(cell) for name, cell in row.items()} for row in rows)
    write_output("--out", path, text.getvalue())
