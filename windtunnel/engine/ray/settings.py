"""Ray's environment variables and its temporary folder, both set before `ray` is imported.

A socket's path holds 107 bytes, of which Ray's own part takes about 60. The temporary folder that a
batch system gives a job is often too long, so a private Ray may need another one.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from windtunnel.errors import ConfigError, Refused, cause_of
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
    """Turn off Ray's usage reports and output, and turn on authentication where a token exists.

    Ray joins a cluster without authentication unless `RAY_AUTH_MODE` says otherwise. Variables that
    the user has set stay. A private Ray always has its own token (`isolation.own_token`).
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
"""The kernel's limit on the path of a socket, in bytes."""

SOCKET = "ray/session_2000-01-01_00-00-00_000000_{pid}/sockets/plasma_store"
"""The longest path that Ray creates below its temporary folder (Ray 2.60)."""

SHORT = ("/tmp", "/dev/shm", "/var/tmp")


@contextmanager
def ray_folder() -> Iterator[Path]:
    """Ray's temporary folder while the body runs: the usual one, else a new short one.

    Raises:
        ConfigError: RAY_TMPDIR is unusable, or no short folder can be written.
    """
    if stated := os.environ.get("RAY_TMPDIR"):
        folder = Path(stated).absolute()
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)  # as Ray does
        if problem := _problem(folder):
            message = f"RAY_TMPDIR={stated}: {problem}; {_fix()}"
            raise ConfigError(problem.code, message, **problem.values)
        yield folder / "ray"
        return
    usual = Path(tempfile.gettempdir())
    problem = _problem(usual)
    if problem is None:
        yield usual / "ray"
        return
    for place in SHORT:
        try:
            short = tempfile.TemporaryDirectory(
                prefix="windtunnel-", dir=place, ignore_cleanup_errors=True
            )
        except OSError:
            continue
        with short as folder_name:  # only its owner can enter it
            yield Path(folder_name) / "ray"
        return
    raise ConfigError(
        "no-short-folder",
        f"Ray needs a short temporary folder: {problem}, and none of {', '.join(SHORT)} "
        f"can be written; {_fix()}",
        folder=usual,
        tried=SHORT,
        cause=str(problem),
    )


def _problem(folder: Path) -> Refused | None:
    """The reason why Ray cannot put its sockets below a temporary folder; None if it can."""
    longest = LONGEST_SOCKET - len(SOCKET.format(pid=os.getpid())) - 1
    if (length := len(os.fsencode(folder))) > longest:
        message = f"{folder} has {length} bytes, and Ray's sockets leave room for {longest}"
        return Refused("path-too-long", message, path=folder, bytes=length, limit=longest)
    below = folder / "ray"
    try:
        if not folder.is_dir():
            return Refused("not-a-folder", f"{folder} is not a folder", path=folder)
        tempfile.TemporaryFile(dir=below if below.is_dir() else folder).close()
    except OSError as refused:
        path = below if below.is_dir() else folder
        cause = cause_of(refused)
        return Refused("cannot-write", f"{path} cannot be written: {cause}", path=path, cause=cause)
    return None


def _fix() -> str:
    return "set RAY_TMPDIR to a folder of yours with a short path, such as /tmp"
