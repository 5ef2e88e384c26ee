"""From the store to runs: one for each finished or diverged segment of a plan."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from windtunnel.config import Branch, Segment, Trunk
from windtunnel.config.segment import (
    flops_6nd_at,
    flops_exact_at,
    flops_per_update,
    sunk_tokens,
    tokens_at,
)
from windtunnel.errors import Diagnostic
from windtunnel.runs.completion import outcome_of
from windtunnel.runs.plan import Plan, PlannedSegment
from windtunnel.runs.run import Run
from windtunnel.runs.store import Store
from windtunnel.runs.streams import mixture_of

Sets = dict[str, dict[str, Any]]


def gather(store: Store, plan: Plan) -> list[Run]:
    """Runs in the plan's order. A diverged segment has its outcome and no loss."""
    runs = (run_of(store, planned, plan.sets, plan.weights) for planned in plan.segments)
    return [run for run in runs if run is not None]


def unfinished_diagnostics(
    plan: Plan, ended: Collection[str], experiments: Collection[str]
) -> tuple[Diagnostic, ...]:
    """A warning that runs of some experiments are still to come.

    Args:
        plan: Everything that is planned, runs that a search may still suggest included.
        ended: Ids of the finished and diverged segments.
        experiments: Names of the experiments.
    """
    wanted = [
        branch.id
        for branch in plan.branches
        if any(label.experiment in experiments and not label.stage for label in branch.labels)
    ]
    missing = sum(each not in ended for each in wanted)
    if not missing:
        return ()
    return (
        Diagnostic(
            "runs-to-come",
            f"{missing} of {len(wanted)} planned runs of {', '.join(sorted(experiments))} are "
            "still to come: `windtunnel sweep` trains them, and `windtunnel status` shows how "
            "far they are",
            missing=missing,
            planned=len(wanted),
            experiments=sorted(experiments),
        ),
    )


def run_of(
    store: Store,
    planned: PlannedSegment,
    wanted: Mapping[str, str] = MappingProxyType({}),
    weights: Mapping[str, float] = MappingProxyType({}),
) -> Run | None:
    """The run of one segment at the plan's end of it; None until it is finished or diverged.

    Args:
        store: Where its folder lies.
        planned: The segment, and to what update the study needs it.
        wanted: Validation sets by name, with their fingerprints; what other studies of the store
            have measured is left out. All sets where it is empty.
        weights: Of the sources that trunks read. With them, a branch has its mixture.
    """
    folder, segment = store.segment(planned.id), planned.segment
    record = folder.record
    outcome = outcome_of(record, planned)
    if record is None or outcome not in {"finished", "diverged"}:
        return None
    diverged = outcome == "diverged"
    step = record["reached"] if diverged else planned.end
    sets = {} if diverged else _wanted(folder.measurements.get(step, {}), wanted)
    model, recipe = segment.model, segment.recipe
    copying = _copy_gain(sets, wanted)
    own = step - segment.fork_step
    seconds = record["seconds"] * own / max(record["reached"] - segment.fork_step, 1)
    six_nd = flops_6nd_at(segment, step)
    return Run(
        segment=planned.id,
        kind=segment.kind,
        parent=segment.parent.id if isinstance(segment, Branch) else None,
        trunk=segment.root.id,
        decayed=segment.decayed,
        experiments=tuple(dict.fromkeys(label.experiment for label in planned.labels)),
        variants=planned.variants,
        held_out=planned.held_out,
        width=model.width,
        depth=model.depth,
        params=model.params,
        params_embedding=model.params_embedding,
        params_active=model.params,
        params_total=model.params_total if model.experts > 1 else None,
        experts=model.experts if model.experts > 1 else None,
        sunk_tokens=sunk_tokens(segment),
        tokens=tokens_at(segment, step),
        flops_6nd=six_nd,
        flops_exact=flops_exact_at(segment, step),
        flops=six_nd,
        flops_spent=float(own * flops_per_update(segment)),
        batch_tokens=recipe.batch_tokens,
        lr=recipe.lr,
        init_seed=segment.root.init_seed,
        data_seed=segment.data_seed,
        horizon=planned.labels[0].horizon if isinstance(segment, Branch) else None,
        fork_tokens=fork_tokens(segment),
        epochs=max(record["epochs"].values(), default=0.0),
        outcome="diverged" if diverged else "finished",
        loss=_mean(sets, "nats_per_token"),
        bits_per_byte=_mean(sets, "bits_per_byte"),
        losses={
            name: sets[name]["nats_per_token"]
            for name in sorted(sets)
            if sets[name]["nats_per_token"] is not None
        },
        bits_per_byte_by_set={name: sets[name]["bits_per_byte"] for name in sorted(sets)},
        copy_gain=copying.get("gain"),
        copy_gain_se=copying.get("standard_error"),
        mixture=_mixture(segment, weights),
        tokens_per_second=own * recipe.batch_tokens / seconds if seconds > 0 else None,
        seconds=seconds,
    )


def fork_tokens(segment: Segment) -> int | None:
    """Tokens after which the path left its trunk; None of a trunk."""
    if isinstance(segment, Trunk):
        return None
    if isinstance(segment.parent, Trunk):
        return tokens_at(segment.parent, segment.fork_step)
    return fork_tokens(segment.parent)


def _mixture(segment: Segment, weights: Mapping[str, float]) -> dict[str, float]:
    """The share of each source at the end of a branch; empty without weights of trunks."""
    if not weights or not isinstance(segment, Branch):
        return {}
    read = mixture_of(segment) or weights
    return {name: read.get(name, 0.0) / sum(read.values()) for name in weights}


def _wanted(measured: Sets, wanted: Mapping[str, str]) -> Sets:
    """The sets that a study wants; all where nothing tells which."""
    if not wanted:
        return measured
    return {
        name: values
        for name, values in measured.items()
        if wanted.get(name) == values["fingerprint"]
    }


def _copy_gain(sets: Sets, wanted: Mapping[str, str]) -> dict[str, Any]:
    """The copy gain of the first set that has one; empty without."""
    ordered = (sets[name] for name in wanted or sets if name in sets)
    return next((each["copy_gain"] for each in ordered if "copy_gain" in each), {})


def _mean(sets: Sets, key: str) -> float | None:
    """Unweighted mean over the sets of full text; None where one of them has no value."""
    values = [each[key] for each in sets.values() if not each.get("conditional")]
    return sum(values) / len(values) if values and None not in values else None
