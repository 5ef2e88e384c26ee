"""The Searcher that hands out ready segments, and learns from Tune how they ended."""

from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from windtunnel.engine.graph import Graph


class ReadySegments(Searcher):
    """Suggests segments as they become ready; None means: ask again."""

    def __init__(self, graph: Graph, orders: Path) -> None:
        super().__init__(metric="step", mode="max")
        self.graph, self.orders = graph, orders
        self._segment_of: dict[str, str] = {}  # of trials that have not ended

    def suggest(  # type: ignore[override]
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        """The next ready segment, None while all must wait, FINISHED when nothing is left."""
        planned = self.graph.next_ready()
        if planned is None:
            return str(self.FINISHED) if self.graph.idle else None
        self._segment_of[trial_id] = planned.id
        return {
            "orders": str(self.orders),
            "planned": planned.model_dump(mode="json"),
            "trunk_tokens": self.graph.trunk_tokens(planned),
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Learn of a fork, or how a segment ended."""
        segment_id, outcome = self._segment_of.get(trial_id), result.get("outcome")
        if segment_id is None:
            return
        if outcome is None:
            self.graph.forked(segment_id, result["step"])
            return
        del self._segment_of[trial_id]
        self.graph.report(segment_id, outcome, result.get("error"), halt=result.get("halt"))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Learn that a trial is over; one without an outcome raised, or its process died."""
        if result and not error:
            self.on_trial_result(trial_id, result)
        segment_id = self._segment_of.pop(trial_id, None)
        if segment_id is not None:
            self.graph.attempt_failed(segment_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the store is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the store is the truth."""
