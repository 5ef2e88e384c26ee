"""The table of runs: in which order, and which columns it has."""

from collections.abc import Sequence

from windtunnel.report.numbers import NONE
from windtunnel.trials.gather import Row

WEIGHT = "weight_"
"""Before the name of a source, in a row of a study whose mixtures change."""
SHOWN = 5e-4
"""Of all that is read: a smaller share would stand there as 0.0%."""


def reading_order(row: Row) -> tuple[int, int, bool, int]:
    """By size, then seed: the trunk first, then its branches from short to long."""
    return row["params"], row["init_seed"] or 0, row["kind"] != "trunk", row["tokens"]


def validation_sets(rows: Sequence[Row]) -> list[str]:
    """Names of the sets that any row was measured on, in the table's order."""
    names = dict.fromkeys(
        key.removeprefix("loss_") for row in rows for key in row if key.startswith("loss_")
    )
    return list(names)


def have_variants(rows: Sequence[Row]) -> bool:
    """Whether any is a variant of a branch experiment."""
    return any(row.get("variant") for row in rows)


def have_mixtures(rows: Sequence[Row]) -> bool:
    """Whether branches read other mixtures than their trunks: only then do rows have weights."""
    return any(name.startswith(WEIGHT) for row in rows for name in row)


def mixture(row: Row) -> str:
    """`code 90.0%, docs 10.0%`: what a branch reads at its end, the most first; a dash for none."""
    shares = {
        name.removeprefix(WEIGHT): share
        for name, share in row.items()
        if name.startswith(WEIGHT) and share is not None and share >= SHOWN
    }
    ordered = sorted(shares, key=lambda name: -shares[name])
    return ", ".join(f"{name} {shares[name]:.1%}" for name in ordered) or NONE
