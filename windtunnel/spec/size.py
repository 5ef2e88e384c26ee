"""Size: the (width, depth) of one model of a family, written `WIDTHxDEPTH`."""

import re
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

PATTERN = r"^([1-9][0-9]*)(?:x([1-9][0-9]*))?$"


@dataclass(frozen=True, slots=True)
class Size:
    """Width and, unless a depth rule gives it, depth."""

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

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _: CoreSchema, __: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {
            "anyOf": [{"type": "string", "pattern": PATTERN}, {"type": "integer", "minimum": 1}],
            "examples": ["64x4"],
        }
