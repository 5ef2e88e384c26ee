"""Routing series: what the routers of a mixture of experts do along a run, by layer.

Recording changes no loss by a bit: the values are those that the update has counted anyway.
"""

from dataclasses import dataclass

from windtunnel.train.state import TrainState

EVERY = 16
"""Updates from one row to the next."""


@dataclass(frozen=True, slots=True)
class RoutingRow:
    """The routing of one update, a value a layer; `step` includes it, as in a curve's row.

    Attributes:
        load_entropy, largest_share, router_entropy: As of `model.routing.LayerRouting`.
        similarity: Mean cosine between the matrices of two experts, after the update.
    """

    step: int
    load_entropy: list[float]
    largest_share: list[float]
    router_entropy: list[float]
    similarity: list[float]


class RoutingSeries:
    """Recorder of the routing of one segment."""

    def __init__(self, state: TrainState) -> None:
        self.state = state
        self._rows: list[RoutingRow] = []

    def before(self) -> None:
        """Nothing: the update is counted while it runs."""

    def after(self) -> None:
        """Record an update, every so many."""
        routed = self.state.model.routed
        if routed is None or self.state.step % EVERY:
            return
        layers = routed.routing.of_layers()
        self._rows.append(
            RoutingRow(
                step=self.state.step,
                load_entropy=[each.load_entropy for each in layers],
                largest_share=[each.largest_share for each in layers],
                router_entropy=[each.router_entropy for each in layers],
                similarity=routed.similarity(),
            )
        )

    def rows(self, *, up_to: int) -> list[RoutingRow]:
        """Rows recorded since the last call; those beyond update `up_to` are dropped."""
        rows, self._rows = self._rows, []
        return [row for row in rows if row.step <= up_to]
