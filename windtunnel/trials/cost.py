"""What a plan costs before an update is run, and what its points cost without branches."""

import os
from dataclasses import dataclass

from windtunnel.accounting import BACKWARD_FACTOR, flops_6nd
from windtunnel.spec import StudyConfig, Trunk
from windtunnel.spec.path import flops_exact_at, flops_per_update
from windtunnel.trials.completion import is_complete, missing_stops, outcome_of
from windtunnel.trials.plan import PlannedSegment
from windtunnel.trials.retention import wanted_back
from windtunnel.trials.study import Study


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Totals of a plan. FLOPs count attention scores and the head; evaluation stands apart.

    Retraining is one run from scratch for each point that an experiment asks for. The end of a
    stage on the way to a variant is none: the variant's own run passes it, and measures it there.
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
        """Training FLOPs of retraining every point, over those planned."""
        return self.flops_retraining / self.flops


def cost_of(study: Study) -> Cost:
    """Add up a plan."""
    plan = study.plan
    asked = study.config.data.validation
    sets = len(study.validation) or len(study.config.data.set_names)
    flops = evaluation = retraining = six_nd = 0.0
    for planned in plan.segments:
        segment, model = planned.segment, planned.segment.model
        flops += planned.flops
        six_nd += flops_6nd(model.params, planned.tokens)
        is_trunk = isinstance(segment, Trunk)
        evaluated = asked.fork_tokens * len(planned.forks) if is_trunk else asked.tokens
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
class Left:
    """What a sweep would still have to do: updates by segment, and which segments have ended, how.

    `ended` has finished and diverged ones; one that only lacks an evaluation has 0 updates left.
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


def left_of(study: Study) -> Left:
    """Ask the store how far every segment is."""
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
    return Left(updates=updates, ended=ended)


def _updates_to(missing: list[int], planned: PlannedSegment, saved: list[int]) -> int:
    """Updates that make the missing stops, from the last checkpoint before them."""
    if not missing:
        return 0
    start = max([planned.segment.fork_step, *(step for step in saved if step <= missing[0])])
    return missing[-1] - start


def slots_here(config: StudyConfig) -> int:
    """Trials at once on this machine's cores."""
    slots = max(1, len(os.sched_getaffinity(0)) // config.resources.cpus_per_trial)
    return min(slots, config.resources.concurrency or slots)
