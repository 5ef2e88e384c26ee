"""Paths as a study file writes them: `~` means the home; anything else is taken as it stands.

What a shell or a cluster would give another meaning, `$VAR` and URLs, is refused: it would make a
folder of that very name.
"""

import re
import unicodedata
from pathlib import Path

VARIABLE = re.compile(r"\$(?:[A-Za-z_]|\{)")
URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/")
NO_TEXT = {"Cc", "Cs"}
"""Unicode's categories of control characters, such as NUL and newline, and of half characters."""
LONGEST_NAME = 255
"""Bytes of one part of a path on the file systems in use."""


def checked_path(text: str) -> str:
    """The path as it was written.

    Raises:
        ValueError: It is empty, holds a variable, a URL or a control character, or has a part that
            no file system takes.
    """
    if not text.strip():
        raise ValueError("the path is empty; write a path, such as ./store")
    if odd := next((each for each in text if unicodedata.category(each) in NO_TEXT), None):
        raise ValueError(f"{text!r}: a path holds no {odd!r}; remove it")
    if VARIABLE.search(text):
        raise ValueError(
            f"{text!r}: environment variables are not filled in here; write the path itself, or "
            "begin it with ~ for the home"
        )
    if url := URL.match(text):
        bare = re.sub(r"^file:/+", "/", text, flags=re.IGNORECASE)
        fix = f"write {bare}" if url[1].lower() == "file" else "mount it, and write where"
        raise ValueError(f"{text!r}: a URL is no path; {fix}")
    if long := next((p for p in text.split("/") if len(p.encode()) > LONGEST_NAME), None):
        raise ValueError(
            f"{text[:60]!r}...: {len(long.encode())} bytes between two slashes, and file systems "
            f"take {LONGEST_NAME}; shorten it"
        )
    return text


def expanded(text: str) -> Path:
    """The path with `~` and `~user` filled in.

    Raises:
        ValueError: There is no such user, or this user has no home.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        user = text.partition("/")[0]
        raise ValueError(
            f"{text!r}: there is no home for {user}; write the path from / on"
        ) from None


def is_relative(text: str) -> bool:
    """Whether a path is meant from the folder of the file that holds it."""
    return not (text.startswith("~") or Path(text).is_absolute() or URL.match(text))
