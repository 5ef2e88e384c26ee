"""The templates of all targets, and a title."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from windtunnel.export.handoff import Handoff


@cache
def environment() -> Environment:
    """The template environment; an unknown name in a template is an error."""
    return Environment(
        loader=PackageLoader("windtunnel.export.targets", "."),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # code and configuration, no HTML
    )


def title(handoff: Handoff, where: str) -> str:
    """The model and its trainer, in one line."""
    counts = handoff.counts
    return (
        f"{handoff.model.size}, {counts.params:.4g} params on {counts.tokens:.4g} tokens, from "
        f"study {handoff.study}, {where}."
    )
