"""From a study and its store to the facts of a report. A half-done or empty sweep is no error."""

import json
import re
import time
from collections import Counter
from dataclasses import asdict
from typing import Any

from windtunnel import __version__
from windtunnel.errors import FitError
from windtunnel.findings import findings_of, records_of
from windtunnel.laws import fit
from windtunnel.redact import redacted
from windtunnel.report.grids import read_grids
from windtunnel.report.inputs import (
    DataFacts,
    ExecutionFacts,
    Note,
    ReportInputs,
    ScalingLaw,
    SourceFacts,
    ValidationFacts,
)
from windtunnel.report.numbers import count
from windtunnel.report.searches import read_searches
from windtunnel.report.states import read_states
from windtunnel.spec.experiments import ScalingExperiment
from windtunnel.spec.path import rows_at
from windtunnel.spec.yaml_file import resolved_text
from windtunnel.spec.yaml_tree import EXTENDS
from windtunnel.trials.cost import cost_of
from windtunnel.trials.curves import read_curve
from windtunnel.trials.forecast import as_table, law_inputs, law_rows, read_forecasts
from windtunnel.trials.gather import Row
from windtunnel.trials.imported import KIND, imported_cautions, study_rows
from windtunnel.trials.kept_handoffs import read_handoffs
from windtunnel.trials.reading import Streams
from windtunnel.trials.study import Study

MOST_HANDOFFS = 10
"""The latest, on the page; all are in `handoffs.jsonl`."""


def collect(study: Study) -> ReportInputs:
    """Read everything that the page shows; fits the law of each scaling experiment.

    Raises:
        StoreError: A file of the store is damaged.
    """
    store, plan, config = study.store, study.plan, study.config
    rows = study_rows(study)
    executions = _executions(study)
    curves = (read_curve(store, planned) for planned in plan.segments)
    sizes = {row["params"]: count(row["params"]) for row in rows}  # of what was imported
    sizes |= {p.segment.model.params: p.segment.model.size for p in plan.segments}
    return ReportInputs(
        study=config.study,
        file=str(study.file),
        study_text=_text(study),
        store=str(store.root),
        version=__version__,
        written=time.time(),
        recipe=config.recipe.model_dump(mode="json"),
        schedule=config.schedule.model_dump(mode="json"),
        sizes=dict(sorted(sizes.items())),
        rows=rows,
        states=read_states(store, plan),
        curves=tuple(curve for curve in curves if curve is not None),
        laws=tuple(
            _law(config.study, experiment.name, rows)
            for experiment in config.experiments
            if isinstance(experiment, ScalingExperiment)
        ),
        grids=read_grids(study.ground, rows),
        searches=read_searches(study),
        findings=findings_of(records_of(study)),
        forecasts=read_forecasts(study.folder),
        handoffs=tuple(read_handoffs(study.folder)[-MOST_HANDOFFS:]),
        held_out=tuple(planned.id for planned in plan.branches if planned.held_out),
        planned=cost_of(study.expected),
        data=_data(study),
        executions=executions,
        notes=_notes(study),
        warnings=(*study.warnings, *_mixed(executions), *_left_alone(rows)),
    )


def _text(study: Study) -> str:
    """The study file as it was written; the whole study where it extends another file."""
    text = study.file.read_text(encoding="utf-8-sig") if study.file.exists() else ""
    return resolved_text(study.config) if re.search(f"(?m)^{EXTENDS}:", text) else redacted(text)


def _law(study: str, experiment: str, rows: list[Row]) -> ScalingLaw:
    chosen = law_rows(rows, experiment=experiment)
    law, table, problem = None, None, ""
    try:
        filters = ("decayed", "finished", f"experiment {experiment}")
        table = as_table(chosen, filters=filters)
        made = fit(table).made_from(law_inputs(study, rows, {experiment}))
        law = made.warned(*imported_cautions(chosen))
    except FitError as refused:
        problem = str(refused)
    return ScalingLaw(
        experiment=experiment,
        rows=chosen,
        table=table,
        fit=law,
        problem=problem,
    )


def _data(study: Study) -> DataFacts | None:
    dataset, config = study.dataset, study.config
    if dataset is None:
        return None
    context = config.model.context
    longest = max(study.expected_plan.segments, key=lambda planned: planned.tokens_at_end)
    stream = Streams(dataset).of(longest.segment)
    epochs = stream.epochs(rows_at(longest.segment, longest.end))
    weights = sum(source.weight for source in dataset.sources)
    asked = config.data.validation.tokens
    return DataFacts(
        tokenizer=config.data.tokenizer,
        vocab_size=dataset.vocab_size,
        context=context,
        stream=dataset.fingerprint,
        longest_tokens=longest.tokens_at_end,
        sources=tuple(
            SourceFacts(
                name=source.name,
                share=source.weight / weights,
                tokens=source.tokens,
                bytes=source.bytes,
                documents=source.documents,
                documents_dropped=source.documents_dropped,
                epochs=epochs.get(source.name, 0.0),
                sha256=source.sha256,
            )
            for source in dataset.sources
        ),
        validation=tuple(
            ValidationFacts(
                name=each.name,
                tokens=each.tokens,
                measured=min(asked, each.tokens),
                documents=each.documents,
                residue=each.residue,
                bytes_per_token=each.bytes_per_token,
                fingerprint=each.fingerprint,
            )
            for each in study.validation
        ),
    )


def execution_warnings(study: Study) -> tuple[str, ...]:
    """A sentence where the study's trunks were computed in more than one way."""
    return _mixed(_executions(study))


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


def _left_alone(rows: list[Row]) -> tuple[str, ...]:
    """What is said where findings and forecast rest on fewer runs than the law."""
    if not any(row["kind"] == KIND for row in rows):
        return ()
    return ("imported runs enter the law alone: forecast and findings rest on the study's own",)


def _mixed(executions: tuple[ExecutionFacts, ...]) -> tuple[str, ...]:
    if len(executions) < 2:
        return ()
    records: list[dict[str, Any]] = [asdict(each)["record"] for each in executions]
    # A micro-batch follows the batch, which a study may vary on purpose.
    keys = dict.fromkeys(k for record in records for k in record if k != "micro_batch_rows")
    differing = {
        key: list(dict.fromkeys(str(record.get(key)) for record in records)) for key in keys
    }
    what = "; ".join(f"{k}: {', '.join(v)}" for k, v in differing.items() if len(v) > 1)
    if not what:
        return ()
    return (
        f"trunks were computed in {len(executions)} ways ({what}): within one way a result is "
        "exact, between them it differs in the last digits",
    )


def _notes(study: Study) -> tuple[Note, ...]:
    notes: list[Note] = []
    for planned in study.plan.segments:
        for entry in study.store.segment(planned.id).notes():
            notes.append(Note(segment=planned.id, time=entry["time"], text=entry["note"]))
    return tuple(sorted(notes, key=lambda note: note.time))
