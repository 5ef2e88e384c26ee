"""What an experiment has shown: numbers with intervals, sentences, warnings."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

LEVEL = 0.9
"""Of every interval here."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A measured number, and the interval in which it lies at `LEVEL`.

    `low` and `high` are None where nothing tells how sure it is, and the number stands alone.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    unit: str = ""
    """Empty for a plain number, a ratio or a share."""


@dataclass(frozen=True, kw_only=True)
class Finding(ABC):
    """One experiment of a study, read as one kind of question."""

    experiment: str

    title: ClassVar[str]
    """What the question is, as a heading."""

    @property
    @abstractmethod
    def lead(self) -> str:
        """The answer, in one to three sentences."""

    @property
    @abstractmethod
    def quantities(self) -> tuple[Quantity, ...]:
        """Its numbers, the most telling first."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before using them."""
        return ()
