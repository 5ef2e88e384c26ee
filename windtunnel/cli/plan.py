"""`windtunnel plan`: segments, compute, data, disk, estimated time, and the saving of branches."""

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from windtunnel.cli.options import AsJson, StudyFile
from windtunnel.cli.text import (
    data_json,
    duration,
    flops,
    print_json,
    say,
    say_data,
    say_warnings,
    size_of,
    terminal,
)
from windtunnel.quantities import write_count

if TYPE_CHECKING:
    from windtunnel.config import ModelSpec, StudyConfig
    from windtunnel.config.branch import BranchExperiment
    from windtunnel.config.search import SearchExperiment
    from windtunnel.config.segment import HoldTokens
    from windtunnel.engine.simulate import Estimate
    from windtunnel.errors import Diagnostic
    from windtunnel.runs.budget.calibration import Calibration
    from windtunnel.runs.budget.cost import Cost, RemainingWork
    from windtunnel.runs.budget.throughput import Shape, Throughput
    from windtunnel.runs.plan import PlannedSegment
    from windtunnel.runs.study import Study


MOST_LINES = 200
"""Most rows of the table. Drawing 5,000 takes 2 s (measured)."""

SHOWN = ("lr", "batch_tokens")
"""Fields of the recipe that every line of the table has."""

MOST_NAMES = 12
"""Most variants of an experiment that are named."""


def plan(
    study: StudyFile,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Print the study with all defaults filled in.")
    ] = False,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate", help="First time a few real updates of every shape on this machine."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a sweep would run and cost, without running anything."""
    from windtunnel.runs.study import open_study

    opened = open_study(study)
    if resolved:
        print_resolved(opened.config)
    else:
        print_plan(opened, calibrates=calibrate, as_json=as_json)


def print_plan(study: "Study", *, calibrates: bool, as_json: bool) -> None:
    """Print the plan of an opened study; with `calibrates`, time its shapes first."""
    from windtunnel.engine.simulate import estimate_sweep
    from windtunnel.runs.budget.budget import over_budget
    from windtunnel.runs.budget.calibration import calibrate, read_calibration
    from windtunnel.runs.budget.cost import cost_of, free_bytes, remaining_work, slots_here
    from windtunnel.runs.budget.throughput import throughput_of
    from windtunnel.runs.preflight import beyond_this_machine

    slots = slots_here(study.config)
    if calibrates:
        calibration: Calibration | None = calibrate(study.expected, slots=slots, tell=_tell)
    else:
        calibration = read_calibration(study, slots=slots)
    throughput = throughput_of(study, calibration.by_shape() if calibration else None)
    expected = study.expected
    cost, remaining = cost_of(expected), remaining_work(expected)
    estimate = estimate_sweep(expected, throughput, remaining, slots=slots)
    budget = over_budget(expected, remaining, throughput, estimate.disk_peak)
    beyond = beyond_this_machine(study.config.resources)
    ladders = _ladders(study)
    finished = sum(outcome == "finished" for outcome in remaining.ended.values())
    if as_json:
        print_json(
            {
                "study": study.config.study,
                "store": str(study.store.root),
                "segments": [
                    _segment(study, planned, throughput) for planned in study.plan.segments
                ],
                "cost": asdict(cost) | {"saving": cost.saving},
                "finished": finished,
                "left": {
                    "segments": len(remaining.updates),
                    "updates": sum(remaining.updates.values()),
                    "flops": remaining.flops(expected),
                    "seconds": estimate.left.makespan,
                },
                "time": {
                    "slots": slots,
                    "seconds": estimate.whole.makespan,
                    "bound_seconds": estimate.whole.bound,
                    "utilisation": estimate.whole.utilisation,
                    "flops_per_second": throughput.flops_per_second,
                    "speed": throughput.source,
                },
                "disk": {
                    "peak_bytes": estimate.disk_peak,
                    "end_bytes": estimate.disk_end,
                    "free_bytes": free_bytes(study.store.root),
                },
                "calibration": calibration.model_dump(mode="json") if calibration else None,
                "over_budget": budget,
                "waits_for": {name: list(each) for name, each in study.waits_for.items()},
                "taken": study.taken.model_dump(mode="json"),
                "data_prepared": study.dataset is not None,
                "data": data_json(study),
                "transitions": [each.document() for each in ladders],
                "warnings": [*study.warnings, *(each.message for each in (*beyond, *ladders))],
            }
        )
        return
    console = terminal()
    console.print(_table(expected))
    for line in (*_experiments(study), *_taken(study)):
        say(console, line)
    for line in _lines(expected, cost, remaining, finished):
        say(console, line)
    for line in estimate_lines(study, throughput, estimate, slots=slots):
        say(console, line)
    say(console, f"store        {study.store.root}")
    if calibration:
        console.print(calibration_table(expected, calibration, throughput))
    say_data(console, study)
    say_warnings(console, study)
    for diagnostic in (*beyond, *ladders):
        say(console, diagnostic.message, label=f"warning ({diagnostic.code}):")
    for warning in _too_full(expected, estimate):
        say(console, warning, label="warning:")
    for line in budget:
        say(console, line, label="over budget:", style="red")


def _ladders(study: "Study") -> "tuple[Diagnostic, ...]":
    """Transitions that the runs so far show in the study's ladders, or ahead of them."""
    from windtunnel.config.study import LadderExperiment
    from windtunnel.runs.measured import gather
    from windtunnel.runs.transition import ladder_warnings

    experiments = [each for each in study.config.experiments if isinstance(each, LadderExperiment)]
    return ladder_warnings(experiments, study.plan, gather(study.store, study.plan))


def print_resolved(config: "StudyConfig") -> None:
    """Print the study as YAML with all defaults filled in."""
    from windtunnel.config.load import resolved_text

    print(resolved_text(config), end="")


def _segment(study: "Study", planned: "PlannedSegment", throughput: "Throughput") -> dict[str, Any]:
    from windtunnel.config import Branch

    segment = planned.segment
    return {
        "segment": planned.id,
        "kind": segment.kind,
        "parent": segment.parent.id if isinstance(segment, Branch) else None,
        "experiments": list(dict.fromkeys(label.experiment for label in planned.labels)),
        "variant": planned.variant,
        "size": segment.model.size,
        "params": segment.model.params,
        "seed": planned.labels[0].seed,
        "horizon": planned.labels[0].horizon if isinstance(segment, Branch) else None,
        "held_out": planned.held_out,
        "from_update": segment.fork_step,
        "to_update": planned.end,
        "forks": list(planned.forks),
        "tokens": planned.tokens,
        "flops": planned.flops,
        "seconds": throughput.seconds(planned),
        "epochs_at_end": study.epochs.get(planned.id),
    }


def _table(study: "Study") -> Table:
    """One row per model and recipe, and one per search."""
    from windtunnel.config import Branch
    from windtunnel.config.search import SearchExperiment

    table = Table(title=f"study {study.config.study}", title_justify="left", box=None)
    searches = {e.name for e in study.config.experiments if isinstance(e, SearchExperiment)}
    groups: dict[tuple[Any, ...], list[PlannedSegment]] = {}
    for planned in study.plan.segments:
        segment, experiments = planned.segment, {label.experiment for label in planned.labels}
        searched = min(experiments) if experiments <= searches else None  # a trunk may serve two
        hold = segment.root.hold
        key = (searched,) if searched else (segment.model, segment.recipe, hold)
        groups.setdefault(key, []).append(planned)
    varied = _varied([key for key in groups if len(key) > 1])
    columns = ("size", "params", "lr", "batch", *varied, "seeds", "horizons (updates)", "FLOPs")
    for column in columns:
        table.add_column(column, justify="left" if column.startswith("hor") else "right")
    for group in sorted(groups.values(), key=_order)[:MOST_LINES]:
        branches = [planned for planned in group if isinstance(planned.segment, Branch)]
        rows = branches or group  # a trunk whose branches all have another batch or context
        one, experiments = rows[0].segment, {each.experiment for each in rows[0].labels}
        horizons = sorted({each.end for each in rows})
        seeds = sorted({label.seed for each in rows for label in each.labels})
        batches = dict.fromkeys(each.segment.recipe.batch_tokens for each in rows)
        work = sum(each.flops for each in group)
        held = " held out" if all(each.held_out for each in rows) else ""
        table.add_row(
            _shape(study, one.model) + held,
            write_count(one.model.params),
            f"search {experiments.pop()}" if experiments <= searches else f"{one.recipe.lr:g}",
            " ".join(write_count(batch) for batch in batches),
            *(
                "" if experiments <= searches else _short(value_of(one))
                for value_of in varied.values()
            ),
            str(len(seeds)),
            " ".join(str(end) for end in horizons) + (" (trunk)" if not branches else ""),
            f"{work:.2e}",
        )
    if (more := len(groups) - MOST_LINES) > 0:
        table.caption = f"{more} more lines, not shown; --json has every segment"
        table.caption_justify = "left"
    return table


def _varied(keys: "Sequence[tuple[Any, ...]]") -> "dict[str, Callable[[Any], object]]":
    """What else of the recipe differs between lines, and how to read it off a segment."""
    found: dict[str, Callable[[Any], object]] = {}
    recipes = {recipe for _, recipe, _ in keys}
    for name in type(next(iter(recipes))).model_fields if len(recipes) > 1 else ():
        if name not in SHOWN and len({getattr(each, name) for each in recipes}) > 1:
            found[name] = attrgetter(f"recipe.{name}")
    if len({_power(hold) for *_, hold in keys}) > 1:
        found["hold"] = lambda segment: _power(segment.root.hold)
    return found


def _power(hold: "HoldTokens | None") -> float | str:
    return "constant" if hold is None else hold.power


def _order(group: "list[PlannedSegment]") -> tuple[Any, ...]:
    """Smallest models first, then lowest rates and batches; longer contexts of a shape last."""
    segment = group[-1].segment
    model, recipe = segment.model, segment.recipe
    return model.params, model.width, recipe.lr, recipe.batch_tokens, model.context


def _shape(study: "Study", model: "ModelSpec") -> str:
    """The size, such as `32x3`, and what else of the model a branch changes."""
    family, parts = study.config.model, [model.size]
    if model.context != family.context:
        parts.append(f"context {model.context}")
    if model.rotary_base not in {None, family.rope_base}:
        parts.append(f"rope_base {model.rotary_base:g}")
    return ", ".join(parts)


def _lines(study: "Study", cost: "Cost", remaining: "RemainingWork", finished: int) -> list[str]:
    begun = f"; {flops(remaining.flops(study))} left to train" if remaining.ended else ""
    return [
        f"segments     {cost.trunks} trunks + {cost.branches} branches; {finished} finished{begun}",
        f"updates      {cost.updates:,}",
        f"tokens       {write_count(cost.tokens)} trained{_epochs(study)}",
        f"compute      {flops(cost.flops)} training ({flops(cost.flops_6nd)} as 6ND), "
        f"{flops(cost.flops_evaluation)} evaluation",
        f"retraining   {flops(cost.flops_retraining)} for the same points, one run a horizon: "
        f"{cost.saving:.2f}x",
    ]


def _search(study: "Study", experiment: "SearchExperiment") -> str:
    """`30 trials of 16x1 to 10N, 12 suggested; then 3 x 2 new seeds, and to 20N`."""
    from windtunnel.runs.points import search_size
    from windtunnel.runs.search.projection import trial_count
    from windtunnel.runs.search.trial_log import read_suggested

    size, suggested = (
        search_size(study.study_context, experiment),
        read_suggested(study.folder, experiment),
    )
    count = max(trial_count(experiment), len(suggested.trials))
    text = f"{count} trials of {size} to {experiment.horizon}, {len(suggested.trials)} suggested"
    if experiment.early_stopping:
        rungs = ", ".join(map(str, experiment.early_stopping.rungs))
        text += f", stopped early at {rungs} by {experiment.early_stopping.rule}"
    if not experiment.top:
        return f"{text}; none is repeated"
    return (
        f"{text}; then {experiment.top} x {experiment.repeats} new seeds, and to "
        f"{experiment.longer_horizon}"
    )


def _experiments(study: "Study") -> Iterator[str]:
    from windtunnel.config.branch import BranchExperiment
    from windtunnel.config.search import SearchExperiment

    for each in study.config.experiments:
        if isinstance(each, SearchExperiment):
            yield f"{'search ' + each.name:<11}  {_search(study, each)}"
        elif isinstance(each, BranchExperiment):
            yield f"{'branch ' + each.name:<11}  {_branch(study, each)}"


def _taken(study: "Study") -> Iterator[str]:
    """What experiments have taken from others, and what those that wait are shown with."""
    takers: dict[tuple[str, int], list[str]] = {}
    for name, winner in study.taken.winners.items():
        takers.setdefault((winner.source, winner.trial), []).append(name)
    for (source, trial), names in takers.items():
        values = ", ".join(
            f"{axis} {_short(value)}"
            for axis, value in study.taken.winners[names[0]].values.items()
        )
        yield f"recipe       of {', '.join(names)}: trial {trial} of search {source}, {values}"
    for power in study.taken.powers:
        ends = "" if power.low is None else f" ({power.low:.3g} to {power.high:.3g})"
        yield (
            f"transfer     {power.setting} ~ {power.along}^{power.power:.3g}{ends}, measured by "
            f"{power.source}"
        )
    for name, sources in study.waits_for.items():
        yield (
            f"waiting      {name}, for {' and '.join(sources)}; until then it is shown with the "
            "study's recipe"
        )


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _branch(study: "Study", experiment: "BranchExperiment") -> str:
    """`forks 4000 steps of 32x3, 5 variants x 3 seeds: docs, code10, code30, code50, code100`."""
    sizes = experiment.sizes or study.config.model.sizes
    written, count = list(experiment.variants), len(experiment.all_variants)
    names = written[:MOST_NAMES]
    if more := len(written) - len(names):
        names.append(f"{more} more")
    if drawn := list(experiment.all_variants)[len(written) :]:
        names.append(f"{drawn[0]} to {drawn[-1]}, its design")
    seeds = len(experiment.seeds)
    return (
        f"forks {', '.join(map(str, experiment.forks))} of {', '.join(map(str, sizes))}, "
        f"{count} variant{'s' if count > 1 else ''} x {seeds} seed{'s' if seeds > 1 else ''}: "
        f"{', '.join(names)}"
    )


def _epochs(study: "Study") -> str:
    epochs = study.most_epochs
    if epochs is None:
        return "; epochs are known once `sweep` has prepared the data"
    return f"; the longest path reads {epochs:.2g} epochs of its most repeated source"


def _too_full(study: "Study", estimate: "Estimate") -> list[str]:
    """A warning if the free disk space does not suffice for the sweep."""
    from windtunnel.runs.budget.budget import disk_use
    from windtunnel.runs.budget.cost import free_bytes

    free = free_bytes(study.store.root)
    if estimate.disk_peak <= free:  # usual, and avoids reading the size of every file
        return []
    lacking = estimate.disk_peak - disk_use(study)
    if lacking <= free:
        return []
    advice = "set `retain: last`" if study.config.retain == "all" else "plan fewer horizons"
    return [
        f"the sweep needs {size_of(lacking)} more at its peak and {study.store.root} has "
        f"{size_of(free)} free; {advice}, run `windtunnel gc`, or move `store:`"
    ]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


HOW = {
    "calibrated": "timed here",
    "measured": "measured on what has run",
    "assumed": "assumed: --calibrate times it here",
}


def estimate_lines(
    study: "Study", throughput: "Throughput", estimate: "Estimate", *, slots: int
) -> list[str]:
    """The lines `disk`, `time` and `schedule`."""
    from windtunnel.runs.budget.cost import free_bytes

    whole, left = estimate.whole, estimate.left
    remaining = "" if left is whole else f"; {duration(left.makespan)} of it left"
    shrinks = (
        f", {size_of(estimate.disk_end)} at the end"
        if estimate.disk_end < estimate.disk_peak
        else ""
    )
    return [
        f"disk         {size_of(estimate.disk_peak)} at the peak{shrinks} (retain: "
        f"{study.config.retain}); {size_of(free_bytes(study.store.root))} free there",
        f"time         about {duration(whole.makespan)} on {slots} at once{remaining}; "
        f"{throughput.flops_per_second:.1e} FLOP/s each ({HOW[throughput.source]})",
        f"schedule     {whole.utilisation:.0%} of {slots} slots busy; no order could take under "
        f"{duration(whole.bound)}",
    ]


def calibration_table(
    study: "Study", calibration: "Calibration", throughput: "Throughput"
) -> Table:
    """One row per shape: the measured time of an update, and the resulting time of its segments."""
    from windtunnel.config import Branch
    from windtunnel.runs.budget.throughput import shape_of

    seconds: dict[Shape, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for planned in study.plan.segments:
        kind = "branch" if isinstance(planned.segment, Branch) else "trunk"
        seconds[shape_of(planned)][kind].append(throughput.seconds(planned))
    conditions = calibration.conditions
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(calibration.written))
    table = Table(
        box=None,
        title=f"timed {when} on {conditions['host']}, {conditions['slots']} side by side",
        title_justify="left",
    )
    for column in ("size", "batch", "ms/update", "kernels", "trunk", "branches", "all of it"):
        table.add_column(column, justify="left" if column == "kernels" else "right")
    for each in calibration.shapes:
        took = seconds.get((each.model, each.batch_tokens))
        if not took:
            continue
        kernels = each.timing.kernels.split()[0] + (", compiled" if each.timing.compile else "")
        table.add_row(
            each.model.size,
            write_count(each.batch_tokens),
            f"{1e3 * each.timing.update:.3g}",
            kernels,
            _span(took["trunk"]),
            _span(took["branch"]),
            duration(sum(took["trunk"]) + sum(took["branch"])),
        )
    return table


def _span(seconds: list[float]) -> str:
    """One duration, or the shortest and the longest."""
    low, high = (duration(limit(seconds, default=0.0)) for limit in (min, max))
    return low if low == high else f"{low} to {high}"
