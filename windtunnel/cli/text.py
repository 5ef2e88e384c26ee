"""Output of commands: numbers, sentences, the data of a study, and JSON."""

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from windtunnel.quantities import write_count

if TYPE_CHECKING:
    from windtunnel.data.account import Tally
    from windtunnel.export.handoff import Estimate
    from windtunnel.runs.study import Study


YEAR = 365.25 * 86400
"""In seconds."""

WIDTH_OFF_TERMINAL = 120
"""Width of the output to a file or a pipe, where rich would cut tables at 80."""


def terminal() -> Console:
    """The console that tables are printed to."""
    return Console(width=None if sys.stdout.isatty() else WIDTH_OFF_TERMINAL)


def say(console: Console, text: str, *, label: str = "", style: str = "yellow") -> None:
    """Print a sentence on one line, without wrapping and without rich markup."""
    head = Text(f"{label} ", style=style) if label else Text()
    console.print(head + Text(text), soft_wrap=True)


def flops(value: float) -> str:
    """A FLOP count in powers of ten."""
    return f"{value:.2e} FLOPs"


def interval_text(estimate: "Estimate", form: str = ".4f") -> str:
    """A value with its interval: `1.6421 (1.6088 to 1.6740)`."""
    ends = [
        "unbounded" if end is None or math.isinf(end) else format(end, form)
        for end in (estimate.low, estimate.high)
    ]
    return f"{estimate.value:{form}} ({ends[0]} to {ends[1]})"


def duration(seconds: float) -> str:
    """A duration in its usual unit: 0.4 s, 45 s, 12 min, 3.5 h, 2.1 days, 6k years."""
    if 0 < seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    if seconds < 2 * YEAR:
        return f"{seconds / 86400:.1f} days"
    return f"{write_count(seconds / YEAR)} years"


def size_of(count: float) -> str:
    """A number of bytes with a decimal prefix: 512B, 20GB."""
    return f"{write_count(count).replace('B', 'G')}B"


def print_json(value: object) -> None:
    """Print one JSON document; NaN is refused."""
    print(json.dumps(value, indent=1, allow_nan=False))


def say_data(console: Console, study: "Study") -> None:
    """Print a line per source, with what was dropped, and one line of the validation sets.

    Before the data is prepared, a source has its path and its files.
    """
    for name, (path, found) in study.unread.items():
        say(console, f"{name}: {path}{_files(found)}", label="data:", style="cyan")
    for account in study.accounts:
        say(console, account.line(), label="data:", style="cyan")
    sets = [
        f"{each.name} {write_count(each.tokens)} tokens"
        + ("" if each.contamination is None else f", {each.contamination:.1%} also in training")
        for each in study.validation
    ]
    if sets:
        say(console, "; ".join(sets), label="validation:", style="cyan")


def _files(found: "Tally | None") -> str:
    """`, 12 files, 3.1MB; left out: 2 hidden files`, or nothing of a builtin."""
    if found is None or found.files is None:
        return ""
    left_out = found.text()
    count = f"{found.files:,} file{'' if found.files == 1 else 's'}"
    return f", {count}, {size_of(found.file_bytes)}{left_out and f'; left out: {left_out}'}"


@contextmanager
def data_progress(
    console: Console, *, quiet: bool = False
) -> Iterator[Callable[[str, int, int | None], None]]:
    """Show the preparation of data: a bar on a terminal, else a line per stage; or nothing."""
    if quiet or not console.is_terminal:
        seen: set[str] = set()

        def line(stage: str, done: int, total: int | None) -> None:
            if stage not in seen and not quiet:
                seen.add(stage)
                print(f"data: {stage}", flush=True)

        yield line
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    with Progress(
        TextColumn("data: {task.description}"), BarColumn(), DownloadColumn(), console=console
    ) as bars:
        tasks: dict[str, Any] = {}

        def bar(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield bar


def say_warnings(console: Console, study: "Study") -> None:
    """Print the warnings of the plan and of the data, with their codes."""
    for warning in study.diagnostics:
        say(console, warning.message, label=f"warning ({warning.code}):")


def data_json(study: "Study") -> dict[str, Any]:
    """The counts of each source and the warnings of the data."""
    return {
        "sources": [
            {"name": name, "path": path} | (found.as_json() if found else {})
            for name, (path, found) in study.unread.items()
        ]
        + [account.as_json() for account in study.accounts],
        "warnings": [diagnostic.document() for diagnostic in study.data_diagnostics],
    }
