"""What a JSON text must hold, checked where it is read: one error with the place.

What this version writes ends in a checksum of the text before it, so that a changed digit is told.
"""

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from windtunnel.config.errors import expected
from windtunnel.laws.schema import SHORT, keys_once

T = TypeVar("T")


@dataclass(frozen=True)
class Schema(Generic[T]):
    """What a file, or a line of it, must hold; `fix` says what to do where it does not.

    What is read very `often` is parsed and checked in one go, which sees no key that stands twice.
    """

    adapter: TypeAdapter[T]
    fix: str
    often: bool = False

    def read(self, content: bytes) -> T:
        """The value in a JSON text, checked.

        Raises:
            ValueError: It is no JSON, or not this, with the place; or not as it was written.
        """
        content, unchanged = unsealed(content)
        value = self._read(content)
        if not unchanged:
            raise ValueError(
                "does not match its checksum: it was changed or laid out anew since it was written"
            )
        return value

    def _read(self, content: bytes) -> T:
        if self.often:
            with suppress(ValidationError):  # else the other reader says what is wrong
                return self.adapter.validate_json(content)
        value = parse(content)
        if not isinstance(value, dict):
            raise ValueError(f"expected an object, not {SHORT.repr(value)}")
        return self.check(value)

    def at(self, value: Any, place: int) -> T:
        """As `check`, of one of many values: its number comes before the place in it."""
        try:
            return self.check(value)
        except ValueError as wrong:
            raise ValueError(f"{place}.{wrong}") from None

    def check(self, value: Any) -> T:
        """The value, checked.

        Raises:
            ValueError: With the place, what stands there and what is expected.
        """
        try:
            return self.adapter.validate_python(value)
        except ValidationError as wrong:
            raise ValueError(said_of(wrong)) from None


def sealed(text: str) -> str:
    """A JSON object's text with its checksum as the last key."""
    body, end, lead = (text[:-2], "\n", "\n ") if text.endswith("\n}") else (text[:-1], "", " ")
    comma = "," if body != "{" else ""
    return f'{body}{comma}{lead}"checksum": "{_checksum(text.encode())}"{end}}}'


def unsealed(content: bytes) -> tuple[bytes, bool]:
    """A JSON object's text without its checksum, and whether that is right; one without any is.

    A text that was laid out anew is not as it was written either.
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
    """A JSON value in which no key stands twice.

    Raises:
        ValueError: It is none.
    """
    return json.loads(content, object_pairs_hook=keys_once)


def said_of(wrong: ValidationError) -> str:
    """The first thing that is wrong: its place, what stands there and what is expected."""
    error: Any = wrong.errors()[0]
    place = ".".join(map(str, error["loc"])) or "the document"
    if error["type"] == "missing":
        return f"{place}: is missing"
    return f"{place}: {SHORT.repr(error['input'])}: {expected(error)}"
