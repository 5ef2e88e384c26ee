"""The inputs of a report, read from a study and its store, however little has run."""

import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from typing import Any

from windtunnel.config import Branch
from windtunnel.config.load import resolved_text
from windtunnel.config.study import ForecastExperiment, GridExperiment, LadderExperiment
from windtunnel.config.yaml import EXTENDS
from windtunnel.errors import Diagnostic, FitError, WindtunnelError
from windtunnel.export.answer import Answer, answer_of
from windtunnel.export.fits import StudyFit
from windtunnel.export.request import Request
from windtunnel.family import MINICPM, source_of
from windtunnel.findings import findings_of, records_of
from windtunnel.findings.track_record import past_forecasts
from windtunnel.laws import fit
from windtunnel.redact import redacted
from windtunnel.report.formatting import count, place_name
from windtunnel.report.inputs import (
    ExecutionFacts,
    Grid,
    GridCell,
    Note,
    ReportInputs,
    ScalingLaw,
    Search,
    SegmentState,
    State,
)
from windtunnel.report.recipes import standing_recipes
from windtunnel.runs.budget.cost import cost_of
from windtunnel.runs.curves import read_curve
from windtunnel.runs.data_facts import data_facts
from windtunnel.runs.forecast import as_table, law_inputs, law_runs, read_forecasts
from windtunnel.runs.imported import imported_diagnostics, study_runs
from windtunnel.runs.measured import unfinished_diagnostics
from windtunnel.runs.plan import Plan, PlannedSegment, make_plan
from windtunnel.runs.points import StudyContext, search_size
from windtunnel.runs.run import Run
from windtunnel.runs.search.winner import search_outcomes
from windtunnel.runs.store import Store
from windtunnel.runs.study import Study
from windtunnel.runs.study_files import read_handoffs
from windtunnel.version import __version__

ENDED_BADLY = ("diverged", "failed")


def read_states(store: Store, plan: Plan) -> tuple[SegmentState, ...]:
    """A state for each planned segment, in the plan's order."""
    return tuple(_state(store, planned) for planned in plan.segments)


def _state(store: Store, planned: PlannedSegment) -> SegmentState:
    record = store.segment(planned.id).record or {}
    state, why = _outcome(store, planned, record.get("outcome"), record.get("reached", 0))
    if state == "failed":
        why = _last_line(record.get("error", ""))
    label = planned.labels[0]
    return SegmentState(
        segment=planned.id,
        kind=planned.segment.kind,
        size=planned.segment.model.size,
        horizon=label.horizon if isinstance(planned.segment, Branch) else "",
        seed=label.seed,
        held_out=planned.held_out,
        state=state,
        reached=record.get("reached", 0),
        end=planned.end,
        why=why,
    )


def _outcome(
    store: Store, planned: PlannedSegment, outcome: str | None, reached: int
) -> tuple[State, str]:
    segment = planned.segment
    if outcome == "diverged":
        return "diverged", f"training left its path at update {reached}"
    if outcome == "failed":
        return "failed", ""
    if outcome == "finished" and reached >= planned.end:
        return "finished", ""
    if isinstance(segment, Branch):
        parent = store.segment(segment.parent.id)
        ended = (parent.record or {}).get("outcome")
        if ended in ENDED_BADLY and not parent.has_checkpoint(segment.fork_step):
            where = f"before update {segment.fork_step}"
            return "blocked", f"its trunk {ended} {where}"
    if store.segment(planned.id).curve.exists():
        return "unfinished", "begun; the same command goes on with it"
    return "not started", ""


def _last_line(error: str) -> str:
    """The last line of a traceback, which names the error."""
    lines = error.strip().splitlines()
    return lines[-1] if lines else "no reason was recorded"


def read_grids(study_context: StudyContext, runs: Sequence[Run]) -> tuple[Grid, ...]:
    """Every grid experiment of a study."""
    by_id = {run.segment: run for run in runs}
    return tuple(
        Grid(
            experiment=experiment.name,
            axes=tuple(axis for axis in experiment.axes if axis != "size"),
            cells=tuple(sorted(_cells(study_context, experiment, by_id), key=_by_size)),
        )
        for experiment in study_context.config.experiments
        if isinstance(experiment, GridExperiment) and experiment.name not in study_context.waiting
    )


def _by_size(cell: GridCell) -> tuple[int, ...]:
    """Small sizes first; the order of values and horizons stays."""
    return tuple(int(number) for number in cell.size.split("x"))


def _cells(
    study_context: StudyContext, grid: GridExperiment, runs: Mapping[str, Run]
) -> Iterator[GridCell]:
    """Cells of a grid. Each combination is planned alone: only the planner knows its ids."""
    for values, horizon in product(product(*map(grid.listed, grid.axes)), grid.horizons):
        axes = dict(zip(grid.axes, values, strict=True))
        one = grid.replace(axes={axis: (v,) for axis, v in axes.items()}, horizons=(horizon,))
        config = study_context.config.model_copy(update={"experiments": (one,)})
        alone = replace(study_context, config=config, waiting=frozenset())
        branches: dict[str, list[PlannedSegment]] = {}
        for branch in make_plan(alone).branches:
            branches.setdefault(branch.segment.model.size, []).append(branch)
        for size, planned in branches.items():
            found = [runs[branch.id] for branch in planned if branch.id in runs]
            yield GridCell(
                size=size,
                values=tuple(str(value) for axis, value in axes.items() if axis != "size"),
                horizon=str(horizon),
                runs=tuple(run for run in found if run.loss is not None),
                diverged=sum(run.diverged for run in found),
                planned=len(planned),
            )


def read_searches(study: Study) -> tuple[Search, ...]:
    """Every search of a study; loads optuna only where there is one."""
    outcomes = search_outcomes(study)
    if not outcomes:
        return ()
    from windtunnel.engine.samplers import importances

    return tuple(
        Search(
            outcome=outcome,
            size=str(search_size(study.study_context, outcome.experiment)),
            importances=importances(study.config, outcome.experiment, outcome.results),
        )
        for outcome in outcomes
    )


MOST_HANDOFFS = 10
"""The latest are on the page; all are in `handoffs.jsonl`."""


def collect(study: Study) -> ReportInputs:
    """Read everything that the page shows; fits the law of each scaling experiment.

    Raises:
        StoreError: A file of the store is damaged.
    """
    store, plan, config = study.store, study.plan, study.config
    runs = study_runs(study)
    records = records_of(study)
    axes = {run.segment: run.axes for run in records.runs}
    searches, findings = read_searches(study), findings_of(records)
    executions = _executions(study)
    curves = (read_curve(store, planned) for planned in plan.segments)
    sizes = {run.params: count(run.params) for run in runs}  # of what was imported
    sizes |= {p.segment.model.params: p.segment.model.size for p in plan.segments}
    laws = tuple(
        _law(config.study, experiment.name, runs, study.token_diagnostics)
        for experiment in config.experiments
        if isinstance(experiment, LadderExperiment)
    )
    return ReportInputs(
        study=config.study,
        family=config.model.family,
        file=str(study.file),
        study_text=_text(study),
        store=str(store.root),
        version=__version__,
        written=time.time(),
        recipes=standing_recipes(study, findings, [each.outcome for each in searches]),
        sizes=dict(sorted(sizes.items())),
        runs=[replace(run, axes=axes.get(run.segment, {})) for run in runs],
        states=read_states(store, plan),
        curves=tuple(curve for curve in curves if curve is not None),
        laws=laws,
        planned_runs=tuple(_planned_runs(study, laws)),
        grids=read_grids(study.study_context, runs),
        searches=searches,
        findings=findings,
        forecasts=read_forecasts(study.folder),
        taken=study.taken,
        ladders=frozenset(
            each.name for each in config.experiments if isinstance(each, ForecastExperiment)
        ),
        past_forecasts=past_forecasts(store),
        handoffs=tuple(read_handoffs(study.folder)[-MOST_HANDOFFS:]),
        held_out=tuple(planned.id for planned in plan.branches if planned.held_out),
        planned=cost_of(study.expected),
        data=data_facts(study),
        executions=executions,
        notes=_notes(study),
        warnings=(*study.diagnostics, *_mixed(executions), *_left_alone(runs)),
    )


def _text(study: Study) -> str:
    """Text of the study file; the resolved study where it extends another file."""
    text = study.file.read_text(encoding="utf-8-sig") if study.file.exists() else ""
    return resolved_text(study.config) if re.search(f"(?m)^{EXTENDS}:", text) else redacted(text)


def _planned_runs(study: Study, laws: Sequence[ScalingLaw]) -> Iterator[Answer | WindtunnelError]:
    """The answer of each law for the study's target, or why there is none."""
    for law in laws if study.config.target is not None else ():
        if law.fit is None:
            continue
        path = study.folder / "fit.json"
        made = StudyFit(path=path, fit=law.fit, experiments=(law.experiment,))
        try:
            yield answer_of(study, Request(), made)
        except WindtunnelError as refused:
            yield refused


def _law(
    study: str, experiment: str, runs: Sequence[Run], of_data: Sequence[Diagnostic]
) -> ScalingLaw:
    chosen = law_runs(run for run in runs if run.is_of(experiment))
    law, table, problem = None, None, None
    try:
        filters = ("decayed", "finished", f"experiment {experiment}")
        table = as_table(chosen, filters=filters)
        made = fit(table).made_from(law_inputs(study, runs, {experiment}))
        law = made.warned(*of_data, *imported_diagnostics([run.source for run in chosen]))
    except FitError as refused:
        problem = refused
    return ScalingLaw(
        experiment=experiment,
        runs=chosen,
        table=table,
        fit=law,
        problem=problem,
    )


def study_warnings(study: Study, ended: set[str], experiments: set[str]) -> tuple[Diagnostic, ...]:
    """Warnings about a study's data, its missing runs and its executions.

    Args:
        study: over its store.
        ended: ids of the runs of the experiments.
        experiments: that a law is fitted to.
    """
    return (
        *study.token_diagnostics,
        *unfinished_diagnostics(study.expected_plan, ended, experiments),
        *execution_warnings(study),
    )


def execution_warnings(study: Study) -> tuple[Diagnostic, ...]:
    """Warnings that trunks were computed in several ways, or by code that has changed since."""
    executions = _executions(study)
    return (*_mixed(executions), *_changed_family(study.config.model.family, executions))


def _changed_family(family: str, executions: tuple[ExecutionFacts, ...]) -> tuple[Diagnostic, ...]:
    """The warning that a family's files are not those that trained some trunks."""
    if family == MINICPM:
        return ()
    now = source_of(family)
    trunks = sum(each.trunks for each in executions if each.record.get("source") not in {None, now})
    if not trunks:
        return ()
    return (
        Diagnostic(
            "family-changed",
            f"the files of family {family} have changed since {trunks} trunks were trained: if "
            "the same weights give other logits, or a role or site is another, raise its "
            "`version`, which trains them anew",
            family=family,
            trunks=trunks,
        ),
    )


def _executions(study: Study) -> tuple[ExecutionFacts, ...]:
    """Distinct execution records of the study's trunks, the most common first."""
    found: Counter[str] = Counter()
    for planned in study.plan.trunks:
        record = study.store.segment(planned.id).execution
        if record is not None:
            found[json.dumps(record, sort_keys=True)] += 1
    return tuple(
        ExecutionFacts(trunks=trunks, record=json.loads(text))
        for text, trunks in found.most_common()
    )


def _left_alone(runs: Sequence[Run]) -> tuple[Diagnostic, ...]:
    """The warning that findings and forecast rest on fewer runs than the law."""
    if not any(run.imported for run in runs):
        return ()
    message = "imported runs enter the law alone: forecast and findings rest on the study's own"
    return (Diagnostic("imported-in-law-alone", message),)


def _mixed(executions: tuple[ExecutionFacts, ...]) -> tuple[Diagnostic, ...]:
    if len(executions) < 2:
        return ()
    records: list[dict[str, Any]] = [asdict(each)["record"] for each in executions]
    # A micro-batch follows the batch, which a study may vary on purpose.
    keys = dict.fromkeys(k for record in records for k in record if k != "micro_batch_rows")
    found = {key: list(dict.fromkeys(str(record.get(key)) for record in records)) for key in keys}
    differing = {key: values for key, values in found.items() if len(values) > 1}
    if not differing:
        return ()
    what = "; ".join(f"{key}: {', '.join(values)}" for key, values in differing.items())
    return (
        Diagnostic(
            "mixed-execution",
            f"trunks were computed in {len(executions)} ways ({what}): within one way a result is "
            "exact, between them it differs in the last digits",
            differing=differing,
        ),
    )


def _notes(study: Study) -> tuple[Note, ...]:
    notes: list[Note] = []
    for planned in study.plan.segments:
        name = place_name(planned.segment.model.size, planned.labels[0].seed, planned.tokens_at_end)
        for entry in study.store.segment(planned.id).notes():
            notes.append(Note(run=name, segment=planned.id, time=entry["time"], text=entry["note"]))
    return tuple(sorted(notes, key=lambda note: note.time))
