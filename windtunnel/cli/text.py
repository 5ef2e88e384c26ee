"""Output of commands: numbers, sentences, the data of a study, and JSON."""

import json
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from windtunnel.quantities import write_count

if TYPE_CHECKING:
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
    """Print one line per source: files, documents, tokens, and what was dropped and why."""
    for account in study.accounts:
        say(console, account.line(), label="data:", style="cyan")


def say_warnings(console: Console, study: "Study") -> None:
    """Print the warnings of the plan and of the data, with their codes."""
    for warning in study.diagnostics:
        say(console, warning.message, label=f"warning ({warning.code}):")


def data_json(study: "Study") -> dict[str, Any]:
    """The counts of each source and the warnings of the data."""
    return {
        "sources": [account.as_json() for account in study.accounts],
        "warnings": [diagnostic.document() for diagnostic in study.data_diagnostics],
    }
