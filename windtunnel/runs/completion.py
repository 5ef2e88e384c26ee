"""Completion of a segment: whether the store holds everything that a plan needs. Loads no torch."""

from typing import Any

from windtunnel.config import Branch, Trunk
from windtunnel.runs.curves import reaches
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.store import SegmentFolder, Store


class WantedSet:
    """A validation set and the tokens that a study wants measured on it."""

    def __init__(self, fingerprint: str, *, end_tokens: int, fork_tokens: int) -> None:
        self.fingerprint = fingerprint
        self.end_tokens, self.fork_tokens = end_tokens, fork_tokens

    def tokens(self, planned: PlannedSegment) -> int:
        """Tokens to measure at the stops of a segment."""
        return self.fork_tokens if isinstance(planned.segment, Trunk) else self.end_tokens

    def is_met_by(self, measured: dict[str, Any] | None, planned: PlannedSegment) -> bool:
        """Whether a measurement is of this set and of enough tokens."""
        return (
            measured is not None
            and measured["fingerprint"] == self.fingerprint
            and measured.get("asked", 0) >= self.tokens(planned)
        )


def stops_of(planned: PlannedSegment) -> tuple[int, ...]:
    """Updates at which the study needs a checkpoint and a measurement."""
    if isinstance(planned.segment, Trunk):
        return planned.forks
    return tuple(sorted({*planned.forks, planned.end}))


def outcome_of(record: dict[str, Any] | None, planned: PlannedSegment) -> str | None:
    """Outcome of a segment under a plan: finished, diverged, failed, or None while unfinished.

    A trunk that finished here and diverged later, on the way to another study's horizon, counts as
    finished.
    """
    if record is None or record["outcome"] == "failed":
        return None if record is None else "failed"
    if record["outcome"] == "diverged" and record["reached"] <= planned.end:
        return "diverged"
    return "finished" if record["reached"] >= planned.end else None


def missing_stops(
    folder: SegmentFolder, planned: PlannedSegment, wanted: dict[str, WantedSet]
) -> tuple[int, ...]:
    """Stops whose checkpoint is still to be made.

    A deliberately freed checkpoint does not count as missing: a fork keeps the losses measured
    there. An end is made again for a validation set that was never measured on it.
    """
    # An end may have none; a trunk's fork without them is damaged, and reported as such.
    on = planned.forks if isinstance(planned.segment, Branch) else ()
    unsaved = [
        stop for stop in stops_of(planned) if not folder.has_checkpoint(stop, moments=stop in on)
    ]
    if isinstance(planned.segment, Trunk):
        return tuple(stop for stop in unsaved if not folder.is_released(stop))
    return tuple(
        stop
        for stop in unsaved
        if not (folder.is_released(stop) and _is_met(folder.measurements, planned, stop, wanted))
    )


def is_complete(store: Store, planned: PlannedSegment, wanted: dict[str, WantedSet]) -> bool:
    """Whether it is finished, with every stop saved or freed, every set measured, and its curve.

    Only the end of the curve is read: `cut_broken_curves` has removed broken parts before.
    """
    folder = store.segment(planned.id)
    if outcome_of(folder.record, planned) != "finished":
        return False
    if missing_stops(folder, planned, wanted) or not reaches(folder.curve, planned.end):
        return False
    measurements = folder.measurements
    return all(
        _is_met(measurements, planned, stop, wanted) or not folder.has_checkpoint(stop)
        for stop in stops_of(planned)
    )


def _is_met(
    measurements: dict[int, dict[str, Any]],
    planned: PlannedSegment,
    stop: int,
    wanted: dict[str, WantedSet],
) -> bool:
    measured = measurements.get(stop, {})
    return all(each.is_met_by(measured.get(name), planned) for name, each in wanted.items())
