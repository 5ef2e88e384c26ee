"""Records of a study that was never run: every decayed row has the loss that a test plants."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from windtunnel.accounting import flops_6nd
from windtunnel.config import Branch, load_study
from windtunnel.config.segment import flops_exact_at
from windtunnel.findings.records import Records, axes_of, axis_value
from windtunnel.runs.plan import PlannedSegment, make_plan
from windtunnel.runs.points import StudyContext
from windtunnel.runs.table import COLUMNS, fork_tokens

HEAD = """
data: {sources: [builtin:docs]}
model: {sizes: [32x3, 64x3, 128x3], head_dim: 16, context: 128}
recipe: {lr: 8e-3, base_width: 32, batch_tokens: 512, warmup_steps: 50, scale_emb: 2}
schedule: {shape: linear, decay_fraction: 0.2}
"""


def planted_records(
    folder: Path, experiments: str, loss: Callable[[dict[str, Any]], float | None], *, head=HEAD
) -> Records:
    """Records of `experiments` (YAML) under `head`; `loss` sees the row that lacks one.

    None stands for a run that diverged.
    """
    file = folder / "study.yaml"
    file.write_text(f"study: planted\n{head}\nexperiments:\n{experiments}\n")
    config = load_study(file)
    plan = make_plan(StudyContext(config=config, vocab_size=256, stream="planted"))
    rows = []
    for planned in plan.segments:
        row = _row(planned) | {axis: axis_value(planned, axis) for axis in axes_of(config)}
        found = loss(row) if isinstance(planned.segment, Branch) else 3.0
        row |= {"loss": found, "outcome": "diverged" if found is None else "finished"}
        rows.append(row)
    return Records(
        study="planted",
        config=config,
        runs=tuple(rows),
        curves=(),
        searches=(),
        forecasts=(),
        coordinate_checks=(),
        provenance={},
    )


def _row(planned: PlannedSegment) -> dict[str, Any]:
    segment, model, recipe = planned.segment, planned.segment.model, planned.segment.recipe
    tokens = planned.tokens_at_end
    row = dict.fromkeys(COLUMNS) | {
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
        "tokens": tokens,
        "flops_6nd": flops_6nd(model.params, tokens),
        "flops": flops_6nd(model.params, tokens),
        "flops_exact": flops_exact_at(segment, planned.end),
        "flops_spent": float(planned.flops),
        "batch_tokens": recipe.batch_tokens,
        "lr": recipe.lr,
        "init_seed": segment.root.init_seed,
        "data_seed": segment.data_seed,
        "horizon": planned.labels[0].horizon if isinstance(segment, Branch) else None,
        "variant": planned.variant,
        "fork_tokens": fork_tokens(segment),
        "epochs": 0.1,
        "seconds": 1.0,
        "size": model.size,
    }
    return row
