"""The store as the graph of a sweep sees it."""

from pathlib import Path

from windtunnel.engine.status import Status
from windtunnel.spec import Branch
from windtunnel.trials.completion import WantedSet, is_complete, outcome_of
from windtunnel.trials.plan import PlannedSegment
from windtunnel.trials.run import fail
from windtunnel.trials.store import Store


class StoreLedger:
    """What the store holds of the planned segments."""

    def __init__(self, store: Store, wanted: dict[str, WantedSet]) -> None:
        self.store, self.wanted = store, wanted

    def ended(self, planned: PlannedSegment) -> Status | None:
        """FINISHED where everything asked for is there, DIVERGED where that was the end of it."""
        if outcome_of(self.store.segment(planned.id).record, planned) == "diverged":
            return Status.DIVERGED
        return Status.FINISHED if is_complete(self.store, planned, self.wanted) else None

    def fork_is_saved(self, branch: PlannedSegment) -> bool:
        """Whether the parent's checkpoint at the fork is there."""
        segment = branch.segment
        assert isinstance(segment, Branch)
        return self.store.segment(segment.parent.id).has_checkpoint(
            segment.fork_step, moments=isinstance(segment.parent, Branch)
        )

    def begun(self, planned: PlannedSegment) -> object:
        """What an attempt leaves behind: the lease of a process that died, a note of a fault."""
        root = self.store.segment(planned.id).root
        return tuple(_state(root / name) for name in ("lease.json", "notes.jsonl"))

    def give_up(self, planned: PlannedSegment, problem: str | None) -> str:
        """Write the record of a failure; its last line."""
        folder = self.store.segment(planned.id)
        text = problem or folder.last_note() or "its worker process died on every attempt"
        fail(folder, text)
        return text.splitlines()[-1]


def _state(path: Path) -> tuple[int, int, int] | None:
    """Which file lies there: a lease is a new one, and notes grow."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
