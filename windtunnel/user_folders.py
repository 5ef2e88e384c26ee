"""Per-user directories for state, caches and compiled code.

`$XDG_STATE_HOME` and `$XDG_CACHE_HOME` come first, then `~/.local/state` and `~/.cache`. A user
without a writable home directory, as in many containers, gets a private temporary directory.
Compiled kernels and graphs live in the user's cache, never in a store.
"""

import os
import stat
import tempfile
from pathlib import Path

from windtunnel.errors import ConfigError


def state_home() -> Path:
    """Directory of the user's databases and traces; it may not exist yet."""
    return _home("XDG_STATE_HOME", ".local/state")


def cache_home() -> Path:
    """Directory of the user's compiled code; it may not exist yet."""
    return _home("XDG_CACHE_HOME", ".cache")


def home() -> Path | None:
    """The user's home directory; None for a user id without one."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def provide_home() -> None:
    """Set HOME and MPLCONFIGDIR to usable directories, before libraries that need them are loaded.

    MLflow and Ray crash without a home directory; Matplotlib warns when it cannot write there.
    """
    folder = home()
    if folder is None:
        folder = _temporary()
        os.environ["HOME"] = str(folder)
    if not is_writable(folder / ".config"):
        os.environ.setdefault("MPLCONFIGDIR", str(cache_home() / "matplotlib"))


def is_writable(folder: Path) -> bool:
    """Whether a directory is writable, or can be created in its nearest existing parent."""
    existing = folder
    try:
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    except OSError:  # a parent that may not be searched
        return False


def _home(variable: str, below: str) -> Path:
    if stated := os.environ.get(variable):
        return Path(stated)
    folder = home()
    if folder is not None and is_writable(folder / below):
        return folder / below
    return _temporary() / below


def _temporary() -> Path:
    """A temporary directory that only this user can write, never one that somebody else made."""
    folder = Path(tempfile.gettempdir()) / f"windtunnel-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        facts = folder.lstat()
    except OSError:
        return Path(tempfile.mkdtemp(prefix="windtunnel-"))
    ours = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid()
    if ours and stat.S_IMODE(facts.st_mode) == 0o700:
        return folder
    return Path(tempfile.mkdtemp(prefix="windtunnel-"))


def user_cache(name: str) -> Path:
    """The directory `windtunnel/NAME` of the user's cache, created with mode 0700 if missing.

    Its contents are executed, so a directory that others own or can write is refused.

    Raises:
        ConfigError: The directory cannot be created, or is not private to this user.
    """
    folder = cache_home().absolute() / "windtunnel" / name
    try:
        for each in (folder.parent, folder):
            each.mkdir(parents=True, exist_ok=True)
            each.chmod(0o700)
        facts = folder.stat()
    except OSError as problem:
        raise ConfigError(
            "cannot-write",
            f"{folder}: the cache of compiled code cannot be made ({problem.strerror}); "
            "set XDG_CACHE_HOME to a folder of your own",
            path=folder,
            cause=problem.strerror,
        ) from None
    if facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) != 0o700:
        raise ConfigError(
            "unsafe-folder",
            f"{folder}: must belong to you alone, since what lies in it is executed; "
            "remove it, or set XDG_CACHE_HOME to a folder of your own",
            path=folder,
            owner=facts.st_uid,
            mode=f"{stat.S_IMODE(facts.st_mode):03o}",
        )
    return folder
