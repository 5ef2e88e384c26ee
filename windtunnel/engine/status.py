"""Where a segment of a sweep can stand."""

from enum import StrEnum


class Status(StrEnum):
    """Where a segment stands in this sweep."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    DIVERGED = "diverged"
    FAILED = "failed"
    BLOCKED = "blocked"
    INTERRUPTED = "interrupted"


ENDED = frozenset({Status.FINISHED, Status.DIVERGED, Status.FAILED, Status.BLOCKED})
