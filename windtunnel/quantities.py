"""Counts as people write them: params, tokens and FLOPs such as `1.2M`, `2.4B`, `1T`, `1e23`.

The one reader of options, study files and conditions, and the one writer of text output. JSON, CSV
and Python keep plain numbers.
"""

import math
import re

from windtunnel.errors import Refused

UNITS = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
"""Factor of each suffix, in lower case: thousand, million, billion (also giga), trillion."""

EXAMPLE = "2.4B"

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+(?:_[0-9]+)*)"
COUNT_PATTERN = (
    rf"^\s*[+-]?(?:{_DIGITS}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*[kKmMbBgGtT]?\s*$"
)
"""Of every text that `read_count` reads; also a pattern of JSON Schema."""
_DECIMAL_COMMA = re.compile(r"[0-9]+,[0-9]+\s*[kmbgt]?", re.IGNORECASE)

LARGEST_WRITTEN = 1e15
"""From here on a power of ten reads better than thousands of trillions."""

ROUNDS_UP = 0.9995
"""From this share of a unit on, three digits round to it: 999,600 would read `1e+03k`."""


def read_count(text: str) -> float | None:
    """The number that a text writes, exact to 15 digits; None where it writes none.

    >>> read_count("2.4B"), read_count("131,072"), read_count("1e23"), read_count("2,4B")
    (2400000000.0, 131072.0, 1e+23, None)
    """
    if not re.fullmatch(COUNT_PATTERN, text, re.ASCII):
        return None
    plain = re.sub(r"[\s,_]", "", text)
    unit = UNITS.get(plain[-1].lower(), 1.0)
    value = float(plain.rstrip("kKmMbBgGtT"))
    value = value if unit == 1.0 else float(f"{value * unit:.15g}")  # 0.07B is exactly 7e7
    return value if math.isfinite(value) else None


def read_ratio(text: str) -> float | None:
    """The tokens per parameter of a text such as `20N`; None where it has another form."""
    found = text.strip()
    return read_count(found[:-1]) if found[-1:] == "N" else None


def count_of(text: str, *, example: str = EXAMPLE) -> float:
    """The number of `read_count`.

    Raises:
        Refused: The text writes no count.
    """
    value = read_count(text)
    if value is None:
        meant = text.strip().replace(",", ".") if _DECIMAL_COMMA.fullmatch(text.strip()) else None
        hint = f"; did you mean {meant}?" if meant else ""
        raise Refused(
            "not-a-number",
            f"{text!r} is not a count: write a number, with k, M, B or T if you like, for example "
            f"{example}{hint}",
            value=text,
            example=example,
            units=["k", "M", "B", "T"],
            **({"suggested": meant} if meant else {}),
        )
    return value


def write_count(value: float) -> str:
    """A count to three digits, as `read_count` reads it: `512`, `142k`, `1.3M`, `2.4B`, `1.2e+21`.

    >>> [write_count(each) for each in (512, 999_600, 1.3e6, 2.4e9, 1e12, 1.2e21)]
    ['512', '1M', '1.3M', '2.4B', '1T', '1.2e+21']
    """
    size = abs(value)
    if not 1e-4 <= size < LARGEST_WRITTEN * ROUNDS_UP and value:
        return f"{value:.3g}"
    for unit in ("T", "B", "M", "k"):
        factor = UNITS[unit.lower()]
        if size >= factor * ROUNDS_UP:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"
