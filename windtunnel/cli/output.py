"""Output files of commands: checked before any work, and never written over an input."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from windtunnel.errors import ConfigError, cause_of

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
    """Check, before any work, that an output file can be written.

    Args:
        option: The option that names the file.
        path: The file, or None if the option was not given.
        inputs: Files that the command reads.
        study: Study file that the command reads. The files that it extends, its sources, its
            tokenizer and its store are inputs too.
        allowed: Name of the one file in the study's folder that the option may write.

    Raises:
        ConfigError: The path is a folder, an input, or in the store.
    """
    if path is None:
        return
    if path.is_dir():
        raise ConfigError(
            "not-a-file",
            f"{option} {path}: is a folder; name a file in it",
            option=option,
            path=path,
        )
    sources = list(inputs)
    if study is not None:
        from windtunnel.config import load_study

        config = load_study(study)
        sources += _inputs_of(config, study)
        _refuse_in_store(option, path, config, study, allowed)
    place = path.resolve()
    for source in sources:
        if source.is_dir() and place.is_relative_to(source.resolve()):
            raise ConfigError(
                "is-an-input",
                f"{option} {path}: lies in {source}, which is read as data; name a file elsewhere",
                option=option,
                path=path,
                input=source,
            )
        if path.exists() and source.exists() and path.samefile(source):
            raise ConfigError(
                "is-an-input",
                f"{option} {path}: this command reads that file and would overwrite it; name "
                "another one",
                option=option,
                path=path,
                input=source,
            )


def check_folder(option: str, path: Path) -> None:
    """Check, before any work, that an output folder is none, or a folder.

    Raises:
        ConfigError: There is a file of that name.
    """
    if path.exists() and not path.is_dir():
        raise ConfigError(
            "not-a-folder",
            f"{option} {path}: is a file; name a folder, for example {option} "
            f"{path.with_name(path.stem + '-files')}/",
            option=option,
            path=path,
        )


def write_output(option: str, path: Path, text: str) -> None:
    """Write a file atomically: a reader sees the old file or the new one.

    Raises:
        ConfigError: It cannot be written.
    """
    from windtunnel.runs.files import write_whole

    try:
        write_whole(path, text)
    except OSError as refused:
        raise ConfigError(
            "cannot-write",
            f"{option} {path}: cannot be written: {cause_of(refused)}",
            option=option,
            path=path,
            cause=cause_of(refused),
        ) from None


def _inputs_of(config: "StudyConfig", file: Path) -> list[Path]:
    """The inputs of a study: its files, its sources and its tokenizer, as files or folders."""
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
    folder = store / "studies" / config.study
    place = path.resolve()
    if place.is_relative_to(store) and not (allowed and place == folder / allowed):
        raise ConfigError(
            "is-in-store",
            f"{option} {path}: lies in the study's store, whose files are windtunnel's own; name "
            "one elsewhere",
            option=option,
            path=path,
            store=store,
        )
