"""A Fit as plain JSON and back: every number exact, infinities and nan spelled as text."""

import dataclasses
import json
import math
from typing import Any

import numpy as np

from windtunnel.errors import FitError
from windtunnel.laws.chinchilla import Chinchilla
from windtunnel.laws.interval import Domain, HoldOut, Influence
from windtunnel.laws.result import Fit

SCHEMA = 1


def write(fit: Fit) -> str:
    """The fit as JSON, a field a line; floats keep all digits, so reading gives the same fit."""
    fields = {field.name: getattr(fit, field.name) for field in dataclasses.fields(fit)}
    lines = (
        f"{json.dumps(name)}: {json.dumps(_plain(value), allow_nan=False)}"
        for name, value in {"schema": SCHEMA, **fields}.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read(text: str) -> Fit:
    """The fit in `text`.

    Raises:
        FitError: not JSON, another schema version, or fields that are missing or unknown.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise FitError(f"not a fit: {error}") from error
    found = content.pop("schema", None) if isinstance(content, dict) else None
    if found != SCHEMA:
        raise FitError(f"fit schema {found!r}: this version reads {SCHEMA}; fit the table again")
    try:
        return Fit(**_rebuilt(content))
    except (TypeError, KeyError, ValueError) as error:
        raise FitError(f"not a fit: {error}") from error


def _rebuilt(content: dict[str, Any]) -> dict[str, Any]:
    fields = {name: _number(value) for name, value in content.items()}
    fields["form"] = Chinchilla(**fields["form"])
    fields["domain"] = Domain(**{name: tuple(span) for name, span in fields["domain"].items()})
    fields["intervals"] = {name: tuple(span) for name, span in fields["intervals"].items()}
    for name in ("seeds_per_cell", "filters", "warnings"):
        fields[name] = tuple(fields[name])
    for name, record in (("holdout", HoldOut), ("influence", Influence)):
        fields[name] = record(**fields[name]) if fields[name] else None
    for name, width in (("draws", 5), ("sigma_draws", 2)):
        fields[name] = np.asarray(fields[name], np.float64).reshape(-1, width)
    return fields


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else {"float": str(value)}


def _number(value: Any) -> Any:
    """Undo the spelling of non-finite floats."""
    if isinstance(value, dict):
        if set(value) == {"float"}:
            return float(value["float"])
        return {name: _number(item) for name, item in value.items()}
    return [_number(item) for item in value] if isinstance(value, list) else value
