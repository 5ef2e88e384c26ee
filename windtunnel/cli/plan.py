"""`windtunnel plan`: segments, work, data, disk, time, and the cost without branches."""

from dataclasses import asdict
from typing import Any

from rich.table import Table

from windtunnel.cli.text import duration, flops, print_json, say, si, size_of, terminal
from windtunnel.spec import Branch, StudyConfig
from windtunnel.trials.completion import is_complete
from windtunnel.trials.cost import Cost, cost_of, slots_here
from windtunnel.trials.study import Study


def print_plan(study: Study, *, as_json: bool) -> None:
    """Print the plan of an opened study."""
    cost = cost_of(study, slots=slots_here(study.config))
    wanted = study.wanted
    finished = sum(is_complete(study.store, p, wanted) for p in study.plan.segments)
    if as_json:
        print_json(
            {
                "study": study.config.study,
                "store": str(study.store.root),
                "segments": [_segment(study, planned) for planned in study.plan.segments],
                "cost": asdict(cost) | {"saving": cost.saving},
                "finished": finished,
                "data_prepared": study.dataset is not None,
                "warnings": list(study.warnings),
            }
        )
        return
    console = terminal()
    console.print(_table(study))
    for line in _lines(study, cost, finished):
        say(console, line)
    for warning in study.warnings:
        say(console, warning, label="warning:")


def print_resolved(config: StudyConfig) -> None:
    """Print the study as YAML with every default in place."""
    import sys

    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(config.model_dump(mode="json"), sys.stdout)


def _segment(study: Study, planned: Any) -> dict[str, Any]:
    segment = planned.segment
    per_token = segment.model.flops_exact_per_token
    return {
        "segment": planned.id,
        "kind": segment.kind,
        "parent": segment.parent.id if isinstance(segment, Branch) else None,
        "size": segment.model.size,
        "params": segment.model.params,
        "seed": planned.labels[0].seed,
        "horizon": planned.labels[0].horizon if isinstance(segment, Branch) else None,
        "held_out": planned.held_out,
        "from_update": segment.fork_step,
        "to_update": planned.end,
        "forks": list(planned.forks),
        "tokens": planned.tokens,
        "flops": planned.tokens * per_token,
        "epochs_at_end": study.epochs(planned.end * segment.recipe.batch_tokens),
    }


def _table(study: Study) -> Table:
    """One line a model and recipe; seeds side by side in one cell."""
    table = Table(title=f"study {study.config.study}", title_justify="left", box=None)
    for column in ("size", "params", "lr", "batch", "seeds", "horizons (updates)", "FLOPs"):
        table.add_column(column, justify="left" if column.startswith("hor") else "right")
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for branch in study.plan.branches:
        segment = branch.segment
        groups.setdefault((segment.model, segment.recipe), []).append(branch)
    trunks: dict[tuple[Any, ...], float] = {}
    for trunk in study.plan.trunks:
        key = (trunk.segment.model, trunk.segment.recipe)
        work = trunk.tokens * trunk.segment.model.flops_exact_per_token
        trunks[key] = trunks.get(key, 0.0) + work
    for (model, recipe), branches in groups.items():
        horizons = sorted({branch.end for branch in branches})
        seeds = sorted({label.seed for branch in branches for label in branch.labels})
        work = sum(branch.tokens for branch in branches) * model.flops_exact_per_token
        held = " held out" if all(branch.held_out for branch in branches) else ""
        table.add_row(
            model.size + held,
            si(model.params),
            f"{recipe.lr:g}",
            si(recipe.batch_tokens),
            str(len(seeds)),
            " ".join(str(end) for end in horizons),
            f"{work + trunks[(model, recipe)]:.2e}",
        )
    return table


def _lines(study: Study, cost: Cost, finished: int) -> list[str]:
    how = "measured here" if cost.speed_is_measured else "assumed; measured once something has run"
    lines = [
        f"segments     {cost.trunks} trunks + {cost.branches} branches; {finished} finished",
        f"updates      {cost.updates:,}",
        f"tokens       {si(cost.tokens)} trained{_epochs(study)}",
        f"compute      {flops(cost.flops)} training ({flops(cost.flops_6nd)} as 6ND), "
        f"{flops(cost.flops_evaluation)} evaluation",
        f"retraining   {flops(cost.flops_retraining)} for the same points, one run a horizon: "
        f"{cost.saving:.2f}x",
        f"disk         {size_of(cost.disk_bytes)}",
        f"time         about {duration(cost.seconds)} on {cost.slots} at once, "
        f"{cost.flops_per_second:.1e} FLOP/s each ({how})",
        f"store        {study.store.root}",
    ]
    return lines


def _epochs(study: Study) -> str:
    longest = max(p.end * p.segment.recipe.batch_tokens for p in study.plan.segments)
    epochs = study.epochs(longest)
    if epochs is None:
        return "; epochs are known once `sweep` has prepared the data"
    return f"; the longest path reads {epochs:.2g} epochs of its most repeated source"
