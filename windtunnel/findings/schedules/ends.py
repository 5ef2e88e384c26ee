"""The decayed ends of all grids over schedules, and what each way of getting them costs."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from windtunnel.findings.records import Records
from windtunnel.spec.experiments import GridExperiment
from windtunnel.trials.gather import Row

AXES = frozenset({"size", "schedule.shape", "schedule.decay_fraction"})
FULL = 0.85
"""A decay of a larger share leaves at the end of warmup, and spans the whole run."""


@dataclass(frozen=True, kw_only=True)
class End:
    """One decayed end, in nats per token; `share` is the decay's, 1 for a full-length one.

    `flops_spent` are the branch's own training FLOPs, `flops` those from step 0.
    """

    seed: int
    horizon: str
    tokens: int
    shape: str
    share: float
    loss: float
    flops: float
    flops_spent: float


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Training FLOPs of one seed for the same `lengths`, by one trunk with decays or by cosines."""

    lengths: int
    wsd: float
    cosine: float

    @classmethod
    def of(cls, wsd: Iterable[End], cosine: Iterable[End]) -> "Cost":
        """Of branches that ran; the trunk counts up to the last of their forks."""
        full = {end.tokens: end for end in cosine}
        decays = [end for end in wsd if end.tokens in full]
        trunk = max((end.flops - end.flops_spent for end in decays), default=0.0)
        return cls(
            lengths=len(decays),
            wsd=trunk + sum(end.flops_spent for end in decays),
            cosine=sum(full[end.tokens].flops for end in decays),
        )


def schedule_grids(records: Records) -> list[GridExperiment]:
    """The grids that vary the schedule and nothing else but size."""
    return [
        experiment
        for experiment in records.config.experiments
        if isinstance(experiment, GridExperiment)
        and set(experiment.axes) <= AXES
        and set(experiment.axes) != {"size"}
    ]


def ends_of(records: Records, grids: list[GridExperiment], rows: list[Row]) -> Iterator[End]:
    """Of finished, decayed rows of these grids.

    A share is the one that was asked for: whole updates make it a little longer or shorter.
    """
    usual = records.config.schedule
    asked = {float(x) for grid in grids for x in grid.axes.get("schedule.decay_fraction", ())}
    asked.add(usual.decay_share)
    for row in rows:
        share = row["flops_spent"] / row["flops_exact"]
        yield End(
            seed=row["init_seed"],
            horizon=row["horizon"],
            tokens=row["tokens"],
            shape=row.get("schedule.shape") or usual.shape,
            share=1.0 if share > FULL else _nearest(asked, share),
            loss=row["loss"],
            flops=row["flops_exact"],
            flops_spent=row["flops_spent"],
        )


def _nearest(shares: set[float], share: float) -> float:
    return min(shares, key=lambda each: abs(math.log(each / share)))
