"""What a JSON text must hold, checked where it is read: one error with the place."""

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from windtunnel.laws.shape import SHORT, keys_once
from windtunnel.spec.wording import expected

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
            ValueError: It is no JSON, or not this; with the place.
        """
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
