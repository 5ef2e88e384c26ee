"""The copy gain of finished runs that have none, from the weights that the store still holds."""

from collections.abc import Callable
from typing import Literal, get_args

from windtunnel.runs.completion import outcome_of
from windtunnel.runs.lease import LeaseHeld
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.study import Study
from windtunnel.runs.worker import Evaluator, WorkerConfig, WorkerContext
from windtunnel.train import checkpoint
from windtunnel.train.execution import decide

Found = Literal["measured", "known", "freed", "damaged", "in_use", "impossible"]
"""What became of a run's copy gain: measured now; known before; its last checkpoint was freed, is
damaged, or belongs to a process that is writing; or its context and sets do not allow one."""


def fill_copy_gains(
    study: Study, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[Found, list[str]]:
    """Finished segments by what became of their copy gain; those that have none are measured.

    Nothing is trained. Weights are evaluated on this machine, whatever machine trained them.

    Args:
        study: With its data prepared.
        progress: Called with how many segments are done, and how many there are.

    Raises:
        ConfigError: The study's device is not here.
        StoreError: The store cannot be read or written.
    """
    study.store.open_for_writing()
    context = WorkerContext(WorkerConfig.of(study))
    filled: dict[Found, list[str]] = {found: [] for found in get_args(Found)}
    finished = [
        planned
        for planned in study.plan.segments
        if outcome_of(study.store.segment(planned.id).record, planned) == "finished"
    ]
    for done, planned in enumerate(finished, start=1):
        filled[_fill(context, planned)].append(planned.id)
        progress(done, len(finished))
    return filled


def _fill(context: WorkerContext, planned: PlannedSegment) -> Found:
    """Measure one segment where it lacks a copy gain and can have one."""
    folder, evaluator = context.store.segment(planned.id), Evaluator(context, planned)
    model, recipe = planned.segment.model, planned.segment.recipe
    if context.copy_rows(model.context) is None:
        return "impossible"
    if not evaluator.lacks_copy_gain:
        return "known"
    if not folder.has_checkpoint(planned.end):
        return "freed"
    alone = context.config.resources.replace(devices_per_trial=1)
    try:
        with folder.lease():
            step = context.step(planned.segment, decide(alone, model, recipe, planned_tokens=0))
            checkpoint.load(step.state, folder.checkpoint(planned.end))
            evaluator.measure(planned.end, step)
    except LeaseHeld:
        return "in_use"
    except checkpoint.Damaged:
        return "damaged"
    return "measured"
