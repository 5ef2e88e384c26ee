"""From the store to a table: one row a finished or diverged segment of a plan."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from windtunnel.config import Branch, Segment, Trunk
from windtunnel.config.segment import flops_6nd_at, flops_exact_at, flops_per_update, tokens_at
from windtunnel.runs.completion import outcome_of
from windtunnel.runs.plan import Plan, PlannedSegment
from windtunnel.runs.store import Store
from windtunnel.runs.streams import mixture_of

Row = dict[str, Any]
Sets = dict[str, dict[str, Any]]

COLUMNS = (
    "segment", "kind", "parent", "trunk", "decayed", "experiment", "held_out", "width", "depth",
    "params", "params_embedding", "params_active", "tokens", "flops_6nd", "flops_exact", "flops",
    "flops_spent", "batch_tokens", "lr", "init_seed", "data_seed", "horizon", "variant",
    "fork_tokens", "epochs", "outcome",
    "loss", "bits_per_byte", "tokens_per_second", "seconds",
)  # fmt: skip
"""Columns of every table; a `loss_SET` and a `bits_per_byte_SET` for each validation set follow,
and where mixtures change a `weight_SOURCE`."""


def gather(store: Store, plan: Plan) -> list[Row]:
    """Rows in the plan's order. A diverged segment has its outcome and no loss."""
    rows = (row(store, planned, plan.sets, plan.weights) for planned in plan.segments)
    return [found for found in rows if found is not None]


def row(
    store: Store,
    planned: PlannedSegment,
    wanted: Mapping[str, str] = MappingProxyType({}),
    weights: Mapping[str, float] = MappingProxyType({}),
) -> Row | None:
    """The row of one segment at the plan's end of it; None until it is finished or diverged.

    `wanted` sets by name, with their fingerprints: what other studies have measured is left out.
    `weights` of the sources that trunks read: with them, the row has what it reads at its end.
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
    tokens, own = tokens_at(segment, step), step - segment.fork_step
    seconds = record["seconds"] * own / max(record["reached"] - segment.fork_step, 1)
    six_nd = flops_6nd_at(segment, step)
    values: Row = {
        "segment": planned.id,
        "kind": segment.kind,
        "parent": segment.parent.id if isinstance(segment, Branch) else None,
        "trunk": segment.root.id,
        "decayed": segment.decayed,
        "experiment": "+".join(dict.fromkeys(label.experiment for label in planned.labels)),
        "held_out": planned.held_out,
        "width": model.width,
        "depth": model.depth,
        "params": model.params,
        "params_embedding": model.params_embedding,
        "params_active": model.params_active,
        "tokens": tokens,
        "flops_6nd": six_nd,
        "flops_exact": flops_exact_at(segment, step),
        "flops": six_nd,
        "flops_spent": float(own * flops_per_update(segment)),
        "batch_tokens": recipe.batch_tokens,
        "lr": recipe.lr,
        "init_seed": segment.root.init_seed,
        "data_seed": segment.data_seed,
        "horizon": planned.labels[0].horizon if isinstance(segment, Branch) else None,
        "variant": planned.variant,
        "fork_tokens": fork_tokens(segment),
        "epochs": max(record["epochs"].values(), default=0.0),
        "outcome": outcome,
        "loss": _mean(sets, "nats_per_token"),
        "bits_per_byte": _mean(sets, "bits_per_byte"),
        "tokens_per_second": own * recipe.batch_tokens / seconds if seconds > 0 else None,
        "seconds": seconds,
    }
    for name in sorted(sets):
        values[f"loss_{name}"] = sets[name]["nats_per_token"]
        values[f"bits_per_byte_{name}"] = sets[name]["bits_per_byte"]
    if weights and isinstance(segment, Branch):
        read = mixture_of(segment) or weights
        values |= {f"weight_{name}": read.get(name, 0.0) / sum(read.values()) for name in weights}
    return values


def variant_of(row: Row, experiment: str) -> str | None:
    """What one experiment calls a row's variant, where others call it otherwise."""
    written = None if row.get("variant") is None else str(row["variant"])
    if written is None or ":" not in written:
        return written
    return dict(part.split(":", 1) for part in written.split("+")).get(experiment)


def _wanted(measured: Sets, wanted: Mapping[str, str]) -> Sets:
    """The sets that a study asks for; all where nothing tells which."""
    if not wanted:
        return measured
    return {
        name: found for name, found in measured.items() if wanted.get(name) == found["fingerprint"]
    }


def fork_tokens(segment: Segment) -> int | None:
    """Tokens after which the path left its trunk; None of a trunk."""
    if isinstance(segment, Trunk):
        return None
    if isinstance(segment.parent, Trunk):
        return tokens_at(segment.parent, segment.fork_step)
    return fork_tokens(segment.parent)


def _mean(sets: Sets, key: str) -> float | None:
    """Unweighted mean over the sets of full text; None where one of them has no value."""
    values = [found[key] for found in sets.values() if not found.get("conditional")]
    return sum(values) / len(values) if values and None not in values else None
