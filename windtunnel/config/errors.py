"""What a field expects, in this project's words: pydantic speaks of tuples and instances."""

import math
import re
from bisect import bisect
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from windtunnel.errors import did_you_mean

EXPECTED = {
    "string_type": "text",
    "string_pattern_mismatch": "a name of letters, digits, '.', '_' and '-', of which the first is "
    "a letter or a digit",
    "string_too_long": "at most {max_length} characters",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "greater_than": "a number greater than {gt:g}",
    "greater_than_equal": "a number greater than or equal to {ge:g}",
    "less_than": "a number less than {lt:g}",
    "less_than_equal": "a number less than or equal to {le:g}",
    "multiple_of": "a multiple of {multiple_of:g}",
    "literal_error": "{expected}",
    "tuple_type": "a list",
    "dict_type": "a mapping of names, each with its value",
    "model_type": "a mapping of keys",
    "too_short": "a length of at least {min_length}, not {actual_length}",
    "too_long": "a length of at most {max_length}, not {actual_length}",
}
"""By pydantic's type of error, with what it tells of one filled in."""

FEWEST_LETTERS = 3
"""Of a part of a word that is looked for in what is allowed: fewer are in it by chance."""


def expected(error: Mapping[str, Any]) -> str:
    """`expected a number` and the like; pydantic's own words where there are no others."""
    known = EXPECTED.get(error["type"])
    if known is None:
        return f"{error['msg'][0].lower()}{error['msg'][1:]}"
    return f"expected {known.format(**error.get('ctx', {}))}{_meant(error)}"


def reason(refused: Exception) -> str:
    """Why values do not fit, in one line; of several reasons that pydantic gives, the first."""
    if not isinstance(refused, ValidationError):
        return str(refused)
    error = refused.errors()[0]
    if error["type"] == "value_error":
        return reason(error["ctx"]["error"])
    where = "".join(f"{part}: " for part in error["loc"][-1:])
    return f"{where}{expected(error)}"


def _meant(error: Mapping[str, Any]) -> str:
    """A clause that guesses what was meant, where there is something to guess."""
    written = str(error["input"])
    match error["type"]:
        case "string_pattern_mismatch":
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", written).strip("._-")
            return f"; did you mean {name!r}?" if name else ""
        case "literal_error":
            allowed = re.findall(r"'([^']*)'", error["ctx"]["expected"])
            # `sqrt` and `1-sqrt` are far from `one_minus_sqrt` by letters, and are the end of it.
            parts = [part for part in re.split(r"[\W_]+", written) if len(part) >= FEWEST_LETTERS]
            holding = [each for each in allowed if any(part in each for part in parts)]
            return did_you_mean(written, allowed) or (
                f"; did you mean {holding[0]!r}?" if len(holding) == 1 else ""
            )
    return ""


def fitting(batch_tokens: int, context: int) -> str:
    """Which contexts near `context` would fit the batch, and which batches near it the context."""
    to_root = range(1, math.isqrt(batch_tokens) + 1)
    below = [each for each in to_root if batch_tokens % each == 0]
    whole = sorted({*below, *(batch_tokens // each for each in below)} - {1})
    place = bisect(whole, context)
    contexts = whole[max(0, place - 1) : place + 1]
    rows = batch_tokens // context
    batches = [each * context for each in (rows, rows + 1) if each]
    return "; ".join(
        f"{what} of {' or '.join(map(str, near))} fit"
        for what, near in (("contexts", contexts), ("batches", batches))
        if near
    )
