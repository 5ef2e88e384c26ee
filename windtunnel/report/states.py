"""Where every planned segment stands, read from the store alone."""

from windtunnel.report.inputs import SegmentState, State
from windtunnel.spec import Branch
from windtunnel.trials.plan import Plan, PlannedSegment
from windtunnel.trials.store import Store

ENDED_BADLY = ("diverged", "failed")


def read_states(store: Store, plan: Plan) -> tuple[SegmentState, ...]:
    """A state for each planned segment, in the plan's order."""
    return tuple(_state(store, planned) for planned in plan.segments)


def _state(store: Store, planned: PlannedSegment) -> SegmentState:
    record = store.segment(planned.id).record or {}
    state, why = _verdict(store, planned, record.get("outcome"), record.get("reached", 0))
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


def _verdict(
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
            return "blocked", f"its trunk {segment.parent.id} {ended} {where}"
    if store.segment(planned.id).curve.exists():
        return "unfinished", "begun; the same command goes on with it"
    return "not started", ""


def _last_line(error: str) -> str:
    """The line of a traceback that says what was wrong."""
    lines = error.strip().splitlines()
    return lines[-1] if lines else "no reason was recorded"
