"""Schemas of JSON texts: the first fault of a text, with its place and a code.

A text that this version writes ends in a checksum of everything before it, so a changed digit is
found.
"""

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from windtunnel.config.errors import code_of, expected, values_of
from windtunnel.errors import Refused, cause_of
from windtunnel.laws.schema import SHORT, keys_once

T = TypeVar("T")


@dataclass(frozen=True)
class Schema(Generic[T]):
    """The schema of a file, or of one line of it.

    Attributes:
        adapter: The type that a value must have.
        fix: What the user can do about a damaged file.
        often: Whether a fast reader is tried first, which does not detect duplicate keys.
    """

    adapter: TypeAdapter[T]
    fix: str
    often: bool = False

    def read(self, content: bytes) -> T:
        """The value in a JSON text, checked.

        Raises:
            Refused: The text is not JSON, does not fit the schema, or fails its checksum.
        """
        content, unchanged = unsealed(content)
        value = self._read(content)
        if not unchanged:
            raise Refused(
                "wrong-checksum",
                "does not match its checksum: it was edited or reformatted after it was written",
            )
        return value

    def _read(self, content: bytes) -> T:
        if self.often:
            with suppress(ValidationError):  # the slow reader finds the fault
                return self.adapter.validate_json(content)
        value = parse(content)
        if not isinstance(value, dict):
            shown = SHORT.repr(value)
            raise Refused("wrong-type", f"expected an object, not {shown}", found=shown)
        return self.check(value)

    def at(self, value: Any, place: int) -> T:
        """The checked value of one item of a list; its index precedes the place within it.

        Raises:
            Refused: As of `check`.
        """
        try:
            return self.check(value)
        except Refused as wrong:
            within = {"place": f"{place}.{wrong.values['place']}"}
            raise Refused(wrong.code, f"{place}.{wrong}", **wrong.values | within) from None

    def check(self, value: Any) -> T:
        """The checked value.

        Raises:
            Refused: The value does not fit the schema; with its place, value and expected type.
        """
        try:
            return self.adapter.validate_python(value)
        except ValidationError as wrong:
            raise first_fault(wrong) from None


def sealed(text: str) -> str:
    """A JSON object's text with its checksum as the last key."""
    body, end, lead = (text[:-2], "\n", "\n ") if text.endswith("\n}") else (text[:-1], "", " ")
    comma = "," if body != "{" else ""
    return f'{body}{comma}{lead}"checksum": "{_checksum(text.encode())}"{end}}}'


def unsealed(content: bytes) -> tuple[bytes, bool]:
    """A JSON object's text without its checksum, and whether the checksum matches.

    A text without a checksum matches; a reformatted one does not.
    """
    end = max(0, len(content) - _LONGEST_SEAL)
    if (found := _SEAL.search(content, end)) is not None:
        body = content[: found.start()] + found["end"] + b"}"
        return body, _checksum(body) == found["checksum"].decode()
    if (found := _ANY_SEAL.search(content, end)) is not None:
        return content[: found.start()] + b"}", False
    return content, True


_SEAL = re.compile(rb'(?:,|(?<=\{))\n? "checksum": "(?P<checksum>[0-9a-f]{16})"(?P<end>\n?)\}\n?\Z')
_ANY_SEAL = re.compile(rb',?\s*"checksum"\s*:\s*"[0-9a-f]{16}"\s*\}\s*\Z')
_LONGEST_SEAL = 80


def _checksum(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]


def parse(content: bytes | str) -> Any:
    """The value of a JSON text without duplicate keys.

    Raises:
        Refused: The text is not JSON, or has a duplicate key.
    """
    try:
        return json.loads(content, object_pairs_hook=keys_once)
    except Refused:
        raise
    except (ValueError, RecursionError) as wrong:
        raise Refused("not-json", cause_of(wrong)) from None


def first_fault(wrong: ValidationError) -> Refused:
    """The first fault that pydantic found: its place, the value there and what is expected."""
    error: Any = wrong.errors()[0]
    place = ".".join(map(str, error["loc"])) or "the document"
    code = code_of(error)
    if error["type"] == "missing":
        return Refused(code, f"{place}: is missing", place=place)
    values = {"place": place, "found": SHORT.repr(error["input"])}
    message = f"{place}: {values['found']}: {expected(error)}"
    return Refused(code, message, **values_of(error) | values)
