"""The rows that the variants of a branch experiment passed through, first stage to last."""

from collections.abc import Collection, Mapping
from itertools import pairwise

from windtunnel.findings.records import Records
from windtunnel.findings.ways import LOSS, branches_at
from windtunnel.spec import Duration
from windtunnel.spec.branching import BranchExperiment
from windtunnel.trials.gather import Row

Chain = tuple[Row, ...]
"""Rows of the branches of one variant and seed, first stage to last; the trunk is none of them."""
Chains = Mapping[tuple[str, int], Chain]
"""(variant, seed) -> its stages."""


def chains_of(
    records: Records, experiment: BranchExperiment, size: str, fork: Duration
) -> dict[tuple[str, int], Chain]:
    """The stages of every variant that has finished from one fork, those of a design too."""
    by_id = {row["segment"]: row for row in records.runs}
    found = {}
    for row in branches_at(records, experiment, size, fork):
        name = row["variant"]
        if name not in experiment.ways or row["loss"] is None:
            continue
        chain = [row]
        while (parent := by_id.get(chain[0]["parent"])) is not None and parent["kind"] == "branch":
            chain.insert(0, parent)
        if len(chain) == len(experiment.ways[name]):
            found[name, row["init_seed"]] = tuple(chain)
    return found


def lost(chains: Chains, names: Collection[str], seeds: Collection[int]) -> tuple[str, ...]:
    """Variants with a seed that diverged or has not finished."""
    return tuple(name for name in names if any((name, seed) not in chains for seed in seeds))


def sets_of(chains: Chains) -> tuple[str, ...]:
    """Validation sets on which every variant that has finished was measured."""
    ends = [chain[-1] for chain in chains.values()]
    known = dict.fromkeys(name for row in ends for name in row if name.startswith(LOSS))
    return tuple(
        name.removeprefix(LOSS) for name in known if all(row.get(name) is not None for row in ends)
    )


def tokens_of_stages(chain: Chain) -> tuple[int, ...]:
    """How many tokens each stage read."""
    ends = [chain[0]["fork_tokens"], *(row["tokens"] for row in chain)]
    return tuple(end - begin for begin, end in pairwise(ends))
