"""Whether the store already holds all that a plan asks of a segment. Loads no torch."""

from typing import Any

from windtunnel.spec import Trunk
from windtunnel.trials.plan import PlannedSegment
from windtunnel.trials.store import Store


class WantedSet:
    """A validation set as a study wants it measured."""

    def __init__(self, fingerprint: str, *, end_tokens: int, fork_tokens: int) -> None:
        self.fingerprint = fingerprint
        self.end_tokens, self.fork_tokens = end_tokens, fork_tokens

    def tokens(self, planned: PlannedSegment) -> int:
        """Tokens wanted at the stops of a segment."""
        return self.fork_tokens if isinstance(planned.segment, Trunk) else self.end_tokens

    def is_met_by(self, measured: dict[str, Any] | None, planned: PlannedSegment) -> bool:
        """Whether what was measured is the same set, on as many tokens as were asked for."""
        return (
            measured is not None
            and measured["fingerprint"] == self.fingerprint
            and measured["asked"] >= self.tokens(planned)
        )


def stops_of(planned: PlannedSegment) -> tuple[int, ...]:
    """Updates at which the study wants a checkpoint and a measurement."""
    return planned.forks if isinstance(planned.segment, Trunk) else (planned.end,)


def outcome_of(record: dict[str, Any] | None, planned: PlannedSegment) -> str | None:
    """How a segment stands towards a plan: finished, diverged, failed, or None when unfinished.

    A trunk that was finished here and diverged later, on the way to another study's horizon, is
    finished here.
    """
    if record is None or record["outcome"] == "failed":
        return None if record is None else "failed"
    if record["outcome"] == "diverged" and record["reached"] <= planned.end:
        return "diverged"
    return "finished" if record["reached"] >= planned.end else None


def is_complete(store: Store, planned: PlannedSegment, wanted: dict[str, WantedSet]) -> bool:
    """Finished far enough, every stop saved, every set measured there."""
    folder = store.segment(planned.id)
    if outcome_of(folder.record, planned) != "finished":
        return False
    measurements = folder.measurements
    return all(
        folder.has_checkpoint(stop)
        and all(
            each.is_met_by(measurements.get(stop, {}).get(name), planned)
            for name, each in wanted.items()
        )
        for stop in stops_of(planned)
    )
