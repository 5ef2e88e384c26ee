"""`windtunnel sweep`: prepare data, run with a live view and the mirror, write the report."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from windtunnel.cli import EXIT_INTERRUPTED, EXIT_SOME_FAILED
from windtunnel.cli.data_text import say_data, say_warnings
from windtunnel.cli.live import watch
from windtunnel.cli.mirroring import Mirroring
from windtunnel.cli.text import duration, say, terminal
from windtunnel.cli.tracking import mirror_of
from windtunnel.cli.winner import winner_line
from windtunnel.errors import ConfigError, WindtunnelError
from windtunnel.redact import redacted
from windtunnel.runs.budget.cost import slots_here
from windtunnel.runs.study import Study, open_study

if TYPE_CHECKING:
    from windtunnel.engine.sweep import SweepResult


def run_sweep(
    file: Path, *, engine: str, address: str | None, accept_execution_change: bool
) -> int:
    """Run what is left of a study, mirror it, and write its report; the exit code.

    What cannot be written once the segments have ended is said, and replaces no outcome.

    Raises:
        ConfigError: An unknown engine, or a study file that cannot be used.
    """
    if engine not in {"ray", "local"}:
        raise ConfigError(f"--engine {engine!r}: allowed are ray and local")
    console = terminal()
    began = time.monotonic()
    with _data_progress(console) as tell:
        study = open_study(file, prepared=True, progress=tell)
    say_data(console, study)
    say_warnings(console, study)

    from windtunnel.engine.sweep import Sweep

    sweep = Sweep(
        study,
        engine="local" if engine == "local" else "ray",
        address=address,
        accept_execution_change=accept_execution_change,
    )
    mirror = mirror_of(study) if study.config.tracking.enabled else None
    mirroring = Mirroring(mirror, lambda: sweep.study)
    with watch(sweep, console, slots=slots_here(study.config)), mirroring:
        result = sweep.run()
    _say_how_it_went(console, study, result, seconds=time.monotonic() - began)
    if result.interrupted:
        return EXIT_INTERRUPTED
    is_written = True
    try:
        _write_results(console, sweep.study, mirroring)
    except (WindtunnelError, OSError) as problem:
        is_written = False
        say(console, redacted(str(problem)), label="results not written:", style="red")
    return 0 if is_written and not (result.failed or result.stopped) else EXIT_SOME_FAILED


def _write_results(console: Console, study: Study, mirroring: Mirroring) -> None:
    from windtunnel.report import write_report

    page = write_report(study)
    for line in _answers(study):
        say(console, line)
    mirroring.finish()
    say(console, f"report: {page}")
    if study.config.tracking.enabled:
        say(console, f"MLflow: windtunnel ui {study.file}")


def _answers(study: Study) -> Iterator[str]:
    """What the sweep was for: winners, the ratio at the largest budget, and the forecast's fate."""
    from windtunnel.laws import Fit
    from windtunnel.report.forecast import verdict
    from windtunnel.runs.forecast import read_forecasts
    from windtunnel.runs.search.winner import search_outcomes
    from windtunnel.runs.table import gather

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
    found = verdict(read_forecasts(study.folder), gather(study.store, study.plan))
    if found is not None and found.contest is not None:
        scores = ", ".join(f"{s.name} {s.rms_percent:.1f}%" for s in found.contest.scores)
        inside = (
            f"{found.inside} of {found.with_interval} runs inside the {found.level:.0%} interval"
            if found.with_interval
            else f"{found.measured} runs, no interval"
        )
        yield f"forecast of the held-out size: {inside}; rms error: {scores}"


def _say_how_it_went(
    console: Console, study: Study, result: "SweepResult", *, seconds: float
) -> None:
    counts = {status.value: n for status, n in result.counts.items() if n}
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    say(console, f"{study.config.study}: {said} in {duration(seconds)}")
    for segment, error in result.errors.items():
        say(console, f"{segment}: {error}", label="failed", style="red")
    if result.forecast_problem:
        say(console, result.forecast_problem, label="no forecast:")
    if result.stopped:
        waiting = counts.get("waiting", 0)
        say(
            console,
            f"{result.stopped}; {waiting} segments were not started: mend that, and the same "
            "command goes on",
            label="stopped:",
        )
    if result.interrupted:
        say(console, "interrupted; everything is saved: the same command goes on")


@contextmanager
def _data_progress(console: Console) -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar on a terminal, a line a stage elsewhere."""
    if not console.is_terminal:
        seen: set[str] = set()

        def line(stage: str, done: int, total: int | None) -> None:
            if stage not in seen:
                seen.add(stage)
                print(f"data: {stage}", flush=True)

        yield line
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    with Progress(
        TextColumn("data: {task.description}"), BarColumn(), DownloadColumn(), console=console
    ) as bars:
        tasks: dict[str, Any] = {}

        def bar(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield bar
