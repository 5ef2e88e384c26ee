"""Results of the variants of a branch experiment at one fork, and their warnings."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from windtunnel.config import Duration
from windtunnel.config.branch import BranchExperiment, Stage
from windtunnel.config.model import ScheduleConfig
from windtunnel.errors import Diagnostic
from windtunnel.findings.base import one_seed
from windtunnel.findings.records import Records
from windtunnel.runs.plan import planned_segments
from windtunnel.runs.points import StudyContext, points_of
from windtunnel.runs.run import Run
from windtunnel.runs.variant import VariantPoint

ANY_VOCAB_SIZE = 256
"""Of a plan whose ids are not used: no other number of it depends on the vocabulary."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FinishedVariant:
    """One variant's finished branches from one fork.

    Attributes:
        name: as the study file calls it.
        tokens: of all training, the decay included.
        decayed: whether its last stage brings the rate down.
        besides: everything that it sets but the mixture of the last stage.
        context: tokens of a row, at which its losses are measured too.
        shares: of each source in what it reads, in the order of data.sources.
        losses: validation set -> seed -> nats per token.
    """

    name: str
    tokens: int
    decayed: bool
    besides: str
    context: int
    shares: tuple[float, ...]
    losses: Mapping[str, Mapping[int, float]]


@dataclass(frozen=True, kw_only=True, eq=False)
class VariantResults:
    """Every variant that has a finished run, and by variant the seeds that have none."""

    sets: tuple[str, ...]
    variants: tuple[FinishedVariant, ...]
    diverged: Mapping[str, tuple[int, ...]]
    missing: Mapping[str, tuple[int, ...]]


def variants_at(
    records: Records, experiment: BranchExperiment, size: str, fork: Duration
) -> VariantResults:
    """The variants at one fork, in the order of the study file, without those of a design."""
    here = branches_at(records, experiment, size, fork)
    done = [run for run in here if not run.diverged and run.loss is not None]
    sets = sets_of_all(done)
    cut_off = _cut_off(records, experiment, size, fork)
    variants, diverged, missing = [], {}, {}
    for name, stages in experiment.variants.items():
        mine = [run for run in here if run.variants.get(experiment.name) == name]
        finished = {run.init_seed: run for run in mine if not run.diverged and run.loss is not None}
        tried = {run.init_seed for run in mine}
        tried |= {seed for variant, seed in cut_off if variant == name}
        absent = [seed for seed in experiment.seeds if seed not in finished]
        diverged[name] = tuple(seed for seed in absent if seed in tried)
        missing[name] = tuple(seed for seed in absent if seed not in tried)
        if finished:
            variants.append(_variant(records, name, stages, finished, sets))
    return VariantResults(
        sets=sets,
        variants=tuple(variants),
        diverged={name: seeds for name, seeds in diverged.items() if seeds},
        missing={name: seeds for name, seeds in missing.items() if seeds},
    )


def branches_at(
    records: Records, experiment: BranchExperiment, size: str, fork: Duration
) -> list[Run]:
    """The branches of one size, and the chains that end in them, which left at one fork."""
    batch = records.config.recipe.batch_tokens

    def left_here(run: Run) -> bool:
        steps = fork.steps(params=run.params, batch_tokens=batch)
        return bool(run.fork_tokens == steps * batch)

    runs = records.of(experiment.name, decayed=False)
    branches = (run for run in runs if run.kind == "branch" and run.size == size)
    return [run for run in branches if left_here(run)]


def _cut_off(
    records: Records, experiment: BranchExperiment, size: str, fork: Duration
) -> set[tuple[str, int]]:
    """(variant, seed) whose path diverged at its trunk or at a stage: what comes after has no run.

    A stage that variants share is one segment, with a run that names one of them: the plan knows
    the others. Ids are of data, which records lack; names, seed, size and fork tell segments too.
    """
    trunks = [
        run
        for run in records.of(experiment.name, decayed=False)
        if run.kind == "trunk" and run.size == size
    ]
    diverged = {
        (run.variants.get(experiment.name), run.init_seed)
        for run in (*trunks, *branches_at(records, experiment, size, fork))
        if run.diverged
    }
    if not diverged:
        return set()
    study_context = StudyContext(config=records.config, vocab_size=ANY_VOCAB_SIZE, stream="")
    points = list(points_of(study_context, {}))
    named = {each.id: each.variants.get(experiment.name) for each in planned_segments(points)}
    return {
        (point.variant, point.trunk.init_seed)
        for point in points
        if isinstance(point, VariantPoint)
        and (point.experiment, point.trunk.model.size, point.fork) == (experiment.name, size, fork)
        and any(
            (named[segment], point.trunk.init_seed) in diverged
            for segment in (point.trunk.id, *(branch.id for branch in point.chain))
        )
    }


def _variant(
    records: Records,
    name: str,
    stages: Sequence[Stage],
    runs: Mapping[int, Run],
    sets: Sequence[str],
) -> FinishedVariant:
    """A variant from its finished runs by seed."""
    sources = records.config.data.sources
    weights = {source.label: source.weight for source in sources}
    for stage in stages:
        weights = stage.mixture or weights
    return FinishedVariant(
        name=name,
        tokens=next(iter(runs.values())).tokens,
        decayed=stages[-1].stable is None,
        context=next(
            (stage.context for stage in reversed(stages) if stage.context),
            records.config.model.context,
        ),
        besides=_besides_the_mixture(stages, records.config.schedule),
        shares=tuple(weights.get(each.label, 0.0) / sum(weights.values()) for each in sources),
        losses={on: {seed: run.losses[on] for seed, run in runs.items()} for on in sets},
    )


def _besides_the_mixture(stages: Sequence[Stage], schedule: ScheduleConfig) -> str:
    """All that a variant asks for but the mixture of its last stage, with defaults in place."""
    last = stages[-1]
    if last.stable is None:
        factor = schedule.final_factor if last.final_factor is None else last.final_factor
        last = last.replace(shape=last.shape or schedule.shape, final_factor=factor)
    before = [stage.model_dump_json() for stage in stages[:-1]]
    return " ".join([*before, last.model_dump_json(exclude={"mixture"})])


Chain = tuple[Run, ...]
"""The branches of one variant and seed, first stage to last; the trunk is none of them."""
Chains = Mapping[tuple[str, int], Chain]
"""(variant, seed) -> its stages."""


def chains_of(
    records: Records, experiment: BranchExperiment, size: str, fork: Duration
) -> dict[tuple[str, int], Chain]:
    """The stages of every variant that has finished from one fork, those of a design too."""
    by_id = {run.segment: run for run in records.runs}
    found = {}
    for run in branches_at(records, experiment, size, fork):
        name = run.variants.get(experiment.name, "")
        if name not in experiment.all_variants or run.loss is None:
            continue
        chain = [run]
        while (parent := by_id.get(chain[0].parent or "")) is not None and parent.kind == "branch":
            chain.insert(0, parent)
        if len(chain) == len(experiment.all_variants[name]):
            found[name, run.init_seed] = tuple(chain)
    return found


def lost(chains: Chains, names: Collection[str], seeds: Collection[int]) -> tuple[str, ...]:
    """Variants with a seed that diverged or has not finished."""
    return tuple(name for name in names if any((name, seed) not in chains for seed in seeds))


def unfinished_variants(names: Sequence[str]) -> Diagnostic:
    """The warning of variants that are `lost`."""
    return Diagnostic(
        "unfinished-variants", f"diverged or not there yet: {', '.join(names)}", variants=names
    )


def sets_of(chains: Chains) -> tuple[str, ...]:
    """Validation sets on which every variant that has finished was measured."""
    return sets_of_all([chain[-1] for chain in chains.values()])


def sets_of_all(runs: Sequence[Run]) -> tuple[str, ...]:
    """Validation sets on which every run was measured."""
    known = dict.fromkeys(name for run in runs for name in run.losses)
    return tuple(name for name in known if all(name in run.losses for run in runs))


def tokens_of_stages(chain: Chain) -> tuple[int, ...]:
    """How many tokens each stage read."""
    ends = [chain[0].fork_tokens, *(run.tokens for run in chain)]
    return tuple(end - begin for begin, end in pairwise(ends))


TWO_SEEDS = 2
"""Shared: Student's interval then has one degree of freedom, and its width is nearly all chance."""


def diagnostics(results: VariantResults, first: str) -> Iterator[Diagnostic]:
    """Warnings: little noise known, runs not there, ends that are not of one kind.

    `first` is the file's first variant; differences are from the first of those that finished.
    """
    variants, base = results.variants, results.variants[0]
    yield from _seeds(results)
    if base.name != first:
        yield Diagnostic(
            "other-base",
            f"{first!r} has no finished run: differences are from {base.name!r}",
            variant=first,
            base=base.name,
        )
    if results.diverged:
        message = f"diverged and left out: {_runs(results.diverged)}"
        yield Diagnostic("diverged-runs", message, seeds=results.diverged)
    if results.missing:
        yield Diagnostic(
            "missing-runs", f"not there yet: {_runs(results.missing)}", seeds=results.missing
        )
    contexts = sorted({variant.context for variant in variants})
    if len(contexts) > 1:
        of = {c: named([variant for variant in variants if variant.context == c]) for c in contexts}
        yield Diagnostic(
            "different-contexts",
            "losses are measured at each variant's own context, and a longer one is lower by "
            f"itself: {'; '.join(f'{names} at {context}' for context, names in of.items())}",
            contexts=contexts,
        )
    held = [variant for variant in variants if not variant.decayed]
    if held and len(held) < len(variants):
        yield Diagnostic(
            "undecayed-variants",
            "ends at the stable rate, undecayed: "
            f"{named(held)}; a decay alone would lower that loss, so it is no match for the others",
            variants=[variant.name for variant in held],
        )
    by_end = sorted(variants, key=lambda variant: variant.tokens)
    ends = [
        f"{named(list(group))} after {tokens:,} tokens"
        for tokens, group in groupby(by_end, key=lambda variant: variant.tokens)
    ]
    if len(ends) > 1:
        yield Diagnostic(
            "different-lengths",
            "variants end at different lengths, and a difference between them is one of more "
            f"training too: {'; '.join(ends)}",
            tokens=sorted({variant.tokens for variant in variants}),
        )


def _seeds(results: VariantResults) -> Iterator[Diagnostic]:
    """Where one seed or two tell what noise is."""
    base, on = results.variants[0], results.sets[0]
    shared = {
        variant: len(set(variant.losses[on]) & set(base.losses[on]))
        for variant in results.variants[1:]
    }
    if len({seed for variant in results.variants for seed in variant.losses[on]}) == 1:
        yield one_seed()
        return
    if apart := [variant for variant, seeds in shared.items() if not seeds]:
        yield Diagnostic(
            "no-shared-seed",
            f"no seed shared with {base.name!r}, and so not compared: {named(apart)}",
            base=base.name,
            variants=[variant.name for variant in apart],
        )
    if unsure := [variant for variant, seeds in shared.items() if seeds == 1]:
        yield Diagnostic(
            "one-shared-seed",
            f"one seed shared with {base.name!r}, so no interval: {named(unsure)}",
            base=base.name,
            variants=[variant.name for variant in unsure],
        )
    if rough := [variant for variant, seeds in shared.items() if seeds == TWO_SEEDS]:
        which = "" if len(rough) == len(shared) else f": {named(rough)}"
        yield Diagnostic(
            "two-seeds",
            f"two seeds{f' shared with {base.name!r}' if which else ''}, so an interval rests on "
            f"one degree of freedom and may by chance be far too narrow or too wide{which}",
            base=base.name,
            variants=[variant.name for variant in rough],
        )


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def named(variants: Sequence[FinishedVariant]) -> str:
    """`'docs', 'code10' and 'code'`."""
    return listed([repr(variant.name) for variant in variants])


def _runs(seeds: Mapping[str, tuple[int, ...]]) -> str:
    """`'code' (seeds 0 and 1)`."""
    return ", ".join(
        f"{name!r} (seed{'s' * (len(each) > 1)} {listed([str(seed) for seed in each])})"
        for name, each in seeds.items()
    )
