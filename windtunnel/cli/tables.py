"""Tables of `status` and `runs`."""

import csv
import io
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table

from windtunnel.cli.hindsight import hindsight
from windtunnel.cli.output import write_output
from windtunnel.cli.text import duration, print_json, say, si, terminal
from windtunnel.config.search import SearchExperiment
from windtunnel.errors import Diagnostic
from windtunnel.runs.budget.cost import cost_of
from windtunnel.runs.curves import curve_diagnostics
from windtunnel.runs.progress import SegmentProgress, StudyProgress
from windtunnel.runs.search.projection import trials_asked
from windtunnel.runs.search.summary import repeats_left, stands
from windtunnel.runs.study import Study
from windtunnel.runs.table import COLUMNS, Row

if TYPE_CHECKING:
    from windtunnel.runs.search.winner import SearchOutcome

QUIET_SECONDS = 120.0
"""So long a silence of a running segment is worth a warning (assumed: longer than an update)."""

STATUSES = ("finished", "running", "waiting", "diverged", "failed")


def print_status(study: Study, progress: StudyProgress, *, as_json: bool) -> None:
    """Counts, and a line for every segment that is not simply finished or waiting."""
    counts = {status: progress.count(status) for status in STATUSES}
    planned = cost_of(study.expected).flops
    share = progress.flops_done / planned if planned else 1.0
    to_come = len(study.expected_plan.segments) - len(progress.segments)
    searches = _searches(study)
    took = hindsight(study)
    diagnostics = (
        *curve_diagnostics(study.store, study.plan.segments, deep=False),
        *stall_diagnostics(progress, study.config.resources.stall_seconds),
    )
    if as_json:
        segments = [asdict(each) for each in progress.segments]
        print_json(
            {
                "counts": counts,
                "share_of_flops": share,
                "segments_to_be_suggested": to_come,
                "searches": [_search(each) for each in searches],
                "seconds": progress.seconds,
                **took.as_json(),
                "segments": segments,
                "warnings": [diagnostic.document() for diagnostic in diagnostics],
            }
        )
        return
    console = terminal()
    said = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    said += f", about {to_come} to be suggested" if to_come > 0 else ""
    say(console, f"{study.config.study}: {said}; {share:.0%} of the training FLOPs done")
    for search in searches:
        say(console, f"search {search.experiment.name}: {stands(search)}")
    if total := sum(progress.seconds.values()):
        parts = ", ".join(f"{n} {s / total:.1%}" for n, s in progress.seconds.items())
        say(console, f"{duration(total)} in finished segments, summed over trials: {parts}")
    took.show(console)
    for diagnostic in diagnostics:
        say(console, str(diagnostic), label="warning:")
    if study.dataset is None:
        say(console, "the data is not prepared yet: `windtunnel sweep` does it")
    shown = [e for e in progress.segments if e.status not in {"finished", "waiting"}]
    if shown:
        console.print(segments_table(shown))
    for each in shown:
        record = study.store.segment(each.segment).record or {}
        if each.status == "failed":
            last_line = str(record.get("error", "")).strip().splitlines()[-1:]
            say(console, f"{each.name}: {''.join(last_line)}", label="failed", style="red")


def stall_diagnostics(progress: StudyProgress, stall_seconds: float) -> tuple[Diagnostic, ...]:
    """A warning for each running segment that has shown no work for a while."""
    return tuple(
        Diagnostic(
            "stalled",
            f"{each.name} (segment {each.segment}): no update or piece of evaluation for "
            f"{duration(quiet)}; under Ray its worker is replaced after {duration(stall_seconds)} "
            "(`resources.stall_seconds`)",
        )
        for each in progress.running
        if (quiet := each.quiet_seconds or 0.0) > min(QUIET_SECONDS, stall_seconds / 2)
    )


def _searches(study: Study) -> "tuple[SearchOutcome, ...]":
    if not any(isinstance(each, SearchExperiment) for each in study.config.experiments):
        return ()
    from windtunnel.runs.search.winner import search_outcomes  # loads scipy

    return search_outcomes(study)


def _search(outcome: "SearchOutcome") -> dict[str, Any]:
    return {
        "experiment": outcome.experiment.name,
        "trials": trials_asked(outcome.experiment),
        "suggested": len(outcome.results),
        "batches": outcome.results[-1].trial.batch + 1 if outcome.results else 0,
        "ended": len(outcome.results) - outcome.counts.get("unfinished", 0),
        "finalists": [each.result.trial.number for each in outcome.finalists],
        "repeats_left": repeats_left(outcome),
        "winner": outcome.winner.result.trial.number if outcome.winner else None,
    }


def segments_table(segments: list[SegmentProgress]) -> Table:
    """One line a segment: where it is, its loss and its speed."""
    table = Table(box=None)
    for column in ("segment", "what", "status", "update", "loss", "tokens/s"):
        side: Literal["left", "right"] = "left" if column in {"segment", "what"} else "right"
        table.add_column(column, justify=side, no_wrap=True)
    for each in segments:
        table.add_row(
            each.segment,
            each.name,
            each.status,
            f"{each.step}/{each.end}",
            "" if each.loss is None else f"{each.loss:.3f}",
            "" if each.tokens_per_second is None else si(each.tokens_per_second),
        )
    return table


def print_runs(rows: list[Row], *, as_json: bool) -> None:
    """The table of runs, its main columns; variants where some are."""
    if as_json:
        print_json(rows)
        return
    table = Table(box=None)
    names = ("segment", "kind", "size", "params", "horizon", "tokens", "seed", "outcome", "loss")
    for column in names:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("bits/byte", justify="right")
    branching = any(row["variant"] for row in rows)
    if branching:
        table.add_column("variant", overflow="fold")
    for row in rows:
        table.add_row(
            row["segment"],
            row["kind"],
            "" if row["width"] is None else f"{row['width']}x{row['depth']}",
            si(row["params"]),
            row["horizon"] or "",
            si(row["tokens"]),
            "" if row["init_seed"] is None else str(row["init_seed"]),
            row["outcome"],
            "" if row["loss"] is None else f"{row['loss']:.4f}",
            "" if row["bits_per_byte"] is None else f"{row['bits_per_byte']:.4f}",
            *([row["variant"] or ""] if branching else []),
        )
    terminal().print(table)


def _no_formula(cell: Any) -> Any:
    """A cell that a spreadsheet takes for text: labels come from other people's files."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in {"=", "+", "-", "@"} else cell


def write_csv(path: Path, rows: list[Row]) -> None:
    """All columns; floats in full, nothing for None.

    Raises:
        ConfigError: The file cannot be written.
    """
    names = list(COLUMNS)
    names += [name for name in dict.fromkeys(n for row in rows for n in row) if name not in names]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows({name: _no_formula(cell) for name, cell in row.items()} for row in rows)
    write_output("--out", path, text.getvalue())
