"""A worker: takes one segment after another and brings each to its end, stop by stop."""

import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from windtunnel.errors import StoreError, StoreFull, WindtunnelError
from windtunnel.redact import redacted
from windtunnel.runs.lease import LeaseHeld
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.segment_run import LostFork, SegmentRun, fail
from windtunnel.runs.worker import WorkerContext, read_order

Report = dict[str, Any]


class Worker:
    """One process's hands: open data, compiled shapes, and the segment in progress."""

    def __init__(self, orders: Path) -> None:
        self.bench = WorkerContext(read_order(orders))
        self._run: SegmentRun | None = None
        self._segment_id = ""

    def run(self, planned: PlannedSegment, *, trunk_tokens: int) -> Report:
        """Begin a segment or go on with it, up to its next stop.

        `trunk_tokens` counts what is planned on its trunk in all.
        The report has `event`, `step` and, at the end, `outcome`: that of the record, or
        `interrupted`; `busy` where another process holds the segment; `lost_fork` where the
        checkpoint that it starts from was damaged and is gone. A fault that the user can mend ends
        the segment as failed, with `error`, and with `halt` where any other segment would fail of
        it too; any other fault is raised, for the engine to try again.
        """
        segment_id = planned.id
        try:
            if segment_id != self._segment_id:
                self.close()
                self._begin(planned, trunk_tokens)
            assert self._run is not None
            progress = self._run.advance()
        except LeaseHeld as held:
            self.close()
            return _ended("busy", held)
        except LostFork as lost:
            self.close()
            return _ended("lost_fork", lost)
        except StoreFull as full:  # no fault of the segment, and no room for a record
            self.close()
            return _ended("failed", full) | {"halt": "no space is left in the store"}
        except WindtunnelError as problem:
            self.close()
            return self._failed(segment_id, problem)
        except Exception as fault:
            self.close()
            with suppress(StoreError):
                text = redacted("".join(traceback.format_exception(fault)).strip())
                self.bench.store.segment(segment_id).note(f"an attempt failed: {text}")
            raise
        if progress.event in {"done", "interrupted"}:
            self.close()
        outcome = "interrupted" if progress.event == "interrupted" else progress.outcome
        return {"event": progress.event, "step": progress.step, "outcome": outcome}

    def close(self) -> None:
        """Let go of the segment in progress."""
        if self._run is not None:
            self._run.__exit__(None, None, None)
        self._run, self._segment_id = None, ""

    def _begin(self, planned: PlannedSegment, trunk_tokens: int) -> None:
        run = SegmentRun(self.bench, planned, planned_tokens=trunk_tokens)
        run.__enter__()
        self._run, self._segment_id = run, planned.id

    def _failed(self, segment_id: str, problem: WindtunnelError) -> Report:
        report = _ended("failed", problem)
        try:
            fail(self.bench.store.segment(segment_id), str(problem))
        except StoreError as second:
            report["error"] = f"{problem}\n{second}"
        return report


def _ended(outcome: str, problem: WindtunnelError) -> Report:
    return {"event": "done", "step": 0, "outcome": outcome, "error": str(problem)}
