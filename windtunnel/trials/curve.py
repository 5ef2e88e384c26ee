"""Writing a curve: one JSON row an update, appended in groups, so that it survives kill -9."""

import json
import math
import os
import time
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from windtunnel.errors import cannot_write
from windtunnel.train.loop import CurveRow


class CurveWriter(AbstractContextManager["CurveWriter"]):
    """Append rows whose step is beyond `after`; a group of rows is one write."""

    def __init__(self, path: Path, *, after: int) -> None:
        self.path, self.after = path, after

    def __enter__(self) -> "CurveWriter":
        self._file = self.path.open("ab", buffering=0)
        return self

    def __exit__(self, *problem: Any) -> None:
        with self._file:
            os.fsync(self._file)  # a checkpoint never reaches beyond its curve, even without power

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
            left = memoryview(text.encode())
            while left:  # a nearly full disk takes a part, and says nothing
                left = left[self._file.write(left) :]
        except OSError as refused:
            raise cannot_write(self.path, refused) from None
        self.after = fresh[-1]["step"]


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: a loss that is not finite is null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }
