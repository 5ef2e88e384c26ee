"""What a plan costs before an update is run, and what its points cost without branches."""

import os
from dataclasses import dataclass
from statistics import median

from windtunnel.accounting import BACKWARD_FACTOR
from windtunnel.spec import Branch, StudyConfig, Trunk
from windtunnel.trials.plan import PlannedSegment
from windtunnel.trials.study import Study

ASSUMED_FLOPS_PER_SECOND = 7e10
"""One CPU core in fp32 until the store has measured this machine (assumed; measured with AVX-512 at
widths 32 to 256: 7e10 to 9e10)."""

BYTES_PER_PARAM_FORK, BYTES_PER_PARAM_END = 12, 4
"""A fork keeps fp32 weights and two moments; a branch's end keeps its weights."""

CURVE_BYTES_PER_STEP = 150
"""One JSON row of a curve (measured: 130 to 150)."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Totals of a plan. FLOPs count attention scores and the head; evaluation stands apart."""

    trunks: int
    branches: int
    updates: int
    tokens: int
    flops: float
    flops_6nd: float
    flops_evaluation: float
    flops_retraining: float
    disk_bytes: int
    seconds: float
    flops_per_second: float
    speed_is_measured: bool
    slots: int

    @property
    def saving(self) -> float:
        """Training FLOPs of retraining every horizon, over those planned."""
        return self.flops_retraining / self.flops


def cost_of(study: Study, *, slots: int) -> Cost:
    """Add up a plan; `slots` trials run at once."""
    plan = study.plan
    asked = study.config.data.validation
    sets = max(1, len(study.validation) or len(study.config.data.sources))
    flops = evaluation = retraining = six_nd = 0.0
    disk = 0
    for planned in plan.segments:
        model = planned.segment.model
        per_token = model.flops_exact_per_token
        flops += planned.tokens * per_token
        six_nd += 6.0 * model.params * planned.tokens
        is_trunk = isinstance(planned.segment, Trunk)
        evaluated = asked.fork_tokens * len(planned.forks) if is_trunk else asked.tokens
        evaluation += sets * evaluated * per_token / BACKWARD_FACTOR
        if isinstance(planned.segment, Branch):
            retraining += planned.end * planned.segment.recipe.batch_tokens * per_token
        disk += _disk(planned)
    speed, measured = _speed(study)
    return Cost(
        trunks=len(plan.trunks),
        branches=len(plan.branches),
        updates=sum(planned.steps for planned in plan.segments),
        tokens=sum(planned.tokens for planned in plan.segments),
        flops=flops,
        flops_6nd=six_nd,
        flops_evaluation=evaluation,
        flops_retraining=retraining,
        disk_bytes=disk,
        seconds=(flops + evaluation) / speed / slots,
        flops_per_second=speed,
        speed_is_measured=measured,
        slots=slots,
    )


def slots_here(config: StudyConfig) -> int:
    """Trials at once on this machine's cores."""
    slots = max(1, len(os.sched_getaffinity(0)) // config.resources.cpus_per_trial)
    return min(slots, config.resources.concurrency or slots)


def _disk(planned: PlannedSegment) -> int:
    model = planned.segment.model
    params = model.params + model.params_embedding
    kept = len(planned.forks) * BYTES_PER_PARAM_FORK
    if isinstance(planned.segment, Branch):
        kept = BYTES_PER_PARAM_END
    return params * kept + planned.steps * CURVE_BYTES_PER_STEP


def _speed(study: Study) -> tuple[float, bool]:
    """FLOP/s of one trial: the median over this study's finished segments, else an assumption."""
    speeds = []
    for planned in study.plan.segments:
        record = study.store.segment(planned.id).record
        if record and record["outcome"] == "finished" and record["seconds"] > 0:
            steps = record["reached"] - planned.segment.fork_step
            tokens = steps * planned.segment.recipe.batch_tokens
            speeds.append(tokens * planned.segment.model.flops_exact_per_token / record["seconds"])
    return (median(speeds), True) if speeds else (ASSUMED_FLOPS_PER_SECOND, False)
