"""A fit's JSON document: a key a line, and a digest as its last key, by which an edit is told."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from windtunnel.laws.caution import Caution
from windtunnel.laws.plain import plain

EDITED = Caution(
    "edited-fit",
    "the file was changed by hand since it was written (its digest is that of another content), so "
    "that its numbers are not those of the fit: fit again, or put back what stood there",
)


def text_of(document: Mapping[str, Any], *, with_digest: bool = True) -> str:
    """A document as JSON."""
    content = {name: plain(value) for name, value in document.items()}
    if with_digest:
        content["digest"] = digest_of(content)
    lines = (
        f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}"
        for name, value in content.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def digest_of(content: Mapping[str, Any]) -> str:
    """16 hex digits over a JSON document, but for its own `digest`."""
    rest = {name: value for name, value in content.items() if name != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_edited(content: Mapping[str, Any]) -> bool:
    """Whether a document was changed since it was written; one without a digest cannot tell."""
    return "digest" in content and content["digest"] != digest_of(content)
