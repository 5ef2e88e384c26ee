"""Files that a command was told to write: these and no others, and never over what it read."""

from collections.abc import Iterable
from pathlib import Path

from windtunnel.errors import ConfigError, cause_of
from windtunnel.trials.json_file import write_whole


def check_output(option: str, path: Path | None, *, inputs: Iterable[Path] = ()) -> None:
    """Refuse a file that cannot be written as asked, before any work is done for it.

    Raises:
        ConfigError: It is a folder, or one of the files that the command reads.
    """
    if path is None:
        return
    if path.is_dir():
        raise ConfigError(f"{option} {path}: is a folder; name a file in it")
    for read in inputs:
        if path.exists() and read.exists() and path.samefile(read):
            raise ConfigError(
                f"{option} {path}: is the file that is read, and would be lost; name another one"
            )


def write_output(option: str, path: Path, text: str) -> None:
    """Write one file whole: a reader sees the old one or the new one.

    Raises:
        ConfigError: It cannot be written.
    """
    try:
        write_whole(path, text)
    except OSError as refused:
        raise ConfigError(f"{option} {path}: cannot be written: {cause_of(refused)}") from None
