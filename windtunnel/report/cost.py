"""What the sweep has spent so far; what all of it costs is the plan's to say (`trials.cost`)."""

from dataclasses import dataclass

from windtunnel.trials.gather import Row
from windtunnel.trials.imported import KIND


@dataclass(frozen=True, kw_only=True)
class Spent:
    """FLOPs counted exactly, and seconds of training, summed over trials.

    Attributes:
        flops: spent by all segments that ended, diverged ones too.
        flops_trunks: the trunks' part of it.
        flops_6nd: the same by 6ND, for papers that count so.
        seconds: training time of all segments; trials side by side count each.
    """

    flops: float
    flops_trunks: float
    flops_6nd: float
    seconds: float
    segments: int


def spent(rows: list[Row]) -> Spent:
    """Sums over a table's rows; what imported runs cost is not known."""
    rows = [row for row in rows if row["kind"] != KIND]
    return Spent(
        flops=sum(row["flops_spent"] for row in rows),
        flops_trunks=sum(row["flops_spent"] for row in rows if row["kind"] == "trunk"),
        flops_6nd=sum(row["flops_6nd"] * _own_share(row) for row in rows),
        seconds=sum(row["seconds"] for row in rows),
        segments=len(rows),
    )


def _own_share(row: Row) -> float:
    """The part of a row's path that is the segment's own."""
    return float(row["flops_spent"] / row["flops_exact"]) if row["flops_exact"] else 0.0
