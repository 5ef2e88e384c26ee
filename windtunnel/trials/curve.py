"""Writing a curve: one JSON row an update, appended in groups, so that it survives kill -9."""

import json
import math
import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from windtunnel.errors import cannot_write
from windtunnel.train.dynamics import Dynamics, DynamicsRow
from windtunnel.train.loop import CurveRow
from windtunnel.trials.store import DYNAMICS


class CurveWriter(AbstractContextManager["CurveWriter"]):
    """Append rows whose step is beyond `after`, and beside them those of `dynamics`."""

    def __init__(self, path: Path, *, after: int, dynamics: Dynamics | None = None) -> None:
        self._curve = _RowFile(path, after=after)
        self._beside = _RowFile(path.with_name(DYNAMICS), after=after) if dynamics else None
        self._dynamics = dynamics

    def __enter__(self) -> "CurveWriter":
        with ExitStack() as opened:
            for file in filter(None, (self._curve, self._beside)):
                opened.enter_context(file)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *problem: Any) -> None:
        self._opened.__exit__(*problem)

    def write(self, rows: list[CurveRow]) -> None:
        """Append what is new of `rows`; a group of rows is one write.

        Raises:
            StoreError: Disk full.
        """
        if self._dynamics is not None and self._beside is not None:
            self._beside.write(self._dynamics.rows(up_to=rows[-1].step))
        self._curve.write(rows)


class _RowFile(AbstractContextManager["_RowFile"]):
    """A file of JSON rows, each with a `step` and the time at which it was written."""

    def __init__(self, path: Path, *, after: int) -> None:
        self.path, self.after = path, after

    def __enter__(self) -> "_RowFile":
        self._file = self.path.open("ab", buffering=0)
        return self

    def __exit__(self, *problem: Any) -> None:
        with self._file:
            os.fsync(self._file)  # a checkpoint never reaches beyond its rows, even without power

    def write(self, rows: Sequence[CurveRow | DynamicsRow]) -> None:
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


def _finite(value: Any) -> Any:
    """JSON has no NaN: a number that is not finite is null."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
