"""The commented study file that `windtunnel init` writes."""

from importlib.resources import files
from pathlib import Path

from windtunnel.errors import ConfigError


def write_template(file: Path) -> None:
    """Write it, with the path of the JSON Schema that editors complete and check it by.

    Raises:
        ConfigError: The file is there already, or cannot be written.
    """
    if file.exists():
        raise ConfigError(f"{file}: is there already; name another file, or move this one away")
    template = files("windtunnel.cli").joinpath("template.yaml").read_text()
    schema = files("windtunnel.spec").joinpath("study.schema.json")
    try:
        file.write_text(template.replace("SCHEMA", str(schema)))
    except OSError as refused:
        raise ConfigError(f"{file}: cannot be written: {refused.strerror}") from None
