"""What variants ended at in one branch experiment, and what that took: one side of a ranking."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from windtunnel.findings.rank_noise import reach_of_mean
from windtunnel.findings.records import Records
from windtunnel.findings.way_rows import chains_of, lost, sets_of
from windtunnel.findings.ways import LOSS
from windtunnel.laws import Interval
from windtunnel.laws.table import Floats
from windtunnel.spec import Duration
from windtunnel.spec.branching import BranchExperiment
from windtunnel.trials.gather import Row

Left = tuple[BranchExperiment, Duration]
"""An experiment at one of its forks."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """What the variants that two experiments share ended at in one of them.

    Attributes:
        name: of the experiment, with its fork where it has several.
        seeds: those that every variant has.
        losses: validation set -> nats per token, shape (variants, seeds).
        tokens: of a branch after it has left its trunk, the mean.
        flops: of all the branches of one seed, a stage that several share once.
        trunk_flops: of one trunk up to the fork.
        lost: names of variants with a seed that diverged or has not finished.
    """

    name: str
    seeds: tuple[int, ...]
    losses: Mapping[str, Floats]
    tokens: float
    flops: float
    trunk_flops: float
    lost: tuple[str, ...]

    def mean(self, on: str, place: int) -> Interval:
        """Loss of one variant on a set over the seeds.

        The interval leaves out what all variants of a seed share, which moves no rank.
        """
        losses = self.losses[on]
        mean, reach = float(losses[place].mean()), reach_of_mean(losses)
        return Interval(mean, mean - reach, mean + reach)


def scores_of(records: Records, size: str, left: Left, shared: tuple[str, ...]) -> Scores:
    """Of the variants that two experiments share, in one of them."""
    experiment, fork = left
    chains = chains_of(records, experiment, size, fork)
    seeds = [seed for seed in experiment.seeds if all((name, seed) in chains for name in shared)]
    mine = {(name, seed): chains[name, seed] for name in shared for seed in seeds}
    ends = {key: chain[-1] for key, chain in mine.items()}
    segments = {row["segment"]: row for chain in mine.values() for row in chain}
    trunks = {row["segment"]: row for row in records.runs if row["kind"] == "trunk"}
    return Scores(
        name=experiment.name if len(experiment.forks) == 1 else f"{experiment.name} at {fork}",
        seeds=tuple(seeds),
        losses={
            on: np.array([[ends[name, seed][LOSS + on] for seed in seeds] for name in shared])
            for on in sets_of(mine)
        },
        tokens=float(np.mean([row["tokens"] - row["fork_tokens"] for row in ends.values()] or [0])),
        flops=sum(row["flops_spent"] for row in segments.values()) / max(len(seeds), 1),
        trunk_flops=_up_to(trunks, next(iter(ends.values()), None)),
        lost=lost(chains, shared, experiment.seeds),
    )


def _up_to(trunks: Mapping[str, Row], end: Row | None) -> float:
    """FLOPs of the trunk of a branch up to where it was left."""
    if end is None:
        return 0.0
    trunk = trunks[end["trunk"]]
    return float(trunk["flops_exact"] * end["fork_tokens"] / trunk["tokens"])
