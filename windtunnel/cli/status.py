"""`windtunnel status`: progress of a study, its warnings, and its use of time and budget."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table

from windtunnel.cli.options import AsJson, StudyFile
from windtunnel.cli.text import duration, print_json, say, size_of, terminal
from windtunnel.errors import Diagnostic
from windtunnel.quantities import write_count

if TYPE_CHECKING:
    from windtunnel.runs.budget.utilisation import Compared, Utilisation
    from windtunnel.runs.progress import SegmentProgress, StudyProgress
    from windtunnel.runs.search.winner import SearchOutcome
    from windtunnel.runs.study import Study

QUIET_SECONDS = 120.0
"""A running segment without progress for so long is warned of (assumed: above one update)."""

STATUSES = ("finished", "running", "waiting", "diverged", "failed")


def status(study: StudyFile, as_json: AsJson = False) -> None:
    """Show progress."""
    from windtunnel.runs.progress import study_progress
    from windtunnel.runs.study import open_study

    opened = open_study(study)
    print_status(opened, study_progress(opened), as_json=as_json)


def print_status(study: "Study", progress: "StudyProgress", *, as_json: bool) -> None:
    """Print counts, searches, times and warnings, and a row per running or failed segment."""
    from windtunnel.runs.budget.cost import cost_of
    from windtunnel.runs.curves import curve_diagnostics
    from windtunnel.runs.phases import phases
    from windtunnel.runs.search.summary import stands

    counts = {status: progress.count(status) for status in STATUSES}
    planned = cost_of(study.expected).flops
    share = progress.flops_done / planned if planned else 1.0
    to_come = len(study.expected_plan.segments) - len(progress.segments)
    searches = _searches(study)
    stages = phases(study, progress.ended)
    usage = time_and_budget(study)
    diagnostics = (
        *curve_diagnostics(study.store, study.plan.segments, deep=False),
        *stall_diagnostics(progress, study.config.resources.stall_seconds),
    )
    if as_json:
        segments = [asdict(each) for each in progress.segments]
        print_json(
            {
                "counts": counts,
                "share_of_flops": share,
                "segments_to_be_suggested": to_come,
                "phases": [asdict(each) for each in stages],
                "searches": [_search(each) for each in searches],
                "waits_for": {name: list(each) for name, each in study.waits_for.items()},
                "seconds": progress.seconds,
                **usage.as_json(),
                "segments": segments,
                "warnings": [diagnostic.document() for diagnostic in diagnostics],
            }
        )
        return
    console = terminal()
    summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    summary += f", about {to_come} to come" if to_come > 0 else ""
    say(console, f"{study.config.study}: {summary}; {share:.0%} of the training FLOPs done")
    for search in searches:
        say(console, f"search {search.experiment.name}: {stands(search)}")
    for stage in stages:
        waits = study.waits_for.get(stage.experiment)
        say(
            console,
            f"experiment {stage.text()}" + (f"; waits for {' and '.join(waits)}" if waits else ""),
        )
    if total := sum(progress.seconds.values()):
        parts = ", ".join(f"{n} {s / total:.1%}" for n, s in progress.seconds.items())
        say(console, f"{duration(total)} in finished segments, summed over trials: {parts}")
    usage.show(console)
    for diagnostic in diagnostics:
        say(console, str(diagnostic), label="warning:")
    if study.dataset is None:
        say(console, "the data is not prepared yet: `windtunnel sweep` does it")
    shown = [e for e in progress.segments if e.status not in {"finished", "waiting"}]
    if shown:
        console.print(segments_table(shown))
    for each in shown:
        record = study.store.segment(each.segment).record or {}
        if each.status == "failed":
            last_line = str(record.get("error", "")).strip().splitlines()[-1:]
            say(console, f"{each.name}: {''.join(last_line)}", label="failed", style="red")


def stall_diagnostics(progress: "StudyProgress", stall_seconds: float) -> tuple[Diagnostic, ...]:
    """A warning for each running segment without recent progress."""
    return tuple(
        Diagnostic(
            "stalled",
            f"{each.name} (segment {each.segment}): no update or piece of evaluation for "
            f"{duration(quiet)}; under Ray its worker is replaced after {duration(stall_seconds)} "
            "(`resources.stall_seconds`)",
            segment=each.segment,
            quiet_seconds=quiet,
            stall_seconds=stall_seconds,
        )
        for each in progress.running
        if (quiet := each.quiet_seconds or 0.0) > min(QUIET_SECONDS, stall_seconds / 2)
    )


def _searches(study: "Study") -> "tuple[SearchOutcome, ...]":
    from windtunnel.config.search import SearchExperiment

    if not any(isinstance(each, SearchExperiment) for each in study.config.experiments):
        return ()
    from windtunnel.runs.search.winner import search_outcomes  # loads scipy

    return search_outcomes(study)


def _search(outcome: "SearchOutcome") -> dict[str, Any]:
    from windtunnel.runs.search.projection import trial_count
    from windtunnel.runs.search.summary import repeats_left

    return {
        "experiment": outcome.experiment.name,
        "trials": trial_count(outcome.experiment),
        "suggested": len(outcome.results),
        "batches": outcome.results[-1].trial.batch + 1 if outcome.results else 0,
        "ended": len(outcome.results) - outcome.counts.get("unfinished", 0),
        "finalists": [each.result.trial.number for each in outcome.finalists],
        "repeats_left": repeats_left(outcome),
        "winner": outcome.winner.result.trial.number if outcome.winner else None,
    }


def segments_table(segments: "list[SegmentProgress]") -> Table:
    """One row per segment: status, update, loss and throughput."""
    table = Table(box=None)
    for column in ("segment", "what", "status", "update", "loss", "tokens/s"):
        side: Literal["left", "right"] = "left" if column in {"segment", "what"} else "right"
        table.add_column(column, justify=side, no_wrap=True)
    for each in segments:
        table.add_row(
            each.segment,
            each.name,
            each.status,
            f"{each.step}/{each.end}",
            "" if each.loss is None else f"{each.loss:.3f}",
            "" if each.tokens_per_second is None else write_count(each.tokens_per_second),
        )
    return table


@dataclass(frozen=True, kw_only=True)
class TimeAndBudget:
    """Predicted and actual times, use of the slots, and what is spent of each budget.

    A part is empty if nothing was calibrated, swept or limited.
    """

    compared: "list[Compared]"
    utilisation: "Utilisation | None"
    budget: dict[str, tuple[float, float]]

    def as_json(self) -> dict[str, Any]:
        """The JSON of `status`."""
        return {
            "predicted_and_actual": [asdict(each) for each in self.compared],
            "utilisation": asdict(self.utilisation) if self.utilisation else None,
            "budget": {
                name: {"spent": spent, "limit": limit}
                for name, (spent, limit) in self.budget.items()
            },
        }

    def show(self, console: Console) -> None:
        """Print the same as text."""
        if self.compared:
            console.print(_table(self.compared))
        if used := self.utilisation:
            sweeps = "1 sweep" if used.sweeps == 1 else f"{used.sweeps} sweeps"
            say(
                console,
                f"{sweeps} took {duration(used.seconds)} for {used.segments} segments and kept "
                f"{used.reached:.0%} of the slots' time busy; {used.bound:.0%} was possible, in "
                f"{duration(used.best)}",
            )
        for name, (spent, limit) in self.budget.items():
            text = size_of if name == "disk" else write_count
            say(console, f"budget.{name}: {text(spent)} of {text(limit)} spent")


def time_and_budget(study: "Study") -> TimeAndBudget:
    """Time and budget of a study, from its store."""
    from windtunnel.runs.budget.budget import Account, spent_of_budget
    from windtunnel.runs.budget.calibration import last_calibration
    from windtunnel.runs.budget.throughput import throughput_of
    from windtunnel.runs.budget.utilisation import compared, utilisation

    calibration = last_calibration(study)
    return TimeAndBudget(
        compared=(
            compared(study, throughput_of(study, calibration.by_shape())) if calibration else []
        ),
        utilisation=utilisation(study.folder),
        budget=spent_of_budget(study, Account(study).total()),
    )


def _table(comparisons: "list[Compared]") -> Table:
    from windtunnel.runs.budget.utilisation import Compared

    table = Table(box=None, title="predicted and actual, summed", title_justify="left")
    for column in ("size", "what", "segments", "predicted", "actual", "actual/predicted"):
        side: Literal["left", "right"] = "left" if column == "what" else "right"
        table.add_column(column, justify=side)
    whole = Compared(
        size="all",
        kind="",
        segments=sum(each.segments for each in comparisons),
        predicted=sum(each.predicted for each in comparisons),
        actual=sum(each.actual for each in comparisons),
    )
    for each in (*comparisons, whole):
        table.add_row(
            each.size,
            each.kind,
            str(each.segments),
            duration(each.predicted),
            duration(each.actual),
            f"{each.actual / each.predicted:.2f}",
        )
    return table
