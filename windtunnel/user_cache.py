"""The user's own cache of machine code: kernels and compiled graphs, never inside a store."""

import os
import stat
from pathlib import Path

from windtunnel.errors import ConfigError
from windtunnel.user_folders import cache_home


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
