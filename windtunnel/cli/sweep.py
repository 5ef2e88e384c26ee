"""`windtunnel sweep`: prepare the data, run the segments with a live view, write the results."""

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from windtunnel.cli import EXIT_INTERRUPTED, EXIT_SOME_FAILED
from windtunnel.cli.options import StudyFile, check_choice
from windtunnel.cli.text import data_progress, duration, say, say_data, say_warnings, terminal
from windtunnel.errors import WindtunnelError
from windtunnel.quantities import write_count
from windtunnel.redact import redacted

if TYPE_CHECKING:
    from windtunnel.cli.tracking import TrackerThread
    from windtunnel.engine.sweep import Sweep, SweepResult
    from windtunnel.runs.phases import Phase
    from windtunnel.runs.progress import StudyProgress
    from windtunnel.runs.study import Study


def sweep(
    study: StudyFile,
    engine: Annotated[
        str,
        typer.Option(help="ray, or local: in this process, one segment at a time."),
    ] = "ray",
    address: Annotated[
        str | None, typer.Option(help="Address of a running Ray cluster to join.")
    ] = None,
    accept_execution_change: Annotated[
        bool,
        typer.Option(
            "--accept-execution-change",
            help="Resume trunks that were computed on another device or with another version of "
            "torch or windtunnel.",
        ),
    ] = False,
) -> None:
    """Run a study, or resume it.

    Finished segments are not run again. Exits 3 if segments failed or did not start.
    """
    code = run_sweep(
        study, engine=engine, address=address, accept_execution_change=accept_execution_change
    )
    raise typer.Exit(code)


def run_sweep(
    file: Path, *, engine: str, address: str | None, accept_execution_change: bool
) -> int:
    """Run the unfinished segments of a study, mirror them, write the report; return the exit code.

    A result that cannot be written after the last segment is reported and changes no outcome.

    Raises:
        ConfigError: An unknown engine, or a study file that cannot be used.
    """
    from windtunnel.cli.tracking import TrackerThread, mirror_of
    from windtunnel.runs.budget.cost import slots_here
    from windtunnel.runs.study import open_study

    check_choice("--engine", engine, ("ray", "local"))
    console = terminal()
    began = time.monotonic()
    with data_progress(console) as tell:
        study = open_study(file, prepared=True, progress=tell)
    say_data(console, study)
    say_warnings(console, study)

    from windtunnel.engine.sweep import Sweep
    from windtunnel.findings.taken import take

    sweep = Sweep(
        study,
        engine="local" if engine == "local" else "ray",
        address=address,
        accept_execution_change=accept_execution_change,
        take=take,
    )
    mirror = mirror_of(study) if study.config.tracking.enabled else None
    tracker = TrackerThread(mirror, lambda: sweep.study)
    slots = 1 if engine == "local" else slots_here(study.config)
    with watch(sweep, console, slots=slots), tracker:
        result = sweep.run()
    _print_outcome(console, study, result, seconds=time.monotonic() - began)
    if result.interrupted:
        return EXIT_INTERRUPTED
    is_written = True
    try:
        _write_results(console, sweep.study, tracker)
    except (WindtunnelError, OSError) as problem:
        is_written = False
        say(console, redacted(str(problem)), label="results not written:", style="red")
    return 0 if is_written and not (result.failed or result.stopped) else EXIT_SOME_FAILED


def _write_results(console: Console, study: "Study", tracker: "TrackerThread") -> None:
    from windtunnel.report import write_report

    page = write_report(study)
    for line in _results(study):
        say(console, line)
    tracker.finish()
    say(console, f"report: {page}")
    if study.config.tracking.enabled:
        say(console, f"MLflow: windtunnel ui {study.file}")


def _results(study: "Study") -> Iterator[str]:
    """The results in one line each: winners, optimal tokens per param, errors of the forecast."""
    from windtunnel.cli.winner import winner_line
    from windtunnel.findings.forecast_scores import forecast_scores
    from windtunnel.laws import Fit
    from windtunnel.runs.forecast import read_forecasts
    from windtunnel.runs.measured import gather
    from windtunnel.runs.search.winner import search_outcomes

    yield from map(winner_line, search_outcomes(study))
    for path in sorted(study.folder.glob("fit*.json")):
        try:
            fit = Fit.read(path)
        except WindtunnelError as damaged:  # derived, and written anew once a law can be fitted
            yield f"not read: {damaged}"
            continue
        if "ratio" in fit.intervals and fit.has_optimum:
            budget = fit.domain["flops"][1]
            low, high = fit.intervals["ratio"]
            interval = f"{fit.level:.0%} interval {low:.3g} to {high:.3g}"
            if math.isnan(low) or math.isnan(high):
                interval = "no interval: too few rows"
            yield (
                f"compute-optimal tokens per param at {budget:.2e} FLOPs: "
                f"{fit.optimum(budget).ratio.value:.3g} ({interval})"
            )
    forecasts = forecast_scores(read_forecasts(study.folder), gather(study.store, study.plan))
    for forecast in forecasts:
        if forecast.comparison is None:
            continue
        scores = ", ".join(f"{s.name} {s.rms_percent:.1f}%" for s in forecast.comparison.scores)
        inside = f"{forecast.measured} runs, no interval"
        if forecast.with_interval:
            runs = f"{forecast.inside} of {forecast.with_interval} runs"
            inside = f"{runs} inside the {forecast.level:.0%} interval"
        named = f" of {forecast.experiment}" if len(forecasts) > 1 else ""
        yield f"forecast{named} of the held-out size: {inside}; rms error: {scores}"


def _print_outcome(
    console: Console, study: "Study", result: "SweepResult", *, seconds: float
) -> None:
    counts = {status.value: n for status, n in result.counts.items() if n}
    summary = ", ".join(f"{count} {name}" for name, count in counts.items())
    say(console, f"{study.config.study}: {summary} in {duration(seconds)}")
    for segment, error in result.errors.items():
        say(console, f"{segment}: {error}", label="failed", style="red")
    for experiment, problem in result.forecast_problems.items():
        say(console, f"{experiment}: {problem}", label="no forecast:")
    for experiment, reason in result.waiting.items():
        say(console, f"experiment {experiment}: {reason}", label="not started:")
    if result.stopped:
        waiting = counts.get("waiting", 0)
        say(
            console,
            f"{result.stopped}; {waiting} segments were not started: fix that, and the same "
            "command continues",
            label="stopped:",
        )
    if result.interrupted:
        say(console, "interrupted; everything is saved: the same command continues")


TERMINAL_SECONDS, LINES_SECONDS = 1.0, 10.0


@contextmanager
def watch(sweep: "Sweep", console: Console, *, slots: int) -> Iterator[None]:
    """Show the progress of a sweep while the body runs, from a thread that only reads."""
    from windtunnel.cli.status import segments_table
    from windtunnel.engine.time_left import TimeLeft
    from windtunnel.runs.phases import current, phases
    from windtunnel.runs.progress import Watch

    ended = threading.Event()
    estimate = TimeLeft(lambda: sweep.study, slots=slots)
    progress, last = Watch(sweep.study), _Summary()

    def line(now: "StudyProgress") -> str:
        """The summary; the last estimates where new ones cannot be made."""
        with suppress(WindtunnelError):  # the sweep itself reports a damaged store
            last.left = estimate.left({each.segment: each.step for each in now.running})
            last.phases = current(phases(sweep.study, now.ended))
        return summary(now, last.left, last.phases, _searches(sweep.study))

    def in_place() -> None:
        with Live(console=console, refresh_per_second=2) as live:
            while True:
                now = progress.read(sweep.study.plan)
                live.update(
                    Group(
                        Text(line(now)),
                        segments_table(list(now.running)[: 4 * slots]),
                    )
                )
                if ended.wait(TERMINAL_SECONDS):
                    return

    def in_lines() -> None:
        while not ended.wait(LINES_SECONDS):
            now = progress.read(sweep.study.plan)
            print(line(now), flush=True)

    thread = threading.Thread(
        target=in_place if console.is_terminal else in_lines, name="view", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=10)


def _searches(study: "Study") -> list[str]:
    """The state of each search, from its trial log."""
    from windtunnel.config.search import SearchExperiment
    from windtunnel.runs.search.summary import suggested_so_far
    from windtunnel.runs.search.trial_log import read_suggested

    return [
        f"search {each.name}: {suggested_so_far(each, read_suggested(study.folder, each))}"
        for each in study.config.experiments
        if isinstance(each, SearchExperiment)
    ]


@dataclass
class _Summary:
    """The last estimates of a sweep's view."""

    left: float | None = None
    phases: "tuple[Phase, ...]" = ()


def summary(
    progress: "StudyProgress",
    left: float | None = None,
    phases: "Sequence[Phase]" = (),
    searches: Sequence[str] = (),
) -> str:
    """One line: finished, running and waiting segments, throughput, losses, time left, phases."""
    running = progress.running
    speed = sum(each.tokens_per_second or 0.0 for each in running)
    losses = " ".join(f"{each.loss:.3f}" for each in running if each.loss is not None)
    parts = [
        f"{progress.count('finished')}/{len(progress.segments)} done",
        f"{len(running)} running",
        f"{progress.count('waiting')} waiting",
        f"{write_count(speed)} tokens/s",
        f"loss {losses}" if losses else "",
        f"about {duration(left)} left" if left is not None else "",
        *searches,
        *(each.text() for each in phases if each.kind != "search"),
    ]
    for trouble in ("diverged", "failed"):
        if count := progress.count(trouble):
            parts.insert(3, f"{count} {trouble}")
    return ", ".join(part for part in parts if part)
