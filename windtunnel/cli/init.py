"""`windtunnel init`: the commented study file to start from."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from windtunnel.errors import ConfigError


def init(
    file: Annotated[Path, typer.Argument(help="File to write.")] = Path("hparams.yaml"),
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="From search to recipe: search, transfer over width, length and batch, law and "
            "forecast, each taking its recipe from the search.",
        ),
    ] = False,
) -> None:
    """Write a commented study file to start from."""
    write_template(file, "template_full.yaml" if full else "template.yaml")
    print(f"wrote {file}\nnext: windtunnel plan {file}")


def write_template(file: Path, name: str = "template.yaml") -> None:
    """Write a template, with the path of the JSON Schema for editors.

    Raises:
        ConfigError: The file exists already, or cannot be written.
    """
    template = files("windtunnel.cli").joinpath(name).read_text(encoding="utf-8")
    schema = files("windtunnel.config").joinpath("study.schema.json")
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(template.replace("SCHEMA", str(schema)))
    except FileExistsError:
        raise ConfigError(
            "file-exists",
            f"{file}: is there already; name another file, or move this one away",
            path=file,
        ) from None
    except OSError as refused:
        raise ConfigError(
            "cannot-write",
            f"{file}: cannot be written: {refused.strerror}",
            path=file,
            cause=refused.strerror,
        ) from None
