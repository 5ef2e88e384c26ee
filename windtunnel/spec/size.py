"""Size: the (width, depth) of one model of a family, written `WIDTHxDEPTH`."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from windtunnel.spec.lists import MOST_LISTED, differing
from windtunnel.spec.written import Written

PATTERN = r"^([1-9][0-9]*)(?:x([1-9][0-9]*))?$"
WIDEST, DEEPEST = 10**6, 10**5
"""Beyond any model (assumed); what follows from a size stays a finite number."""


@dataclass(frozen=True, slots=True)
class Size(Written):
    """Width and, unless a depth rule gives it, depth."""

    json_schema: ClassVar[dict[str, Any]] = {
        "anyOf": [{"type": "string", "pattern": PATTERN}, {"type": "integer", "minimum": 1}],
        "examples": ["64x4"],
    }

    width: int
    depth: int | None = None

    @classmethod
    def parse(cls, value: object) -> "Size":
        """Read `64x4`, or `64` where the family has a depth rule."""
        if isinstance(value, Size):
            return value
        match = re.match(PATTERN, str(value)) if isinstance(value, str | int) else None
        if match is None or isinstance(value, bool):
            raise ValueError(f"{value!r} is no size: write WIDTHxDEPTH, for example 64x4")
        if any(len(each or "") > 7 for each in match.groups()) or (
            int(match[1]) > WIDEST or int(match[2] or 1) > DEEPEST
        ):
            raise ValueError(
                f"{str(value)[:40]!r}: at most {WIDEST} wide and {DEEPEST} deep; write a smaller "
                "size"
            )
        return cls(width=int(match[1]), depth=int(match[2]) if match[2] else None)

    def __str__(self) -> str:
        return f"{self.width}x{self.depth}" if self.depth else f"{self.width}"


Sizes = Annotated[
    tuple[Size, ...], Field(min_length=1, max_length=MOST_LISTED), AfterValidator(differing)
]
