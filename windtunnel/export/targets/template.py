"""What the files of all targets share: the templates' home, and a title."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from windtunnel.export.handoff import Handoff


@cache
def environment() -> Environment:
    """Templates beside this module; a name that they do not know is an error."""
    return Environment(
        loader=PackageLoader("windtunnel.export.targets", "."),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # code and configuration, no HTML
    )


def title(handoff: Handoff, where: str) -> str:
    """What is trained, and by what, in one line."""
    counts = handoff.counts
    return (
        f"{handoff.model.size}, {counts.params:.4g} params on {counts.tokens:.4g} tokens, from "
        f"study {handoff.study}, {where}."
    )
