"""Runs that were never run: one at a time, or the records of a study with planted losses."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from windtunnel.accounting import flops_6nd
from windtunnel.config import Branch, load_study
from windtunnel.config.segment import flops_exact_at
from windtunnel.findings.records import Records, axes_of, axis_value
from windtunnel.runs.measured import fork_tokens
from windtunnel.runs.plan import PlannedSegment, make_plan
from windtunnel.runs.points import StudyContext
from windtunnel.runs.run import Run

HEAD = """
data: {sources: [builtin:docs]}
model: {sizes: [32x3, 64x3, 128x3], head_dim: 16, context: 128}
recipe: {lr: 8e-3, base_width: 32, batch_tokens: 512, warmup_steps: 50, scale_emb: 2}
schedule: {shape: linear, decay_fraction: 0.2}
"""


Losses = float | Mapping[str, float] | None
"""The mean loss, or that of each validation set; None of a run that diverged."""


def made_run(segment: str = "a", **fields) -> Run:
    """A decayed, finished branch; `fields` change what is assumed here."""
    assumed = {
        "kind": "branch", "parent": "t", "trunk": "t", "decayed": True, "experiments": ("law",),
        "width": 32, "depth": 3, "params": 36_864, "tokens": 368_640, "flops_6nd": 8.2e10,
        "flops": 8.2e10, "flops_exact": 1.2e11, "flops_spent": 2.4e10, "batch_tokens": 512,
        "lr": 8e-3, "init_seed": 0, "data_seed": 0, "horizon": "10N", "loss": 2.0,
    }  # fmt: skip
    return Run(segment=segment, **assumed | fields)


def with_losses(run: Run, losses: Losses) -> Run:
    """The run with these losses, and with the mean of those of sets."""
    if losses is None:
        return replace(run, outcome="diverged", loss=None, bits_per_byte=None)
    if isinstance(losses, Mapping):
        return replace(run, losses=losses, loss=fmean(losses.values()))
    return replace(run, loss=losses)


def planted_records(
    folder: Path, experiments: str, loss: Callable[[Run], Losses], *, head=HEAD
) -> Records:
    """Records of `experiments` (YAML) under `head`; `loss` sees the branch that lacks one."""
    file = folder / "study.yaml"
    file.write_text(f"study: planted\n{head}\nexperiments:\n{experiments}\n")
    config = load_study(file)
    plan = make_plan(StudyContext(config=config, vocab_size=256, stream="planted"))
    runs = []
    for planned in plan.segments:
        axes = {axis: axis_value(planned, axis) for axis in axes_of(config)}
        run = replace(_run(planned), axes=axes)
        runs.append(with_losses(run, loss(run) if isinstance(planned.segment, Branch) else 3.0))
    return Records(
        study="planted",
        config=config,
        runs=tuple(runs),
        curves=(),
        searches=(),
        forecasts=(),
        coordinate_checks=(),
        provenance={},
    )


def _run(planned: PlannedSegment) -> Run:
    segment, model, recipe = planned.segment, planned.segment.model, planned.segment.recipe
    tokens = planned.tokens_at_end
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
        tokens=tokens,
        flops_6nd=flops_6nd(model.params, tokens),
        flops=flops_6nd(model.params, tokens),
        flops_exact=flops_exact_at(segment, planned.end),
        flops_spent=float(planned.flops),
        batch_tokens=recipe.batch_tokens,
        lr=recipe.lr,
        init_seed=segment.root.init_seed,
        data_seed=segment.data_seed,
        horizon=planned.labels[0].horizon if isinstance(segment, Branch) else None,
        fork_tokens=fork_tokens(segment),
        epochs=0.1,
        seconds=1.0,
        loss=None,
    )
