"""Errors of pydantic about a study file, as codes, messages and values of this project."""

import math
import re
from bisect import bisect
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from windtunnel.errors import Coded, Refused, did_you_mean

EXPECTED = {
    "string_type": ("wrong-type", "text"),
    "string_pattern_mismatch": (
        "bad-name",
        "a name of letters, digits, '.', '_' and '-', of which the first is a letter or a digit",
    ),
    "string_too_long": ("name-too-long", "at most {max_length} characters"),
    "bool_type": ("wrong-type", "true or false"),
    "bool_parsing": ("wrong-type", "true or false"),
    "int_type": ("not-a-number", "a whole number"),
    "int_parsing": ("not-a-number", "a whole number"),
    "int_from_float": ("not-whole", "a whole number"),
    "float_type": ("not-a-number", "a number"),
    "float_parsing": ("not-a-number", "a number"),
    "finite_number": ("not-finite", "a finite number"),
    "greater_than": ("out-of-range", "a number greater than {gt:g}"),
    "greater_than_equal": ("out-of-range", "a number greater than or equal to {ge:g}"),
    "less_than": ("out-of-range", "a number less than {lt:g}"),
    "less_than_equal": ("out-of-range", "a number less than or equal to {le:g}"),
    "multiple_of": ("not-a-multiple", "a multiple of {multiple_of:g}"),
    "literal_error": ("unknown-value", "{expected}"),
    "tuple_type": ("wrong-type", "a list"),
    "dict_type": ("wrong-type", "a mapping of names, each with its value"),
    "model_type": ("wrong-type", "a mapping of keys"),
    "too_short": ("too-few-values", "a length of at least {min_length}, not {actual_length}"),
    "too_long": ("too-many-values", "a length of at most {max_length}, not {actual_length}"),
}
"""Code and message of each of pydantic's error types; the error's context fills in the fields."""

CODES = {
    "missing": "missing-key",
    "extra_forbidden": "unknown-key",
    "union_tag_invalid": "unknown-kind",
    "union_tag_not_found": "missing-key",
    "model_attributes_type": "wrong-type",
}
"""Codes of the error types whose message depends on the place in the study file."""

LIMITS = {
    "gt": "above",
    "ge": "least",
    "lt": "below",
    "le": "most",
    "multiple_of": "multiple_of",
    "min_length": "least",
    "max_length": "most",
    "actual_length": "length",
}
"""Names of an error's values, by pydantic's names in its context."""

FEWEST_LETTERS = 3
"""Fewest letters of a word's part that is searched among the allowed values."""


def code_of(error: Mapping[str, Any]) -> str:
    """The code of one of pydantic's errors, or of the check that refused the value."""
    if error["type"] == "value_error" and isinstance(refused := error["ctx"]["error"], Coded):
        return refused.code
    known = EXPECTED.get(error["type"])
    return known[0] if known else CODES.get(error["type"], "invalid-value")


def values_of(error: Mapping[str, Any]) -> dict[str, object]:
    """The values of one of pydantic's errors: those of the check, or the violated limits."""
    context = error.get("ctx", {})
    if error["type"] == "value_error":
        refused = context["error"]
        return dict(refused.values) if isinstance(refused, Coded) else {}
    if error["type"] == "literal_error":
        return {"known": _literals(error)}
    return {name: context[key] for key, name in LIMITS.items() if context.get(key) is not None}


def expected(error: Mapping[str, Any]) -> str:
    """A clause such as `expected a number`; pydantic's message where `EXPECTED` has none."""
    known = EXPECTED.get(error["type"])
    if known is None:
        return f"{error['msg'][0].lower()}{error['msg'][1:]}"
    return f"expected {known[1].format(**error.get('ctx', {}))}{_meant(error)}"


def first_refusal(invalid: Exception) -> Refused:
    """The first of pydantic's errors as a message, with code and values."""
    if isinstance(invalid, Refused):
        return invalid
    if isinstance(invalid, Coded):
        return Refused(invalid.code, str(invalid), **invalid.values)
    if not isinstance(invalid, ValidationError):
        return Refused("invalid-value", str(invalid))
    error = invalid.errors()[0]
    if error["type"] == "value_error":
        return first_refusal(error["ctx"]["error"])
    where = "".join(f"{part}: " for part in error["loc"][-1:])
    return Refused(code_of(error), f"{where}{expected(error)}", **values_of(error))


def reason(invalid: Exception) -> str:
    """The message of `first_refusal`, on one line."""
    return str(first_refusal(invalid))


def _meant(error: Mapping[str, Any]) -> str:
    """A `did you mean` clause, or the empty string."""
    written = str(error["input"])
    match error["type"]:
        case "string_pattern_mismatch":
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", written).strip("._-")
            return f"; did you mean {name!r}?" if name else ""
        case "literal_error":
            allowed = _literals(error)
            # By edit distance `sqrt` is far from `one_minus_sqrt`, which contains it.
            parts = [part for part in re.split(r"[\W_]+", written) if len(part) >= FEWEST_LETTERS]
            holding = [each for each in allowed if any(part in each for part in parts)]
            return did_you_mean(written, allowed) or (
                f"; did you mean {holding[0]!r}?" if len(holding) == 1 else ""
            )
    return ""


def _literals(error: Mapping[str, Any]) -> list[str]:
    """The allowed values of a literal, which pydantic gives only as text."""
    return re.findall(r"'([^']*)'", error["ctx"]["expected"])


def fitting(batch_tokens: int, context: int) -> str:
    """A clause with the nearest contexts that divide the batch, and the nearest whole batches."""
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
