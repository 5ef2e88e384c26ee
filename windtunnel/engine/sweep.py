"""The store as the graph of a sweep sees it.

A sweep: data, plan, graph, barrier with forecast, engine, mirror; the same command goes on.
"""

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Self

from windtunnel.config import Branch
from windtunnel.engine.callbacks import Upkeep
from windtunnel.engine.graph import Graph, Status
from windtunnel.engine.ray.settings import prepare_environment
from windtunnel.engine.search import Searches
from windtunnel.errors import FitError, WindtunnelError
from windtunnel.runs.completion import WantedSet, is_complete, outcome_of
from windtunnel.runs.files import write_json
from windtunnel.runs.forecast import write_forecast
from windtunnel.runs.gc import clear_leftovers
from windtunnel.runs.lease import Lease
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.segment_run import fail
from windtunnel.runs.store import Store
from windtunnel.runs.study import Study
from windtunnel.runs.table import gather
from windtunnel.runs.worker import WorkerConfig


class StoreLedger:
    """What the store holds of the planned segments."""

    def __init__(self, store: Store, wanted: dict[str, WantedSet]) -> None:
        self.store, self.wanted = store, wanted

    def ended(self, planned: PlannedSegment) -> Status | None:
        """FINISHED where everything asked for is there, DIVERGED where that was the end of it."""
        if outcome_of(self.store.segment(planned.id).record, planned) == "diverged":
            return Status.DIVERGED
        return Status.FINISHED if is_complete(self.store, planned, self.wanted) else None

    def fork_is_saved(self, branch: PlannedSegment) -> bool:
        """Whether the parent's checkpoint at the fork is there."""
        segment = branch.segment
        assert isinstance(segment, Branch)
        return self.store.segment(segment.parent.id).has_checkpoint(
            segment.fork_step, moments=isinstance(segment.parent, Branch)
        )

    def begun(self, planned: PlannedSegment) -> object:
        """What an attempt leaves behind: the lease of a process that died, a note of a fault."""
        root = self.store.segment(planned.id).root
        return tuple(_state(root / name) for name in ("lease.json", "notes.jsonl"))

    def give_up(self, planned: PlannedSegment, problem: str | None) -> str:
        """Write the record of a failure; its last line."""
        folder = self.store.segment(planned.id)
        text = problem or folder.last_note() or "its worker process died on every attempt"
        fail(folder, text)
        return text.splitlines()[-1]


def _state(path: Path) -> tuple[int, int, int] | None:
    """Which file lies there: a lease is a new one, and notes grow."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


EngineName = Literal["ray", "local"]

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

SAME_REQUEST_SECONDS = 1.0
"""Between two signals that are one request."""


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """How a sweep ended; `stopped` says why it left segments unstarted, if it did."""

    counts: dict[Status, int]
    errors: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False
    stopped: str | None = None
    forecast: dict[str, Any] | None = None
    forecast_problem: str | None = None

    @property
    def failed(self) -> bool:
        """Whether some segments failed or could not start."""
        return self.counts[Status.FAILED] + self.counts[Status.BLOCKED] > 0


class Sweep:
    """One run of the engine over a study; `graph` may be watched from another thread."""

    def __init__(
        self,
        study: Study,
        *,
        engine: EngineName = "ray",
        address: str | None = None,
        accept_execution_change: bool = False,
    ) -> None:
        assert study.dataset is not None
        self.engine, self.address = engine, address
        self._opened = study
        asked = study.config.data.validation
        self.order = WorkerConfig(
            study=study.config.study,
            store=str(study.store.root),
            dataset=str(study.dataset.folder),
            extra_validation={
                each.name: str(each.folder)
                for each in study.extra_validation
                if not each.conditional  # a folder's second set
            },
            validation_tokens=asked.tokens,
            fork_tokens=asked.fork_tokens,
            resources=study.config.resources,
            accept_execution_change=accept_execution_change,
            dynamics=study.config.dynamics,
        )
        self.upkeep = Upkeep(study)
        ledger = StoreLedger(study.store, study.wanted)
        self._may_grow = False
        self.searches = Searches(study, has_ended=lambda p: ledger.ended(p) is not None)
        self.graph = Graph(
            study.plan.segments,
            ledger,
            at_barrier=self._forecast,
            on_ended=self._on_ended,
            why_not=self.upkeep.why_not,
            retries=study.config.resources.retries,
        )
        self._forecast_found: dict[str, Any] | None = None
        self._forecast_problem: str | None = None

    @property
    def study(self) -> Study:
        """The study with its plan as it stands now, for searches add to it."""
        plan = self._opened.plan
        segments = tuple(self.graph.planned.values())
        return replace(self._opened, plan=plan.model_copy(update={"segments": segments}))

    def run(self) -> SweepResult:
        """Run what is left of the study.

        Raises:
            ConfigError: It needs more than the study's budget has left.
            LeaseHeld: Another process is sweeping this study.
            StoreError: The store cannot be written.
        """
        self._opened.store.open_for_writing()
        folder = self._opened.folder
        with Lease(folder / "lease.json", what=f"study {self._opened.config.study!r}"):
            self.order.stop_file.unlink(missing_ok=True)
            orders = folder / "orders.json"
            write_json(orders, self.order.model_dump(mode="json"))
            clear_leftovers(self._opened.store, folder, self.graph.planned)
            self._may_grow = True
            self.graph.add(self.upkeep.begin())
            found = self.searches.begin(self.graph.ended())
            self.upkeep.add(found)
            self.graph.add(found)
            self._write_plan()
            with _Interruption(self._stop) as interruption:
                self._engine_run(orders, interruption)
            self.upkeep.finish(slots=self.graph.slots)
            self.order.stop_file.unlink(missing_ok=True)
        interrupted = interruption.happened or self.graph.counts()[Status.INTERRUPTED] > 0
        return SweepResult(
            counts=self.graph.counts(),
            errors=self.graph.errors,
            stopped=None if interrupted else self.graph.stopping,
            interrupted=interrupted,
            forecast=self._forecast_found,
            forecast_problem=self._forecast_problem,
        )

    def _engine_run(self, orders: Path, interruption: "_Interruption") -> None:
        if self.graph.done:
            self.graph.next_ready()  # passes the barrier: a finished study still has its forecast
            return
        if self.engine == "local":
            from windtunnel.engine import local

            local.run(self.graph, orders)
            return
        prepare_environment()
        from windtunnel.engine.ray.tune import run

        run(
            self.graph,
            orders,
            resources=self._opened.config.resources,
            address=self.address,
            on_connected=interruption.install,
        )

    def _forecast(self) -> None:
        study = self.study
        rows = gather(study.store, study.plan)
        try:
            self._forecast_found = write_forecast(study.folder, study.store, study.plan, rows)
        except FitError as problem:
            self._forecast_problem = str(problem)

    def _on_ended(self, planned: PlannedSegment, status: Status) -> list[PlannedSegment]:
        """What a search asks for next, once this process holds the study's lease."""
        if not self._may_grow:
            return []
        try:
            self.upkeep.ended(planned, status)
            following = self.searches.after(planned)
            self.upkeep.add(following)
            if following:
                self._write_plan(*following)
        except WindtunnelError as problem:
            self.graph.stopping = str(problem)
            return []
        return following

    def _write_plan(self, *following: PlannedSegment) -> None:
        """Say to other studies of the store what this one needs, before it is begun."""
        plan = self.study.plan
        plan = plan.model_copy(update={"segments": (*plan.segments, *following)})
        write_json(self._opened.folder / "plan.json", plan.model_dump(mode="json"))

    def _stop(self) -> None:
        """Let every run save and return."""
        self.graph.stopping = "interrupted"
        self.order.stop_file.touch()


class _Interruption:
    """The first signal to stop stops in order; one that comes later ends this process at once.

    `timeout` sends its signal twice, to the process and to its group: what follows within a second
    is the same request. Under `nohup` SIGHUP stays ignored. `install` may be called again, by
    whoever knows that a library has replaced the handlers.
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
        """Take the signals; from another thread than the main one, leave them."""
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
