"""Coordinate checks and Handoffs, kept beside a study's other results.

Each parametrization has one file for its coordinate check. Handoffs are appended to a log.
"""

from pathlib import Path
from typing import Any

from windtunnel.runs.files import append_line, read_derived, read_lines, write_if_changed
from windtunnel.runs.schemas import COORDINATE_CHECK, HANDOFF


def keep_check(folder: Path, check: dict[str, Any]) -> Path:
    """Write a check as JSON, over an earlier one of the same parametrization.

    Raises:
        StoreError: Disk full, or no permission.
    """
    path = folder / f"coordinate-check.{check['parametrization']}.json"
    write_if_changed(path, check)  # the time of a file is that of its result
    return path


def read_checks(folder: Path) -> list[dict[str, Any]]:
    """Every stored check, muP before standard; a damaged one is logged and skipped.

    Raises:
        StoreError: One of them cannot be read.
    """
    checks = (
        read_derived(path, COORDINATE_CHECK)
        for path in sorted(folder.glob("coordinate-check.*.json"))
    )
    return [check for check in checks if check is not None]


FILE = "handoffs.jsonl"


def keep_handoff(folder: Path, handoff: dict[str, Any], *, target: str) -> None:
    """Append a Handoff to the study's log, which is never rewritten.

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
