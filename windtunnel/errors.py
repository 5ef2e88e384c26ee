"""Errors that a user can act on: each message says what, where, what is allowed and the likely fix.

The command line prints these without a traceback and exits with `exit_code`; any other exception is
a fault of ours and keeps its traceback.
"""

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path

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


class TrackingError(WindtunnelError):
    """A tracking server that was asked for by name and cannot be reached."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A clause `; did you mean 'x'?` for the nearest known word, or the empty string."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def said_of(refused: OSError | UnicodeDecodeError) -> str:
    """Why a file could not be read as text."""
    if isinstance(refused, UnicodeDecodeError):
        return "no text"
    return refused.strerror or str(refused)


def cannot_write(path: Path, refused: OSError, what: str = "cannot be written") -> StoreError:
    """The error to raise where `refused` came from writing `path`: a StoreFull, if that is why."""
    full = refused.errno in FULL
    fix = "free space" if full else "mend its permissions, or `store:` in the study file"
    return (StoreFull if full else StoreError)(
        f"{path}: {what}: {refused.strerror or refused}; {fix}, then run the same "
        "command again: finished segments are kept"
    )
