"""A warning that a program can act on and a person can read."""

from typing import NamedTuple


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
