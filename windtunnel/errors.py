"""Errors that a user can act on: a stable code, its values, and a message.

The message says what, where, what is allowed and the likely fix. The command line prints it without
a traceback and exits with `exit_code`; any other exception is a fault of ours and keeps its
traceback.
"""

import difflib
import errno
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from windtunnel.redact import redacted

LONGEST_CAUSE = 300
"""Characters of a library's message that ours quotes."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Coded(Exception):
    """An exception with a stable code and the values of its message.

    Args:
        code: Lower-case words joined by `-`, such as `unknown-column`.
        message: One line: what, where, what is allowed, the likely fix.
        values: The values in the message: numbers, text, paths, or lists of these.

    >>> raise FitError("too-few-rows", f"{rows} rows; a fit needs 4", rows=rows)  # doctest: +SKIP
    """

    def __init__(self, code: str, message: str, /, **values: object) -> None:
        super().__init__(message)
        self.code, self.values = code, values

    def __reduce__(self) -> tuple[Any, ...]:
        """Support pickling: workers send their errors to the driver."""
        return _remade, (type(self), self.args, self.__dict__)

    def document(self) -> dict[str, Any]:
        """The error for machines, without secrets: `code`, `message` and `values`."""
        values = {name: _plain(value) for name, value in self.values.items()}
        return {"code": self.code, "message": redacted(str(self)), "values": values}

    def diagnostic(self) -> "Diagnostic":
        """The error as a warning, where something is left out because of it."""
        return Diagnostic(self.code, str(self), **self.values)


@dataclass(frozen=True, init=False)
class Diagnostic:
    """A warning about a number: a stable code, its values, and a sentence.

    docs/fit.md and docs/data.md list the codes and when each fires.
    """

    code: str
    message: str
    values: Mapping[str, object] = field(compare=False)

    def __init__(self, code: str, message: str, /, **values: object) -> None:
        for name, value in (("code", code), ("message", message), ("values", values)):
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"

    def at(self, place: str, **values: object) -> "Diagnostic":
        """The same of one part, `PLACE: MESSAGE`, with further values."""
        return Diagnostic(self.code, f"{place}: {self.message}", **self.values, **values)

    def document(self) -> dict[str, Any]:
        """The warning for machines: `code`, `message`, and `values` where it has any."""
        values = {name: _plain(value) for name, value in self.values.items()}
        return {"code": self.code, "message": self.message} | ({"values": values} if values else {})


class WindtunnelError(Coded):
    """Base of every error that is meant for the user."""

    exit_code = 2


class Refused(Coded, ValueError):
    """A value that a check refuses; a caller that knows its place makes it a WindtunnelError."""


class ConfigError(WindtunnelError):
    """A study file or an option that cannot be used as written."""


class DataError(WindtunnelError):
    """A data source that is missing, empty, unreadable or differs from the study's data lock."""


class StoreError(WindtunnelError):
    """A store that cannot be written, is damaged, or is in use by another process."""


class StoreFull(StoreError):
    """A store that cannot grow: its disk is full, or a quota or size limit is reached."""


class FitError(WindtunnelError):
    """A table that cannot support the requested law."""


class ColumnError(FitError):
    """A column, or one value of it, that a law cannot take.

    Args:
        code: As of `Coded`.
        problem: What follows the place, as `is -2: must be above 0`.
        column: The column, in the law's name of it.
        row: The value's row, from 0; none where the whole column is meant.
        values: Further values of the message.
    """

    def __init__(
        self, code: str, problem: str, column: str, row: int | None = None, /, **values: object
    ) -> None:
        where = {"column": column} if row is None else {"column": column, "row": row}
        super().__init__(code, problem, **where, **values)
        self.problem, self.column, self.row = problem, column, row

    def __str__(self) -> str:
        row = "" if self.row is None else f", row {self.row}"
        return f"column {self.column!r}{row} {self.problem}"


class TrackingError(WindtunnelError):
    """A tracking server that was named and cannot be reached."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A clause `; did you mean 'x'?` for the nearest known word, or the empty string."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def cause_of(problem: BaseException) -> str:
    """The message of an exception on one line, without secrets; its type if there is no message."""
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    text = redacted(lines[0]) if lines else ""
    if len(text) > LONGEST_CAUSE:
        text = f"{text[:LONGEST_CAUSE]}..."
    if isinstance(problem, (KeyError, RecursionError, MemoryError)) or not text:
        return f"{type(problem).__name__} {text}".strip()
    return text


@contextmanager
def boundary(
    where: object,
    fix: str,
    kind: type[WindtunnelError] = DataError,
    *,
    what: str = "",
    code: str = "unreadable",
) -> Iterator[None]:
    """Turn any exception of the body into one error with the place, the cause and the fix.

    Foreign readers (json, pyarrow, tokenizers, numpy, csv, yaml, mlflow) raise exceptions of any
    type, some of them not even an `Exception` (Rust's panics). Our own errors pass.

    Args:
        where: The file, with its line or row if known, or a callable that returns it.
        fix: What the user can do about it.
        kind: The class of the error.
        what: The problem, such as `not a Parquet file`; the cause follows it.
        code: Its code, unless a check within refused a value by a code of its own.
    """
    try:
        yield
    except (WindtunnelError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as problem:
        place = where() if callable(where) else where
        why = f"{what}: {cause_of(problem)}" if what else cause_of(problem)
        message = f"{place}: {why}; {fix}"
        if isinstance(problem, Refused):
            raise kind(problem.code, message, where=place, **problem.values) from problem
        raise kind(code, message, where=place, cause=cause_of(problem)) from problem


def cannot_write(path: Path, refused: OSError, what: str = "cannot be written") -> StoreError:
    """The error for a failed write of `path`: a StoreFull if the disk or a quota is full."""
    full = refused.errno in FULL
    fix = "free space" if full else "correct its permissions, or `store:` in the study file"
    return (StoreFull if full else StoreError)(
        "store-full" if full else "cannot-write",
        f"{path}: {what}: {refused.strerror or refused}; {fix}, then run the same "
        "command again: finished segments are kept",
        path=path,
        cause=refused.strerror or str(refused),
    )


def _remade(kind: type[Coded], args: tuple[Any, ...], state: dict[str, Any]) -> Coded:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


def _plain(value: object) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such numbers
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return redacted(str(value))
