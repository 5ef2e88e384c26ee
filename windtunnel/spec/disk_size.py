"""Room on a disk: a number of bytes, or text such as `20 GB`."""

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from windtunnel.spec.written import Written

UNITS = {"": 1, "B": 1} | {
    f"{prefix}{i}B": (1024 if i else 1000) ** power
    for power, prefix in enumerate("kMGT", start=1)
    for i in ("", "i")
}

MOST_BYTES = 1e18
PATTERN = r"^\s*([0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?)\s*((?:[kMGT]i?)?B)?\s*$"


@dataclass(frozen=True, slots=True)
class DiskSize(Written):
    """Bytes, above zero."""

    json_schema: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"type": "string", "pattern": PATTERN, "examples": ["20 GB", "1.5 TiB"]},
            {"type": "number", "exclusiveMinimum": 0},
        ],
    }

    bytes: int

    @classmethod
    def parse(cls, value: object) -> "DiskSize":
        """Read `20 GB`, `500 MiB` or a number of bytes."""
        if isinstance(value, DiskSize):
            return value
        usable = isinstance(value, str | int | float) and not isinstance(value, bool)
        match = re.match(PATTERN, str(value)) if usable else None
        size = float(match[1]) * UNITS[match[2] or ""] if match else 0.0
        count = int(size) if size < MOST_BYTES else 0
        if count < 1:
            raise ValueError(
                f"{value!r} is no size on a disk: write bytes, or a number with its unit "
                f"(kB, MB, GB, TB or kiB, MiB, GiB, TiB), below {MOST_BYTES:.0e} bytes, for "
                "example 20 GB"
            )
        return cls(bytes=count)

    def __str__(self) -> str:
        return f"{self.bytes} B"
