"""Cost of a plan before it runs: FLOPs, retraining without branches, and peak disk usage.

Disk usage is counted along a simulation of the plan's segments.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from windtunnel.accounting import BACKWARD_FACTOR, flops_6nd
from windtunnel.config import Branch, ModelSpec, StudyConfig, Trunk
from windtunnel.config.segment import flops_exact_at, flops_per_update
from windtunnel.runs.budget.throughput import Throughput, shape_of
from windtunnel.runs.completion import is_complete, missing_stops, outcome_of
from windtunnel.runs.gc import wanted_back
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.study import Study


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Totals of a plan. FLOPs include attention scores and the head; evaluation is separate.

    Retraining is one run from scratch for each point of an experiment. The end of an inner stage of
    a variant is not a point: the variant's own run passes and measures it.
    """

    trunks: int
    branches: int
    updates: int
    tokens: int
    flops: float
    flops_6nd: float
    flops_evaluation: float
    flops_retraining: float

    @property
    def saving(self) -> float:
        """FLOPs of retraining every point, divided by the planned training FLOPs."""
        return self.flops_retraining / self.flops


def cost_of(study: Study) -> Cost:
    """The cost of a study's plan."""
    plan = study.plan
    validation = study.config.data.validation
    sets = len(study.validation) or len(study.config.data.set_names)
    flops = evaluation = retraining = six_nd = 0.0
    for planned in plan.segments:
        segment, model = planned.segment, planned.segment.model
        flops += planned.flops
        six_nd += flops_6nd(model.params, planned.tokens)
        is_trunk = isinstance(segment, Trunk)
        evaluated = validation.fork_tokens * len(planned.forks) if is_trunk else validation.tokens
        evaluation += sets * evaluated * model.flops_exact_per_token / BACKWARD_FACTOR
        if not is_trunk and not all(label.stage for label in planned.labels):
            retraining += flops_exact_at(segment, planned.end)
    return Cost(
        trunks=len(plan.trunks),
        branches=len(plan.branches),
        updates=sum(planned.steps for planned in plan.segments),
        tokens=sum(planned.tokens for planned in plan.segments),
        flops=flops,
        flops_6nd=six_nd,
        flops_evaluation=evaluation,
        flops_retraining=retraining,
    )


@dataclass(frozen=True, kw_only=True)
class RemainingWork:
    """Remaining work of a sweep: updates by segment, and the outcome of each ended segment.

    `ended` has finished and diverged segments. A segment that lacks only an evaluation has 0
    updates left.
    """

    updates: dict[str, int]
    ended: dict[str, str]

    def flops(self, study: Study) -> float:
        """Training FLOPs, exact rule, replays of freed forks included."""
        return sum(
            self.updates[planned.id] * flops_per_update(planned.segment)
            for planned in study.plan.segments
            if planned.id in self.updates
        )


def remaining_work(study: Study) -> RemainingWork:
    """Remaining work of a study, read from the store."""
    wanted, begun = study.wanted, study.store.begun()
    recalled: dict[str, list[int]] = {}
    for folder, fork in wanted_back(study.store, study.plan.segments, wanted):
        recalled.setdefault(folder.root.name, []).append(fork)
    updates, ended = {}, {}
    for planned in study.plan.segments:
        if planned.id not in begun:
            updates[planned.id] = planned.steps
            continue
        folder = study.store.segment(planned.id)
        again = recalled.get(planned.id, [])
        if not again and is_complete(study.store, planned, wanted):
            ended[planned.id] = "finished"
            continue
        if outcome_of(folder.record, planned) == "diverged":
            ended[planned.id] = "diverged"
            continue
        missing = sorted({*missing_stops(folder, planned, wanted), *again})
        updates[planned.id] = _updates_to(missing, planned, folder.every_step())
    return RemainingWork(updates=updates, ended=ended)


def _updates_to(missing: list[int], planned: PlannedSegment, saved: list[int]) -> int:
    """Updates to the missing stops from the last checkpoint before them."""
    if not missing:
        return 0
    start = max([planned.segment.fork_step, *(step for step in saved if step <= missing[0])])
    return missing[-1] - start


def slots_here(config: StudyConfig) -> int:
    """Parallel trials that this machine's cores can hold."""
    slots = max(1, len(os.sched_getaffinity(0)) // config.resources.cpus_per_trial)
    return min(slots, config.resources.concurrency or slots)


BYTES_PER_PARAM_FORK, BYTES_PER_PARAM_END = 12, 4
"""A fork keeps fp32 weights and two moments; a branch's end keeps its weights."""

HEADERS_FORK, HEADERS_END = (1150, 2050), (600, 420)
"""Bytes of a checkpoint besides its tensors, per layer (measured at 1 to 3 layers)."""

CURVE_BYTES_PER_UPDATE = 160
"""One JSON row of a curve (measured: 150 in a trunk, 167 in a branch)."""

SMALL_FILES = 2000
"""A segment's record, spec, execution and losses (measured: 1,400 to 2,500)."""


def fork_bytes(model: ModelSpec) -> int:
    """Bytes of a checkpoint with moments."""
    fixed, per_layer = HEADERS_FORK
    return _params(model) * BYTES_PER_PARAM_FORK + fixed + model.depth * per_layer


def end_bytes(model: ModelSpec) -> int:
    """Bytes of a checkpoint of weights alone."""
    fixed, per_layer = HEADERS_END
    return _params(model) * BYTES_PER_PARAM_END + fixed + model.depth * per_layer


def free_bytes(folder: Path) -> int:
    """Free bytes on the volume of a folder, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


class DiskUse:
    """Bytes of a plan's segments over time; `peak` is the maximum.

    A running segment counts with its whole curve, a checkpoint being written, and a resume
    checkpoint if it runs long enough to write one.
    """

    def __init__(
        self, segments: Iterable[PlannedSegment], throughput: Throughput, *, retain: str
    ) -> None:
        self.now = self.peak = 0
        self._planned = {planned.id: planned for planned in segments}
        self._pace, self._frees_forks = throughput, retain == "last"
        self._waiting: Counter[tuple[str, int]] = Counter()
        for planned in self._planned.values():
            if isinstance(planned.segment, Branch):
                self._waiting[(planned.segment.parent.id, planned.segment.fork_step)] += 1

    def started(self, segment_id: str) -> None:
        """Count a segment that begins."""
        planned = self._planned[segment_id]
        self._add(SMALL_FILES + planned.steps * CURVE_BYTES_PER_UPDATE + self._passing(planned))

    def forked(self, segment_id: str, step: int) -> None:
        """Count a fork that a trunk has saved."""
        self._add(fork_bytes(self._planned[segment_id].segment.model))

    def ended(self, segment_id: str) -> None:
        """Count an ended segment; `retain: last` subtracts the forks that only it needed."""
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
        """Bytes that a running segment writes and removes again."""
        training = planned.steps * self._pace.of(shape_of(planned)).update
        count = 2 if training > self._pace.checkpoint_seconds else 1
        return count * fork_bytes(planned.segment.model)

    def _add(self, count: int) -> None:
        self.now += count
        self.peak = max(self.peak, self.now)


def _params(model: ModelSpec) -> int:
    return model.params + model.params_embedding
