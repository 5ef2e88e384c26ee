"""The live view of a sweep: a table that stays in place, plain lines off a terminal."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from windtunnel.cli.tables import segments_table
from windtunnel.cli.text import duration, si
from windtunnel.config.search import SearchExperiment
from windtunnel.runs.progress import StudyProgress, Watch
from windtunnel.runs.search.summary import suggested_so_far
from windtunnel.runs.search.trial_log import read_suggested
from windtunnel.runs.study import Study

if TYPE_CHECKING:
    from windtunnel.engine.sweep import Sweep

TERMINAL_SECONDS, LINES_SECONDS = 1.0, 10.0


class Pace:
    """Work done since the view began, so that the time left is of this machine and this sweep."""

    def __init__(self) -> None:
        self.began, self.first = time.monotonic(), -1.0

    def left(self, progress: StudyProgress) -> float | None:
        """Seconds left at the pace so far; None until there is one."""
        if self.first < 0:
            self.first = progress.flops_done
        done = progress.flops_done - self.first
        if done <= 0:
            return None
        return (progress.flops_planned - progress.flops_done) * (
            (time.monotonic() - self.began) / done
        )


@contextmanager
def watch(sweep: "Sweep", console: Console, *, slots: int) -> Iterator[None]:
    """Show the sweep while the body runs, from a thread that only reads."""
    ended = threading.Event()
    pace, progress = Pace(), Watch(sweep.study)

    def in_place() -> None:
        with Live(console=console, refresh_per_second=2) as live:
            while True:
                now = progress.read(sweep.study.plan)
                live.update(
                    Group(
                        Text(summary(now, pace, _searches(sweep.study))),
                        segments_table(list(now.running)[: 4 * slots]),
                    )
                )
                if ended.wait(TERMINAL_SECONDS):
                    return

    def in_lines() -> None:
        while not ended.wait(LINES_SECONDS):
            now = progress.read(sweep.study.plan)
            print(summary(now, pace, _searches(sweep.study)), flush=True)

    thread = threading.Thread(
        target=in_place if console.is_terminal else in_lines, name="view", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=10)


def _searches(study: Study) -> list[str]:
    """How far each search is, by its one file."""
    return [
        f"search {each.name}: {suggested_so_far(each, read_suggested(study.folder, each))}"
        for each in study.config.experiments
        if isinstance(each, SearchExperiment)
    ]


def summary(progress: StudyProgress, pace: Pace, searches: Sequence[str] = ()) -> str:
    """One line: how many are done, run and wait; speed; losses; time left."""
    running = progress.running
    speed = sum(each.tokens_per_second or 0.0 for each in running)
    losses = " ".join(f"{each.loss:.3f}" for each in running if each.loss is not None)
    left = pace.left(progress)
    parts = [
        f"{progress.count('finished')}/{len(progress.segments)} done",
        f"{len(running)} running",
        f"{progress.count('waiting')} waiting",
        f"{si(speed)} tokens/s",
        f"loss {losses}" if losses else "",
        f"about {duration(left)} left" if left is not None else "",
        *searches,
    ]
    for trouble in ("diverged", "failed"):
        if count := progress.count(trouble):
            parts.insert(3, f"{count} {trouble}")
    return ", ".join(part for part in parts if part)
