"""A table as it lies on disk: columns of raw cells, and the place of each row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from windtunnel.errors import Diagnostic

MAX_NAMES_SHOWN = 30


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """Cells as the file has them (text in a CSV), and where each row stands, such as `line 7`.

    Attributes:
        stated: columns that are not the file's own, but what an option says of every row.
        diagnostics: what a reader must know of how the file was read.
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
        """The columns that the file has itself."""
        return [name for name in self.columns if name not in self.stated]

    @property
    def names(self) -> str:
        """The file's own columns, for a message."""
        shown = self.own[:MAX_NAMES_SHOWN]
        more = len(self.own) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more else "")
