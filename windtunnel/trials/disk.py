"""What a sweep needs on disk, at its peak; counted along a simulation of its segments."""

import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from windtunnel.spec import Branch, ModelSpec
from windtunnel.trials.pace import Pace, shape_of
from windtunnel.trials.plan import PlannedSegment

BYTES_PER_PARAM_FORK, BYTES_PER_PARAM_END = 12, 4
"""A fork keeps fp32 weights and two moments; a branch's end keeps its weights."""

HEADERS_FORK, HEADERS_END = (1150, 2050), (600, 420)
"""Of a checkpoint besides its tensors, and for each layer (measured at 1 to 3 layers)."""

CURVE_BYTES_PER_UPDATE = 160
"""One JSON row of a curve (measured: 150 in a trunk, 167 in a branch)."""

SMALL_FILES = 2000
"""A segment's record, spec, execution and losses (measured: 1,400 to 2,500)."""


def fork_bytes(model: ModelSpec) -> int:
    """A checkpoint with moments."""
    fixed, per_layer = HEADERS_FORK
    return _params(model) * BYTES_PER_PARAM_FORK + fixed + model.depth * per_layer


def end_bytes(model: ModelSpec) -> int:
    """A checkpoint of weights alone."""
    fixed, per_layer = HEADERS_END
    return _params(model) * BYTES_PER_PARAM_END + fixed + model.depth * per_layer


def free_bytes(folder: Path) -> int:
    """What is free on the volume of a folder, or of what it will lie in."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


class DiskUse:
    """Bytes of a plan's segments as they come and go, `peak` the most there were at once.

    A running segment is counted with its whole curve, a checkpoint that is being written, and one
    to go on from if it runs long enough to write one.
    """

    def __init__(self, segments: Iterable[PlannedSegment], pace: Pace, *, retain: str) -> None:
        self.now = self.peak = 0
        self._planned = {planned.id: planned for planned in segments}
        self._pace, self._frees_forks = pace, retain == "last"
        self._waiting: Counter[tuple[str, int]] = Counter()
        for planned in self._planned.values():
            if isinstance(planned.segment, Branch):
                self._waiting[(planned.segment.parent.id, planned.segment.fork_step)] += 1

    def started(self, segment_id: str) -> None:
        """A segment begins."""
        planned = self._planned[segment_id]
        self._add(SMALL_FILES + planned.steps * CURVE_BYTES_PER_UPDATE + self._passing(planned))

    def forked(self, segment_id: str, step: int) -> None:
        """A trunk has saved a fork."""
        self._add(fork_bytes(self._planned[segment_id].segment.model))

    def ended(self, segment_id: str) -> None:
        """A segment has ended; with `retain: last`, what it was the last to need goes."""
        planned = self._planned[segment_id]
        segment = planned.segment
        if not isinstance(segment, Branch):
            self.forked(segment_id, planned.end)
            self._add(-self._passing(planned))
            return
        kept = fork_bytes if planned.forks else end_bytes
        self._add(kept(segment.model) - self._passing(planned))
        start = segment.parent.id, segment.fork_step
        self._waiting[start] -= 1
        parent = self._planned[segment.parent.id]
        if self._frees_forks and not self._waiting[start] and segment.fork_step < parent.end:
            self._add(-fork_bytes(segment.model))

    def _passing(self, planned: PlannedSegment) -> int:
        """Bytes of what a running segment writes and removes again."""
        training = planned.steps * self._pace.of(shape_of(planned)).update
        count = 2 if training > self._pace.checkpoint_seconds else 1
        return count * fork_bytes(planned.segment.model)

    def _add(self, count: int) -> None:
        self.now += count
        self.peak = max(self.peak, self.now)


def _params(model: ModelSpec) -> int:
    return model.params + model.params_embedding
