"""Coordinate checks beside a study's other results: one small file a parametrization."""

from pathlib import Path
from typing import Any

from windtunnel.trials.json_file import read_derived, write_if_changed
from windtunnel.trials.store_files import COORDINATE_CHECK


def keep_check(folder: Path, check: dict[str, Any]) -> Path:
    """Write a check, as JSON has it, over an earlier one of the same parametrization.

    Raises:
        StoreError: Disk full, or no permission.
    """
    path = folder / f"coordinate-check.{check['parametrization']}.json"
    write_if_changed(path, check)  # the time of a file is that of its result
    return path


def read_checks(folder: Path) -> list[dict[str, Any]]:
    """Every check that was kept, muP before standard; a damaged one is noted and left out.

    Raises:
        StoreError: One of them cannot be read.
    """
    found = (
        read_derived(path, COORDINATE_CHECK)
        for path in sorted(folder.glob("coordinate-check.*.json"))
    )
    return [check for check in found if check is not None]
