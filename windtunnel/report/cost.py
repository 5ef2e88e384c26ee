"""What the sweep spent, and what the same table would have cost without shared trunks."""

from dataclasses import dataclass

from windtunnel.trials.gather import Row
from windtunnel.trials.imported import KIND


@dataclass(frozen=True, kw_only=True)
class Cost:
    """FLOPs counted exactly, and seconds of training, summed over trials.

    Attributes:
        flops: spent by all segments that ended, diverged ones too.
        flops_trunks: the trunks' part of it.
        flops_retrained: every finished branch trained from update 0 to its horizon.
        flops_6nd: the same by 6ND, for papers that count so.
        seconds: training time of all segments; trials side by side count each.
    """

    flops: float
    flops_trunks: float
    flops_retrained: float
    flops_6nd: float
    seconds: float
    segments: int
    branches: int

    @property
    def saved(self) -> float | None:
        """How many times cheaper the trunks and branches were; None before there is a branch."""
        return self.flops_retrained / self.flops if self.flops and self.branches else None


def cost(rows: list[Row]) -> Cost:
    """Sums over a table's rows; what imported runs cost is not known."""
    rows = [row for row in rows if row["kind"] != KIND]
    branches = [row for row in rows if row["kind"] == "branch" and row["outcome"] == "finished"]
    return Cost(
        flops=sum(row["flops_spent"] for row in rows),
        flops_trunks=sum(row["flops_spent"] for row in rows if row["kind"] == "trunk"),
        flops_retrained=sum(row["flops_exact"] for row in branches),
        flops_6nd=sum(row["flops_6nd"] * _own_share(row) for row in rows),
        seconds=sum(row["seconds"] for row in rows),
        segments=len(rows),
        branches=len(branches),
    )


def _own_share(row: Row) -> float:
    """The part of a row's path that is the segment's own."""
    return float(row["flops_spent"] / row["flops_exact"]) if row["flops_exact"] else 0.0
