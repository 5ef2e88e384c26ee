"""Names and values that MLflow takes: what is beyond is cut always alike, before it is compared.

MLflow cuts long values itself and then holds another text than was asked for, which would be logged
again at every pass; illegal names it refuses, with everything else in the request.
"""

import hashlib
import posixpath
import re
from collections.abc import Mapping

from windtunnel.redact import redacted

LONGEST_NAME = 250
LONGEST_VALUE = 5000
"""Characters of a tag or parameter (MLflow 3 takes 8000 and 6000, its older servers 5000)."""

ILLEGAL = re.compile(r"[^/\w.\- :]")
DIGEST = 8
"""Hex digits that keep names apart which were changed to the same."""


def legal_name(text: str) -> str:
    """A name of a metric, parameter or tag: as it stands where MLflow takes it."""
    name = ILLEGAL.sub("_", text)
    if posixpath.normpath(name) != name or name.startswith(("/", "..")) or name == ".":
        name = name.replace("/", "_").lstrip(".")
    if name == text and 0 < len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:DIGEST]
    return f"{name[: LONGEST_NAME - DIGEST - 1]}.{digest}"


def legal_value(text: str) -> str:
    """A value of a tag or parameter, without secrets."""
    text = redacted(text.encode("utf-8", "backslashreplace").decode())
    if len(text) <= LONGEST_VALUE:
        return text
    return f"{text[: LONGEST_VALUE - 3]}..."


def legal(values: Mapping[str, str]) -> dict[str, str]:
    """Tags or parameters as MLflow takes them."""
    return {legal_name(name): legal_value(text) for name, text in values.items()}
