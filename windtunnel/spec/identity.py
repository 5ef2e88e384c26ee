"""Identity: the id of a segment is a hash of everything that decides its updates, and nothing else.

Only fields that differ from a *frozen* default enter the hash. A new field joins `FROZEN` with the
value that reproduces what was done before it existed, and no old id changes; a default in a config
model may change freely, for it is not what is frozen here. A committed table of golden ids pins it.
"""

import hashlib
import json
import math
from typing import Any

SCHEMA = 1

FROZEN: dict[str, dict[str, Any]] = {
    "model": {"ffn_ratio": 2.5, "tied": True, "qk_norm": False, "rope_base": 10000.0},
    "recipe": {
        "init_std": 0.1,
        "scale_emb": 12.0,
        "scale_depth": 1.4,
        "parametrization": "mup",
        "beta1": 0.9,
        "beta2": 0.95,
        "eps": 1e-8,
        "weight_decay": 0.1,
        "weight_decay_rule": "scaled",
        "clip": 1.0,
    },
    "trunk": {},
    "branch": {"changes": []},
    "schedule": {"shape": "exponential", "final_factor": 0.1, "rate": 1.0, "warmup": 0},
    "data": {"data_seed": None, "stream": None, "ramp": 0},
    "objective": {"loss": "full"},
    "batch": {"lr_factor": 1.0},
    "context": {"rope_base": None},
}
"""Never edit a value: it would give every existing segment a new id. Only add."""


def differing(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a `kind` that are not at their frozen default."""
    frozen = FROZEN[kind]
    return {
        name: value for name, value in fields.items() if name not in frozen or value != frozen[name]
    }


def fingerprint(kind: str, fields: dict[str, Any]) -> str:
    """16 hex digits over the canonical encoding of {kind, schema, fields}.

    Raises:
        TypeError: A value has no canonical encoding (a callable, a NaN, an object).
    """
    payload = {"kind": kind, "schema": SCHEMA, "fields": _canonical(fields)}
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _canonical(value: Any) -> Any:
    match value:
        case None | bool() | str() | int():
            return value
        case float() if math.isfinite(value):
            return f"f{value!r}"  # marked, so that 1.0 and 1 cannot be confused
        case dict():
            return {str(key): _canonical(item) for key, item in value.items()}
        case list() | tuple():
            return [_canonical(item) for item in value]
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be part of an identity")
