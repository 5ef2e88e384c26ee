"""A warning that a program can act on and a person can read."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

ONCE = 1.01
"""Passes over the data that still count as one: totals are rounded."""


class Caution(NamedTuple):
    """What a reader must know before trusting a number: a stable code and a sentence with figures.

    The codes and when each fires are listed in docs/fit.md.
    """

    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"


def mixed_decay(undecayed: int, rows: int) -> Caution:
    """What is said where decayed and undecayed rows meet in one table."""
    return Caution(
        "mixed-decay",
        f"{undecayed} of {rows} rows are not decayed and were left out: a decay is worth about .09 "
        "nats, more than most effects fitted here, so the two are never mixed. To fit the others "
        "alone: --where 'decayed == false'",
    )


def repeated_data(passes: ArrayLike) -> tuple[Caution, ...]:
    """What is said of rows that read their data more than once; nan: not known."""
    count = np.asarray(passes, np.float64)
    repeated = int(np.sum(count > ONCE))
    if not repeated:
        return ()
    return (
        Caution(
            "repeated-data",
            f"{repeated} of {count.size} rows read their data more than once, up to "
            f"{np.nanmax(count):.3g} times, and this law counts every token as fresh: "
            "--law data-constrained fits repetition (--unique-tokens COL)",
        ),
    )
