"""What a study's data holds and lacks: for people, a line a source; for machines, all counts."""

from typing import Any

from rich.console import Console

from windtunnel.cli.text import say
from windtunnel.runs.study import Study


def say_data(console: Console, study: Study) -> None:
    """Print one line a source: files, documents, tokens, and what was left out and why."""
    for account in study.accounts:
        say(console, account.line(), label="data:", style="cyan")


def say_warnings(console: Console, study: Study) -> None:
    """Print what the plan and the data have to say, each with its code."""
    for warning in study.diagnostics:
        say(console, warning.message, label=f"warning ({warning.code}):")


def data_json(study: Study) -> dict[str, Any]:
    """The accounts of the sources and the coded warnings of the data."""
    return {
        "sources": [account.as_json() for account in study.accounts],
        "warnings": [diagnostic.document() for diagnostic in study.data_diagnostics],
    }
