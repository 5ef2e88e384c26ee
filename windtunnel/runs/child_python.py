"""The import path of a Python child process: this process's package, nothing from its folder.

`python -m` and Ray put the working directory first on the path, where a `numpy.py` or another
`windtunnel/` would shadow the installed one.
"""

import hashlib
import os
import uuid
from pathlib import Path

from windtunnel.errors import ConfigError, boundary
from windtunnel.user_folders import user_cache


def package() -> Path:
    """The folder of this process's windtunnel."""
    return Path(__file__).absolute().parents[1]


def code_folder() -> Path:
    """A folder that holds a link to this process's package and nothing else.

    First on a child's path, it provides the driver's package, however the driver found it:
    installed, editable, by PYTHONPATH or by its script.

    Raises:
        ConfigError: The user's cache folder cannot be written.
    """
    target = package()
    digest = hashlib.sha256(str(target).encode()).hexdigest()[:16]
    folder = user_cache("code") / digest
    link = folder / "windtunnel"
    with boundary(link, "set XDG_CACHE_HOME to a folder of your own", ConfigError):
        folder.mkdir(mode=0o700, exist_ok=True)
        if not (link.is_symlink() and link.readlink() == target):
            scratch = folder / f".{uuid.uuid4().hex}"
            scratch.symlink_to(target)
            scratch.replace(link)
    return folder


def child_environment() -> dict[str, str]:
    """The environment of a Python child: our package first, the working directory nowhere.

    Raises:
        ConfigError: The user's cache folder cannot be written.
    """
    stated = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    entries = [
        str(Path(each).absolute()) for each in stated if each
    ]  # an empty entry is the working directory
    path = os.pathsep.join([str(code_folder()), *entries])
    return os.environ | {"PYTHONSAFEPATH": "1", "PYTHONPATH": path}
