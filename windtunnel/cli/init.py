"""The commented study file that `windtunnel init` writes."""

from importlib.resources import files
from pathlib import Path

from windtunnel.errors import ConfigError


def write_template(file: Path) -> None:
    """Write it, with the path of the JSON Schema that editors complete and check it by.

    Raises:
        ConfigError: The file is there already, or cannot be written.
    """
    template = files("windtunnel.cli").joinpath("template.yaml").read_text(encoding="utf-8")
    schema = files("windtunnel.config").joinpath("study.schema.json")
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(template.replace("SCHEMA", str(schema)))
    except FileExistsError:
        raise ConfigError(
            f"{file}: is there already; name another file, or move this one away"
        ) from None
    except OSError as refused:
        raise ConfigError(f"{file}: cannot be written: {refused.strerror}") from None
