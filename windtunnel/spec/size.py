"""Size: the (width, depth) of one model of a family, written `WIDTHxDEPTH`."""

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from windtunnel.spec.written import Written

PATTERN = r"^([1-9][0-9]*)(?:x([1-9][0-9]*))?$"


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
        return cls(width=int(match[1]), depth=int(match[2]) if match[2] else None)

    def __str__(self) -> str:
        return f"{self.width}x{self.depth}" if self.depth else f"{self.width}"
