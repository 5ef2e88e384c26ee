"""Training streams of segments: a branch may change its mixture, its context or its loss."""

import math
from collections.abc import Mapping

from windtunnel.config import Branch, ContextChange, ObjectiveChange, Segment, Trunk
from windtunnel.config.segment import rows_at, rows_per_update
from windtunnel.data import Dataset, TrainStream
from windtunnel.errors import DataError


class Streams:
    """The streams of a dataset's segments, each made once."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._made: dict[str, TrainStream] = {}

    def of(self, segment: Segment) -> TrainStream:
        """The training rows of a segment."""
        reader = segment
        while isinstance(reader, Branch) and not changes_data(reader):
            reader = reader.parent
        # Trunks read the same rows, whatever else they are.
        key = reader.id if isinstance(reader, Branch) else f"context {segment.model.context}"
        if key not in self._made:
            self._made[key] = self._stream(reader)
        return self._made[key]

    def _stream(self, segment: Segment) -> TrainStream:
        """The rows of a segment that changes its data, numbered from update 0 of its path.

        Where the mixture changes, every source continues where the path left it. Where the context
        changes, rows are cut anew, and every source continues with its next epoch.

        Raises:
            DataError: The segment was planned on another dataset.
        """
        if isinstance(segment, Trunk):
            return self.dataset.stream(segment.model.context)
        change, weights = segment.mixture, self._weights(segment)
        if change is not None and self.dataset.fingerprint_of(weights) != change.stream:
            raise DataError(
                "other-data",
                f"segment {segment.id}: the mixture {change.mixture} of this dataset is not the "
                "one that was planned; its sources have changed: give the study a new `study:` "
                "name",
                segment=segment.id,
                mixture=change.mixture,
                stream=change.stream,
            )
        first, context = rows_at(segment, segment.fork_step), segment.model.context
        before = self.of(segment.parent)
        begun, passed = before.read(first), before.epochs(first)
        if context != segment.parent.model.context:
            lengths = self.dataset.row_counts(context)
            # One more each time: an earlier context may have begun the same shuffle.
            begun = {
                name: (math.ceil(epochs) + _contexts(segment) - 1) * lengths[name]
                for name, epochs in passed.items()
            }
        return self.dataset.stream(
            context,
            weights=weights,
            first=first,
            begun=begun,
            passed=passed,
            ramp=0 if change is None else change.ramp * rows_per_update(segment),
            before=self._weights(segment.parent),
            completion=segment.objective == "completion",
        )

    def _weights(self, segment: Segment) -> Mapping[str, float]:
        """Weights of the sources that a segment reads, by name."""
        return mixture_of(segment) or {each.name: each.weight for each in self.dataset.sources}


def _contexts(segment: Segment) -> int:
    """Number of context changes on a segment's path."""
    if isinstance(segment, Trunk):
        return 0
    return _contexts(segment.parent) + (segment.change(ContextChange) is not None)


def mixture_of(segment: Segment) -> Mapping[str, float] | None:
    """The mixture that a segment's path has changed to; None where it is the trunk's."""
    if isinstance(segment, Trunk):
        return None
    if segment.mixture is not None:
        return segment.mixture.mixture
    return mixture_of(segment.parent)


def changes_data(segment: Segment) -> bool:
    """Whether a segment reads other data than its parent."""
    return (
        isinstance(segment, Trunk)
        or segment.mixture is not None
        or segment.change(ContextChange) is not None
        or segment.change(ObjectiveChange) is not None
    )
