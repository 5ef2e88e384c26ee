"""Folders of the user's own: state and cache, also for a user id that has no home.

`$XDG_STATE_HOME` and `$XDG_CACHE_HOME` come first, then `~/.local/state` and `~/.cache`. A user id
without a home, as a container may run under, or one whose home cannot be written, gets a private
folder among the temporary ones, which is gone when the machine is.

The user's own cache of machine code: kernels and compiled graphs, never inside a store.
"""

import os
import stat
import tempfile
from pathlib import Path

from windtunnel.errors import ConfigError


def state_home() -> Path:
    """Where this user's databases and traces lie; it may not exist yet."""
    return _home("XDG_STATE_HOME", ".local/state")


def cache_home() -> Path:
    """Where this user's compiled code lies; it may not exist yet."""
    return _home("XDG_CACHE_HOME", ".cache")


def home() -> Path | None:
    """The user's home; None for a user id that has none."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def provide_home() -> None:
    """Give libraries that look into the user's home one that can be used, before they are loaded.

    MLflow and Ray end where no home is known, and Matplotlib complains where it cannot be written.
    """
    found = home()
    if found is None:
        found = _temporary()
        os.environ["HOME"] = str(found)
    if not is_writable(found / ".config"):
        os.environ.setdefault("MPLCONFIGDIR", str(cache_home() / "matplotlib"))


def is_writable(folder: Path) -> bool:
    """Whether a folder is there and writable, or its nearest parent lets it be made."""
    there = folder
    try:
        while not there.exists() and there != there.parent:
            there = there.parent
        return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    except OSError:  # of a parent that may not even be looked into
        return False


def _home(variable: str, below: str) -> Path:
    if stated := os.environ.get(variable):
        return Path(stated)
    found = home()
    if found is not None and is_writable(found / below):
        return found / below
    return _temporary() / below


def _temporary() -> Path:
    """A folder that nobody else can write: one of that name that is not ours is passed over."""
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
    """A folder that this user alone can read and write, made if it is not there.

    `$XDG_CACHE_HOME/windtunnel/NAME`, by default under `~/.cache`, or among the temporary folders
    where no home can be written. What lies in it is executed, so a folder of somebody else, or one
    that others may write, is refused.

    Raises:
        ConfigError: The folder cannot be made, or is not this user's alone.
    """
    folder = cache_home().absolute() / "windtunnel" / name
    try:
        for each in (folder.parent, folder):
            each.mkdir(parents=True, exist_ok=True)
            each.chmod(0o700)
        facts = folder.stat()
    except OSError as problem:
        raise ConfigError(
            f"{folder}: the cache of compiled code cannot be made ({problem.strerror}); "
            "set XDG_CACHE_HOME to a folder of your own"
        ) from None
    if facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) != 0o700:
        raise ConfigError(
            f"{folder}: must belong to you alone, since what lies in it is executed; "
            "remove it, or set XDG_CACHE_HOME to a folder of your own"
        )
    return folder
