"""Errors of laws in the words of the file that their table was read from."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from windtunnel.errors import ColumnError, FitError
from windtunnel.laws.table import Table


@contextmanager
def of_source(source: Path, table: Table) -> Iterator[None]:
    """Name the file, its own columns and its lines in what a law says of a table.

    Raises:
        FitError: The body raised one.
    """
    try:
        yield
    except ColumnError as wrong:
        own = f"column {table.names.get(wrong.column, wrong.column)!r}"
        if wrong.row is not None:
            own = f"{table.places[wrong.row]}, {own}"
        raise _at(source, f"{own} {wrong.problem}") from wrong
    except FitError as wrong:
        raise _at(source, str(wrong)) from wrong


def _at(source: Path, text: str) -> FitError:
    return FitError(f"{source}: {text}")
