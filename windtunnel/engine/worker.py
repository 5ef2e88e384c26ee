"""A worker: runs one segment after another, stop by stop, and turns faults into reports."""

import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from windtunnel.errors import StoreError, StoreFull, WindtunnelError
from windtunnel.redact import redacted
from windtunnel.runs.lease import LeaseHeld
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.segment_run import LostFork, SegmentRun, fail
from windtunnel.runs.worker import WorkerContext, read_worker_config

Report = dict[str, Any]


class Worker:
    """A process's open data, its compiled shapes, and the segment in progress."""

    def __init__(self, config_path: Path) -> None:
        self.context = WorkerContext(read_worker_config(config_path))
        self._run: SegmentRun | None = None
        self._segment_id = ""

    def run(self, planned: PlannedSegment, *, trunk_tokens: int) -> Report:
        """Report of a segment's next stop; starts the segment or continues it.

        `trunk_tokens` counts all tokens planned on its trunk. The report has `event`, `step` and,
        at the end, `outcome`: that of the record, or `interrupted`; `busy` when another process
        holds the segment; `lost_fork` when the checkpoint that it starts from was damaged and is
        deleted. A fault that the user can fix gives `failed` with an `error`, and a `halt` where
        every other segment would fail too. Any other fault is raised, and the engine tries again.
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
        except StoreFull as full:  # not the segment's fault, and a record cannot be written
            self.close()
            return _ended("failed", full) | {"halt": "no space is left in the store"}
        except WindtunnelError as problem:
            self.close()
            return self._failed(segment_id, problem)
        except Exception as fault:
            self.close()
            with suppress(StoreError):
                text = redacted("".join(traceback.format_exception(fault)).strip())
                self.context.store.segment(segment_id).note(f"an attempt failed: {text}")
            raise
        if progress.event in {"done", "interrupted"}:
            self.close()
        outcome = "interrupted" if progress.event == "interrupted" else progress.outcome
        return {"event": progress.event, "step": progress.step, "outcome": outcome}

    def close(self) -> None:
        """Release the segment in progress."""
        if self._run is not None:
            self._run.__exit__(None, None, None)
        self._run, self._segment_id = None, ""

    def _begin(self, planned: PlannedSegment, trunk_tokens: int) -> None:
        run = SegmentRun(self.context, planned, planned_tokens=trunk_tokens)
        run.__enter__()
        self._run, self._segment_id = run, planned.id

    def _failed(self, segment_id: str, problem: WindtunnelError) -> Report:
        report = _ended("failed", problem)
        try:
            fail(self.context.store.segment(segment_id), str(problem))
        except StoreError as second:
            report["error"] = f"{problem}\n{second}"
        return report


def _ended(outcome: str, problem: WindtunnelError) -> Report:
    return {"event": "done", "step": 0, "outcome": outcome, "error": str(problem)}
