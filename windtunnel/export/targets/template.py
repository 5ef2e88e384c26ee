"""The templates of the targets' files."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def environment() -> Environment:
    """Templates beside this module; a name that they do not know is an error."""
    return Environment(
        loader=PackageLoader("windtunnel.export.targets", "."),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # code and configuration, no HTML
    )
