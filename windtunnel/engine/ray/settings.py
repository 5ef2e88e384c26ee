"""What Ray reads from the environment; set before it is imported, for it reads most of it then.

Where a Ray of our own keeps its sockets and logs: in a folder with a short name.

The path of a socket holds 107 bytes, and Ray's own part takes about 60 of them: the temporary
folder that a batch system gives a job is often too long.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from windtunnel.errors import ConfigError, cause_of
from windtunnel.user_folders import home, provide_home

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the driver saves everything on Ctrl-C itself
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # the store has the checkpoints
    "RAY_ENABLE_AUTO_CONNECT": "0",  # one that was lost must not be started again, on any address
    "TUNE_DISABLE_AUTO_INIT": "1",
}


def prepare_environment() -> None:
    """No usage reports, no own output, and token authentication wherever there is a token.

    Ray joins a cluster without authentication unless it is told to; what the user has set stands. A
    Ray of our own has a token of its own, whatever is set (`apart.own_token`).
    """
    here = home()
    provide_home()
    settings = dict(QUIET)
    stated = os.environ.get("RAY_AUTH_TOKEN_PATH")
    place = Path(stated) if stated else here and here / ".ray" / "auth_token"
    if os.environ.get("RAY_AUTH_TOKEN") or (place and _is_there(place)):
        settings["RAY_AUTH_MODE"] = "token"
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def _is_there(token: Path) -> bool:
    try:
        return token.exists()
    except OSError:  # in somebody else's home
        return False


LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
"""Bytes; the kernel takes no longer path."""

SOCKET = "ray/session_2000-01-01_00-00-00_000000_{pid}/sockets/plasma_store"
"""The longest that Ray makes below its temporary folder (Ray 2.60)."""

SHORT = ("/tmp", "/dev/shm", "/var/tmp")


@contextmanager
def ray_folder() -> Iterator[Path]:
    """A folder for Ray, as long as the body runs: the usual one, else a short one of our own.

    Raises:
        ConfigError: RAY_TMPDIR cannot be used, or none that is short enough can be written.
    """
    if stated := os.environ.get("RAY_TMPDIR"):
        folder = Path(stated).absolute()
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)  # as Ray does
        if problem := _problem(folder):
            raise ConfigError(f"RAY_TMPDIR={stated}: {problem}; {_fix()}")
        yield folder / "ray"
        return
    usual = Path(tempfile.gettempdir())
    if _problem(usual) is None:
        yield usual / "ray"
        return
    for place in SHORT:
        try:
            own = tempfile.TemporaryDirectory(
                prefix="windtunnel-", dir=place, ignore_cleanup_errors=True
            )
        except OSError:
            continue
        with own as folder_name:  # its owner alone can enter it
            yield Path(folder_name) / "ray"
        return
    raise ConfigError(
        f"Ray needs a short temporary folder: {_problem(usual)}, and none of {', '.join(SHORT)} "
        f"can be written; {_fix()}"
    )


def _problem(folder: Path) -> str | None:
    """Why Ray cannot keep its sockets below a temporary folder; None if it can."""
    longest = LONGEST_SOCKET - len(SOCKET.format(pid=os.getpid())) - 1
    if (length := len(os.fsencode(folder))) > longest:
        return f"{folder} has {length} bytes, and Ray's sockets leave room for {longest}"
    below = folder / "ray"
    try:
        if not folder.is_dir():
            return f"{folder} is no folder"
        tempfile.TemporaryFile(dir=below if below.is_dir() else folder).close()
    except OSError as refused:
        return f"{below if below.is_dir() else folder} cannot be written: {cause_of(refused)}"
    return None


def _fix() -> str:
    return "set RAY_TMPDIR to a folder of yours with a short path, such as /tmp"
