"""What was handed over stays beside a study's other results: every Handoff, as it was written."""

from pathlib import Path
from typing import Any

from windtunnel.trials.lines import append_line, read_lines
from windtunnel.trials.store_files import HANDOFF

FILE = "handoffs.jsonl"


def keep_handoff(folder: Path, handoff: dict[str, Any], *, target: str) -> None:
    """Append a Handoff, as JSON has it, to the study's log, which is never rewritten.

    Raises:
        StoreError: Disk full, or no permission.
    """
    append_line(folder / FILE, {"target": target, "handoff": handoff})


def read_handoffs(folder: Path) -> list[dict[str, Any]]:
    """Every `{target, handoff}` of a study, oldest first.

    Raises:
        StoreError: A line is damaged.
    """
    return read_lines(folder / FILE, HANDOFF)
