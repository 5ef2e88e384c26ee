"""Coordinate checks beside a study's other results: one small file a parametrization."""

import json
from pathlib import Path
from typing import Any

from windtunnel.trials.json_file import read_json, write_json


def keep_check(folder: Path, check: dict[str, Any]) -> Path:
    """Write a check, as JSON has it, over an earlier one of the same parametrization.

    Raises:
        StoreError: Disk full, or no permission.
    """
    path = folder / f"coordinate-check.{check['parametrization']}.json"
    written = json.loads(json.dumps(check))
    if read_json(path) != written:  # the time of a file is that of its result
        write_json(path, written)
    return path


def read_checks(folder: Path) -> list[dict[str, Any]]:
    """Every check that was kept, muP before standard."""
    found = (read_json(path) for path in sorted(folder.glob("coordinate-check.*.json")))
    return [check for check in found if check is not None]
