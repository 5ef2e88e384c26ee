"""Durations with a unit: `10N` (multiples of the parameter count), `2.5e6 tokens`, `5000 steps`."""

import difflib
import math
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from windtunnel.spec.written import Written

NUMBER = r"[0-9][0-9_]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?"
PATTERN = rf"^\s*({NUMBER})\s*(N|tokens|steps)\s*$"
LONGEST = 1e18
"""Of any unit (assumed); what follows from a duration stays a finite number."""
UNITS = {"n": "N", "tokens": " tokens", "steps": " steps"}
"""As a guess at a mistyped one knows them, and as they are written after a number."""


@dataclass(frozen=True, slots=True)
class Duration(Written):
    """A length of training in the unit that the user chose."""

    json_schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "pattern": PATTERN,
        "examples": ["10N", "2.5e6 tokens"],
    }

    amount: float
    unit: Literal["N", "tokens", "steps"]

    @classmethod
    def parse(cls, text: object) -> "Duration":
        """Read `10N`, `2.5e6 tokens` or `5000 steps`; a bare number has no unit and is refused."""
        if isinstance(text, Duration):
            return text
        match = re.match(PATTERN, text) if isinstance(text, str) else None
        if match is None:
            hint = f"{text}N, '{text} tokens' or '{text} steps'" if _is_number(text) else "10N"
            raise ValueError(
                f"{text!r} is no duration: write a number with its unit "
                f"(N = params, tokens or steps), for example {hint}{_meant(text)}"
            )
        amount = float(match[1].replace("_", ""))
        if amount <= 0:
            raise ValueError(f"{text!r}: a duration is above zero")
        if amount > LONGEST:
            raise ValueError(
                f"{str(text)[:40]!r}: a duration is at most {LONGEST:g}; write a smaller one"
            )
        return cls(amount=amount, unit=match[2])  # type: ignore[arg-type]

    def steps(self, *, params: int, batch_tokens: int) -> int:
        """Updates that cover the duration: ceil(tokens / batch_tokens)."""
        if self.unit == "steps":
            return math.ceil(self.amount)
        tokens = self.amount * params if self.unit == "N" else self.amount
        return math.ceil(tokens / batch_tokens)

    def __str__(self) -> str:
        amount = f"{self.amount:g}"
        return f"{amount}N" if self.unit == "N" else f"{amount} {self.unit}"


def _meant(value: object) -> str:
    """A clause that guesses at a mistyped unit."""
    match = re.match(rf"^\s*({NUMBER})\s*([A-Za-z]+)\s*$", str(value))
    near = difflib.get_close_matches(match[2].lower(), UNITS, n=1) if match else ()
    return f"; did you mean '{match[1]}{UNITS[near[0]]}'?" if match and near else ""


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True
