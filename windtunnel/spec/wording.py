"""What a field expects, in this project's words: pydantic speaks of tuples and instances."""

from collections.abc import Mapping
from typing import Any

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


def expected(error: Mapping[str, Any]) -> str:
    """`expected a number` and the like; pydantic's own words where there are no others."""
    known = EXPECTED.get(error["type"])
    if known is None:
        return f"{error['msg'][0].lower()}{error['msg'][1:]}"
    return f"expected {known.format(**error.get('ctx', {}))}"
