"""What a segment reads: the stream of its path, which a branch may turn to another mixture."""

from windtunnel.data import Dataset, TrainStream
from windtunnel.errors import DataError
from windtunnel.spec import Segment, Trunk


def stream_of(dataset: Dataset, segment: Segment) -> TrainStream:
    """The rows of a segment, numbered from update 0 of its path.

    Where a mixture changes, every source goes on where the path left it.

    Raises:
        DataError: The dataset is not the one that the segment was planned on.
    """
    if isinstance(segment, Trunk):
        return dataset.stream(segment.model.context)
    before, change = stream_of(dataset, segment.parent), segment.mixture
    if change is None or change.mixture is None:
        return before
    if dataset.fingerprint_of(change.mixture) != change.stream:
        raise DataError(
            f"segment {segment.id}: the mixture {change.mixture} of this dataset is not the one "
            "that was planned; its sources have changed: give the study a new `study:` name"
        )
    first = segment.fork_step * (segment.recipe.batch_tokens // segment.model.context)
    return dataset.stream(
        segment.model.context, weights=change.mixture, first=first, begun=before.read(first)
    )
