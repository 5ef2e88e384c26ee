"""A table as stored on disk: columns of raw cells, and the position of each row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from windtunnel.errors import Diagnostic

MAX_NAMES_SHOWN = 30


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """Raw cells of a file (text in a CSV), and the position of each row, such as `line 7`.

    Attributes:
        stated: columns that an option sets for every row and that are not in the file.
        diagnostics: warnings about how the file was read.
    """

    path: Path
    columns: Mapping[str, Sequence[object]]
    places: Sequence[str]
    stated: frozenset[str] = frozenset()
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.places)

    @property
    def own(self) -> list[str]:
        """The columns in the file itself."""
        return [name for name in self.columns if name not in self.stated]

    @property
    def names(self) -> str:
        """The columns in the file itself, as text for a message."""
        shown = self.own[:MAX_NAMES_SHOWN]
        more = len(self.own) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more else "")
