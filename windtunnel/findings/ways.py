"""What the variants of a branch experiment ended at, from rows: losses, divergence, what lacks."""

from collections.abc import Mapping
from dataclasses import dataclass

from windtunnel.findings.records import Records
from windtunnel.spec import Duration
from windtunnel.spec.experiments import BranchExperiment, Variant
from windtunnel.trials.gather import Row

LOSS = "loss_"
"""Before the name of a validation set, in a row."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Way:
    """One variant's finished branches from one fork.

    Attributes:
        name: as the study file calls it.
        tokens: of all training, the decay included.
        decay: shape and final factor.
        shares: of each source in what it reads, in the order of data.sources.
        losses: validation set -> seed -> nats per token.
    """

    name: str
    tokens: int
    decay: tuple[str, float]
    shares: tuple[float, ...]
    losses: Mapping[str, Mapping[int, float]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ways:
    """Every way that has a finished run, and by variant the seeds that have none."""

    sets: tuple[str, ...]
    ways: tuple[Way, ...]
    diverged: Mapping[str, tuple[int, ...]]
    missing: Mapping[str, tuple[int, ...]]


def ways_of(records: Records, experiment: BranchExperiment, size: str, fork: Duration) -> Ways:
    """The ways to leave at one fork, in the order of the study file."""
    rows = [row for row in records.of(experiment.name, decayed=False) if row["size"] == size]
    here = [row for row in rows if row["kind"] == "branch" and _left_after(row, fork)]
    done = [row for row in here if row["outcome"] != "diverged" and row["loss"] is not None]
    known = dict.fromkeys(name for row in done for name in row if name.startswith(LOSS))
    sets = [name for name in known if all(row.get(name) is not None for row in done)]
    # A trunk that diverged takes with it every branch that has no row of its own.
    trunks = [row for row in rows if row["kind"] == "trunk"]
    lost = {row["init_seed"] for row in trunks if row["outcome"] == "diverged"}
    ways, diverged, missing = [], {}, {}
    for name, variant in experiment.variants.items():
        finished = {row["init_seed"]: row for row in done if str(row["variant"]) == name}
        tried = {row["init_seed"] for row in here if str(row["variant"]) == name} | lost
        absent = [seed for seed in experiment.seeds if seed not in finished]
        diverged[name] = tuple(seed for seed in absent if seed in tried)
        missing[name] = tuple(seed for seed in absent if seed not in tried)
        if finished:
            ways.append(_way(records, name, variant, finished, sets))
    return Ways(
        sets=tuple(name.removeprefix(LOSS) for name in sets),
        ways=tuple(ways),
        diverged={name: seeds for name, seeds in diverged.items() if seeds},
        missing={name: seeds for name, seeds in missing.items() if seeds},
    )


def _way(
    records: Records, name: str, variant: Variant, rows: Mapping[int, Row], sets: list[str]
) -> Way:
    """A way from its finished rows by seed."""
    schedule, sources = records.config.schedule, records.config.data.sources
    weights = variant.mixture or {source.label: source.weight for source in sources}
    factor = schedule.final_factor if variant.final_factor is None else variant.final_factor
    return Way(
        name=name,
        tokens=next(iter(rows.values()))["tokens"],
        decay=(variant.shape or schedule.shape, factor),
        shares=tuple(weights.get(each.label, 0.0) / sum(weights.values()) for each in sources),
        losses={
            each.removeprefix(LOSS): {seed: row[each] for seed, row in rows.items()}
            for each in sets
        },
    )


def _left_after(row: Row, fork: Duration) -> bool:
    """Whether a branch left after so much training: what it has and did not train itself."""
    batch = row["batch_tokens"]
    inherited = row["tokens"] * (1 - row["flops_spent"] / row["flops_exact"])
    return bool(round(inherited / batch) == fork.steps(params=row["params"], batch_tokens=batch))
