"""From the store to a table: one row a finished or diverged segment of a plan."""

from typing import Any

from windtunnel.accounting import flops_6nd
from windtunnel.spec import Branch
from windtunnel.trials.completion import outcome_of
from windtunnel.trials.plan import Plan, PlannedSegment
from windtunnel.trials.store import Store

Row = dict[str, Any]

COLUMNS = (
    "segment", "kind", "parent", "trunk", "decayed", "experiment", "held_out", "width", "depth",
    "params", "params_embedding", "params_active", "tokens", "flops_6nd", "flops_exact", "flops",
    "flops_spent", "batch_tokens", "lr", "init_seed", "data_seed", "horizon", "variant", "epochs",
    "outcome",
    "loss", "bits_per_byte", "tokens_per_second", "seconds",
)  # fmt: skip
"""Columns of every table; a `loss_SET` and a `bits_per_byte_SET` for each validation set follow."""


def gather(store: Store, plan: Plan) -> list[Row]:
    """Rows in the plan's order. A diverged segment has its outcome and no loss."""
    rows = (row(store, planned) for planned in plan.segments)
    return [found for found in rows if found is not None]


def row(store: Store, planned: PlannedSegment) -> Row | None:
    """The row of one segment at the plan's end of it; None until it is finished or diverged."""
    folder, segment = store.segment(planned.id), planned.segment
    record = folder.record
    outcome = outcome_of(record, planned)
    if record is None or outcome not in {"finished", "diverged"}:
        return None
    diverged = outcome == "diverged"
    step = record["reached"] if diverged else planned.end
    sets = {} if diverged else folder.measurements.get(step, {})
    model, recipe = segment.model, segment.recipe
    tokens, own = step * recipe.batch_tokens, (step - segment.fork_step) * recipe.batch_tokens
    seconds = (
        record["seconds"]
        * (step - segment.fork_step)
        / max(record["reached"] - segment.fork_step, 1)
    )
    six_nd = flops_6nd(model.params, tokens)
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
        "flops_exact": float(model.flops_exact_per_token) * tokens,
        "flops": six_nd,
        "flops_spent": float(model.flops_exact_per_token) * own,
        "batch_tokens": recipe.batch_tokens,
        "lr": recipe.lr,
        "init_seed": segment.root.init_seed,
        "data_seed": segment.data_seed,
        "horizon": planned.labels[0].horizon if isinstance(segment, Branch) else None,
        "variant": planned.variant,
        "epochs": max(record["epochs"].values(), default=0.0),
        "outcome": outcome,
        "loss": _mean(sets, "nats_per_token"),
        "bits_per_byte": _mean(sets, "bits_per_byte"),
        "tokens_per_second": own / seconds if seconds > 0 else None,
        "seconds": seconds,
    }
    for name in sorted(sets):
        values[f"loss_{name}"] = sets[name]["nats_per_token"]
        values[f"bits_per_byte_{name}"] = sets[name]["bits_per_byte"]
    return values


def _mean(sets: dict[str, dict[str, Any]], key: str) -> float | None:
    """Unweighted mean over the validation sets; None where one of them has no value."""
    values = [found[key] for found in sets.values()]
    return sum(values) / len(values) if values and None not in values else None
