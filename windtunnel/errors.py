"""Errors that a user can act on: each message says what, where, what is allowed and the likely fix.

The command line prints these without a traceback and exits with `exit_code`; any other exception is
a fault of ours and keeps its traceback.
"""

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from windtunnel.redact import redacted

LONGEST_CAUSE = 300
"""Characters of a library's own words that a message quotes."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class WindtunnelError(Exception):
    """Base of every error that is meant for the user."""

    exit_code = 2


class ConfigError(WindtunnelError):
    """A study file or an option that cannot be used as written."""


class DataError(WindtunnelError):
    """A data source that is missing, empty, unreadable or not what it was when it was pinned."""


class StoreError(WindtunnelError):
    """A store that cannot be written, is damaged, or is in use by another process."""


class StoreFull(StoreError):
    """A store that takes nothing more: its disk is full, or a quota or size limit is reached."""


class FitError(WindtunnelError):
    """A table that cannot carry the law asked of it."""


class ColumnError(FitError):
    """A column, or one value of it, that a law cannot take.

    Args:
        problem: What follows the place, as `is -2: must be above 0`.
        column: The column, in the law's name of it.
        row: The value's row, from 0; none where the whole column is meant.
    """

    def __init__(self, problem: str, column: str, row: int | None = None) -> None:
        super().__init__(problem, column, row)
        self.problem, self.column, self.row = problem, column, row

    def __str__(self) -> str:
        row = "" if self.row is None else f", row {self.row}"
        return f"column {self.column!r}{row} {self.problem}"


class TrackingError(WindtunnelError):
    """A tracking server that was asked for by name and cannot be reached."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A clause `; did you mean 'x'?` for the nearest known word, or the empty string."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def cause_of(problem: BaseException) -> str:
    """What an exception says, on one line, without secrets; its type where it says nothing."""
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
    where: object, fix: str, kind: type[WindtunnelError] = DataError, *, what: str = ""
) -> Iterator[None]:
    """Turn any exception of the body into one error that says where, why, and what to do.

    Foreign readers (json, pyarrow, tokenizers, numpy, csv, yaml, mlflow) raise what no list of
    exceptions foretells, some of it no `Exception` (Rust's panics). Our own errors pass.

    Args:
        where: The file, with its line or row where that is known, or a callable that says it when
            something has gone wrong.
        fix: What the user can do about it.
        kind: Which of our errors it becomes.
        what: What was being done, such as `not a Parquet file`; the cause follows it.
    """
    try:
        yield
    except (WindtunnelError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as problem:
        place = where() if callable(where) else where
        why = f"{what}: {cause_of(problem)}" if what else cause_of(problem)
        raise kind(f"{place}: {why}; {fix}") from problem


def cannot_write(path: Path, refused: OSError, what: str = "cannot be written") -> StoreError:
    """The error to raise where `refused` came from writing `path`: a StoreFull, if that is why."""
    full = refused.errno in FULL
    fix = "free space" if full else "mend its permissions, or `store:` in the study file"
    return (StoreFull if full else StoreError)(
        f"{path}: {what}: {refused.strerror or refused}; {fix}, then run the same "
        "command again: finished segments are kept"
    )
