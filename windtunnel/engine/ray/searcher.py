"""The Searcher that hands out ready segments, and learns from Tune how they ended."""

from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from windtunnel.engine.graph import Graph, Status
from windtunnel.trials.run import fail


class ReadySegments(Searcher):
    """Suggests segments as they become ready; None means: ask again."""

    def __init__(self, graph: Graph, orders: Path) -> None:
        super().__init__(metric="step", mode="max")
        self.graph, self.orders = graph, orders
        self.segment_of: dict[str, str] = {}
        self.errors: dict[str, str] = {}

    def suggest(  # type: ignore[override]
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        """The next ready segment, None while all must wait, FINISHED when nothing is left."""
        planned = self.graph.next_ready()
        if planned is not None:
            self.segment_of[trial_id] = planned.id
            return {"segment": planned.id, "orders": str(self.orders)}
        running = self.graph.counts()[Status.RUNNING]
        if not running and (self.graph.stopping or self.graph.done):
            return str(self.FINISHED)
        return None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Learn how a segment ended."""
        self._take(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Learn that a trial is over; one that raised on its last attempt has failed."""
        segment_id = self.segment_of[trial_id]
        if result:
            self._take(trial_id, result)
        if self.graph.status[segment_id] is Status.RUNNING:
            folder = self.graph.store.segment(segment_id)
            problem = folder.last_note() or "its worker process died on every attempt"
            self.errors[segment_id] = problem.splitlines()[-1]
            fail(folder, problem)
            self.graph.report(segment_id, "failed")

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the store is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the store is the truth."""

    def _take(self, trial_id: str, result: dict[str, Any]) -> None:
        segment_id, outcome = self.segment_of[trial_id], result.get("outcome")
        if outcome is None or self.graph.status[segment_id] is not Status.RUNNING:
            return
        if "error" in result:
            self.errors[segment_id] = str(result["error"])
        if outcome == "interrupted":
            self.graph.stopping = True
        self.graph.report(segment_id, outcome)
