"""Files that a command was told to write: these and no others, and never over what it read."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from windtunnel.errors import ConfigError, cause_of
from windtunnel.runs.files import write_whole

if TYPE_CHECKING:
    from windtunnel.config import StudyConfig


def check_output(
    option: str,
    path: Path | None,
    *,
    inputs: Iterable[Path] = (),
    study: Path | None = None,
    allowed: str | None = None,
) -> None:
    """Refuse a file that cannot be written as asked, before any work is done for it.

    Args:
        option: As it was typed.
        path: The file, if one was asked for.
        inputs: Files that the command reads.
        study: A study file that it reads: what that extends, its sources, its tokenizer and its
            store are inputs too.
        allowed: Name of the one file in the study's own folder that the option may write.

    Raises:
        ConfigError: It is a folder, one of the files that are read, or lies in the store.
    """
    if path is None:
        return
    if path.is_dir():
        raise ConfigError(f"{option} {path}: is a folder; name a file in it")
    read = list(inputs)
    if study is not None:
        from windtunnel.config import load_study

        config = load_study(study)
        read += _inputs_of(config, study)
        _refuse_in_store(option, path, config, study, allowed)
    place = path.resolve()
    for each in read:
        if each.is_dir() and place.is_relative_to(each.resolve()):
            raise ConfigError(
                f"{option} {path}: lies in {each}, which is read as data; name a file elsewhere"
            )
        if path.exists() and each.exists() and path.samefile(each):
            raise ConfigError(
                f"{option} {path}: this command reads that file and would overwrite it; name "
                "another one"
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


def _inputs_of(config: "StudyConfig", file: Path) -> list[Path]:
    """What a study reads: its files, its sources and its tokenizer, files or folders."""
    from windtunnel.config.load import place_named
    from windtunnel.config.yaml import files_of

    data = config.data
    named = [source.path for source in (*data.sources, *data.validation.extra)]
    named += [data.tokenizer] if data.tokenizer != "bytes" else []
    paths = [place_named(each, file, "data") for each in named if not each.startswith("builtin:")]
    return [*files_of(file), *paths]


def _refuse_in_store(
    option: str, path: Path, config: "StudyConfig", file: Path, allowed: str | None
) -> None:
    from windtunnel.config.load import place_named

    store = place_named(config.store, file, "store").resolve()
    own = store / "studies" / config.study
    place = path.resolve()
    if place.is_relative_to(store) and not (allowed and place == own / allowed):
        raise ConfigError(
            f"{option} {path}: lies in the study's store, whose files are windtunnel's own; name "
            "one elsewhere"
        )
