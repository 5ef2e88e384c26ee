"""Writing a curve: one JSON row an update, appended in groups, so that it survives kill -9."""

import json
import math
import time
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from windtunnel.errors import StoreError
from windtunnel.train.loop import CurveRow


class CurveWriter(AbstractContextManager["CurveWriter"]):
    """Append rows whose step is beyond `after`; a group of rows is one write."""

    def __init__(self, path: Path, *, after: int) -> None:
        self.path, self.after = path, after

    def __enter__(self) -> "CurveWriter":
        self._file = self.path.open("ab", buffering=0)
        return self

    def __exit__(self, *problem: Any) -> None:
        self._file.close()

    def write(self, rows: list[CurveRow]) -> None:
        """Append what is new of `rows`.

        Raises:
            StoreError: Disk full.
        """
        now = time.time()
        fresh = [asdict(row) | {"time": now} for row in rows if row.step > self.after]
        if not fresh:
            return
        text = "".join(json.dumps(_finite(row), separators=(",", ":")) + "\n" for row in fresh)
        try:
            self._file.write(text.encode())
        except OSError as full:
            raise StoreError(
                f"{self.path}: cannot be written: {full.strerror}; free space, then run the same "
                "command again"
            ) from None
        self.after = fresh[-1]["step"]


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: a loss that is not finite is null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }
