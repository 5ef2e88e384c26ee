"""A sweep: one run of an engine over the graph of a study, under the study's lease.

It wires the store, searches, callbacks, forecast and signals to the graph. Running the same command
again continues where it stopped.
"""

import signal
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Self

from windtunnel.config import Branch
from windtunnel.engine.callbacks import SweepCallbacks
from windtunnel.engine.graph import Graph, Status
from windtunnel.engine.ray.settings import prepare_environment
from windtunnel.engine.search import SearchScheduler
from windtunnel.engine.taking import Take, Taking
from windtunnel.errors import WindtunnelError
from windtunnel.runs.completion import WantedSet, is_complete, outcome_of
from windtunnel.runs.files import write_json
from windtunnel.runs.forecast import write_forecasts
from windtunnel.runs.gc import clear_scratch_files
from windtunnel.runs.lease import Lease
from windtunnel.runs.measured import gather
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.segment_run import fail
from windtunnel.runs.store import Store
from windtunnel.runs.study import Study
from windtunnel.runs.taken import Taken
from windtunnel.runs.worker import WorkerConfig


class StudyStoreView:
    """A `StoreView` over a study's store."""

    def __init__(self, store: Store, wanted: dict[str, WantedSet]) -> None:
        self.store, self.wanted = store, wanted

    def ended(self, planned: PlannedSegment) -> Status | None:
        """FINISHED if the store holds everything planned, DIVERGED if it diverged; else None."""
        if outcome_of(self.store.segment(planned.id).record, planned) == "diverged":
            return Status.DIVERGED
        return Status.FINISHED if is_complete(self.store, planned, self.wanted) else None

    def fork_is_saved(self, branch: PlannedSegment) -> bool:
        """Whether the parent's checkpoint at the fork exists."""
        segment = branch.segment
        assert isinstance(segment, Branch)
        return self.store.segment(segment.parent.id).has_checkpoint(
            segment.fork_step, moments=isinstance(segment.parent, Branch)
        )

    def begun(self, planned: PlannedSegment) -> object:
        """Traces of attempts: the lease of a dead process, and notes of faults."""
        root = self.store.segment(planned.id).root
        return tuple(_state(root / name) for name in ("lease.json", "notes.jsonl"))

    def give_up(self, planned: PlannedSegment, problem: str | None) -> str:
        """Last line of the error, after writing the record of a failure."""
        folder = self.store.segment(planned.id)
        text = problem or folder.last_note() or "its worker process died on every attempt"
        fail(folder, text)
        return text.splitlines()[-1]


def _state(path: Path) -> tuple[int, int, int] | None:
    """Identity of a file: every lease is a new file, and notes grow."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _nothing(study: Study, ended: Collection[str]) -> Taken:
    """Nothing new, where no reader of results was given."""
    return study.taken


EngineName = Literal["ray", "local"]

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

SAME_REQUEST_SECONDS = 1.0
"""Signals within this time are one request."""


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """Outcome of a sweep.

    Attributes:
        counts: segments by status.
        errors: of failed segments, by id.
        interrupted: by a signal.
        stopped: why it left segments unstarted, if it did.
        forecasts: of what is held out, one for each experiment.
        forecast_problems: why there is none, by experiment.
        waiting: why experiments still wait for the results of others, by experiment.
    """

    counts: dict[Status, int]
    errors: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False
    stopped: str | None = None
    forecasts: tuple[dict[str, Any], ...] = ()
    forecast_problems: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether any segment failed or could not start, or an experiment still waits."""
        lost = self.counts[Status.FAILED] + self.counts[Status.BLOCKED]
        return lost > 0 or bool(self.waiting)


class Sweep:
    """One run of the engine over a study; `graph` may be watched from another thread."""

    def __init__(
        self,
        study: Study,
        *,
        engine: EngineName = "ray",
        address: str | None = None,
        accept_execution_change: bool = False,
        take: Take | None = None,
    ) -> None:
        self.engine, self.address = engine, address
        self._opened = study
        self.worker_config = WorkerConfig.of(study, accept_execution_change=accept_execution_change)
        self.callbacks = SweepCallbacks(study)
        store_view = StudyStoreView(study.store, study.wanted)
        self._may_grow = False
        self.searches = SearchScheduler(
            study, has_ended=lambda planned: store_view.ended(planned) is not None
        )
        self.taking = Taking(
            study, take or _nothing, lambda: self.searches.unfinished, store_view.ended
        )
        self.graph = Graph(
            study.plan.segments,
            store_view,
            at_barrier=self._forecast,
            on_ended=self._on_ended,
            why_not=self.callbacks.why_not,
            retries=study.config.resources.retries,
        )
        self._forecasts: tuple[dict[str, Any], ...] = ()
        self._forecast_problems: dict[str, str] = {}

    @property
    def study(self) -> Study:
        """The study with its current plan, to which searches and experiments that waited add."""
        plan = self.taking.study.plan
        segments = tuple(self.graph.planned.values())
        return replace(self.taking.study, plan=plan.model_copy(update={"segments": segments}))

    def run(self) -> SweepResult:
        """Run everything that is left of the study.

        Raises:
            ConfigError: The rest of the plan exceeds the study's budget.
            LeaseHeld: Another process is sweeping this study.
            StoreError: The store cannot be written.
        """
        self._opened.store.open_for_writing()
        folder = self._opened.folder
        with Lease(folder / "lease.json", what=f"study {self._opened.config.study!r}"):
            self.worker_config.stop_file.unlink(missing_ok=True)
            config_path = folder / "orders.json"
            write_json(config_path, self.worker_config.model_dump(mode="json"))
            clear_scratch_files(self._opened.store, folder, self.graph.planned)
            self._may_grow = True
            self.graph.add(self.callbacks.begin())
            following = self.searches.begin(self.graph.ended())
            self.taking.add(following)
            following += self._taken(self.taking.begin(self.graph.status))
            self.callbacks.add(following)
            self.graph.add(following)
            self._write_plan()
            with _Interruption(self._stop) as interruption:
                self._engine_run(config_path, interruption)
            self.callbacks.finish(slots=self.graph.slots)
            self.worker_config.stop_file.unlink(missing_ok=True)
        interrupted = interruption.happened or self.graph.counts()[Status.INTERRUPTED] > 0
        return SweepResult(
            counts=self.graph.counts(),
            errors=self.graph.errors,
            stopped=None if interrupted else self.graph.stopping,
            interrupted=interrupted,
            forecasts=self._forecasts,
            forecast_problems=self._forecast_problems,
            waiting=self.taking.waiting,
        )

    def _engine_run(self, config_path: Path, interruption: "_Interruption") -> None:
        if self.graph.done:
            self.graph.next_ready()  # passes the barrier, so a finished study gets its forecast
            return
        if self.engine == "local":
            from windtunnel.engine import local

            local.run(self.graph, config_path)
            return
        prepare_environment()
        from windtunnel.engine.ray.tune import run

        run(
            self.graph,
            config_path,
            resources=self._opened.config.resources,
            address=self.address,
            on_connected=interruption.install,
        )

    def _forecast(self) -> None:
        study = self.study
        rows = gather(study.store, study.plan)
        self._forecasts, self._forecast_problems = write_forecasts(
            study.folder, study.store, study.plan, rows
        )

    def _on_ended(self, planned: PlannedSegment, status: Status) -> list[PlannedSegment]:
        """Segments to add, once this process holds the study's lease."""
        if not self._may_grow:
            return []
        try:
            self.callbacks.ended(planned, status)
            following = self.searches.after(planned)
            self.taking.add(following)
            following += self._taken(self.taking.after(planned, status))
            self.callbacks.add(following)
            if following:
                self._write_plan(*following)
        except WindtunnelError as problem:
            self.graph.stopping = str(problem)
            return []
        return following

    def _taken(self, settled: list[PlannedSegment]) -> list[PlannedSegment]:
        """The segments of experiments that wait no longer, and the first of searches among them."""
        if settled:
            self.searches.add(self.taking.study)
            first = self.searches.begin(self.graph.ended())
            self.taking.add(first)
            settled += first
        return settled

    def _write_plan(self, *following: PlannedSegment) -> None:
        """Write the plan before it starts, so that other studies of the store know its needs."""
        plan = self.study.plan
        plan = plan.model_copy(update={"segments": (*plan.segments, *following)})
        write_json(self._opened.folder / "plan.json", plan.model_dump(mode="json"))

    def _stop(self) -> None:
        """Make every run save and return."""
        self.graph.stopping = "interrupted"
        self.worker_config.stop_file.touch()


class _Interruption:
    """Signal handlers: the first signal stops the sweep in order, a later one ends the process.

    `timeout` signals both the process and its group, so signals within a second are one request.
    Under `nohup` SIGHUP stays ignored. Call `install` again after a library has replaced the
    handlers.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self.stop, self.happened = stop, False
        self._at = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(self, *problem: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Install the handlers, if this is the main thread."""
        if threading.current_thread() is not threading.main_thread() or self.happened:
            return
        for number in STOPPING:
            before = signal.getsignal(number) or signal.SIG_DFL
            if number == signal.SIGHUP and before is signal.SIG_IGN:
                continue
            self._before.setdefault(number, before)
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self.happened:
            self.happened, self._at = True, time.monotonic()
            self.stop()
        elif time.monotonic() - self._at > SAME_REQUEST_SECONDS:
            at_once = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, at_once)
            signal.raise_signal(number)
