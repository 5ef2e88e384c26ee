"""Golden JSON in tests/golden: the leaves of a document under their paths.

A path is the keys down to a leaf (`segments[].params`). A golden keeps a long column of leaves as
its count and checksums, and English and facts of the host as their type.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).resolve().parent / "golden"
WRITE = "WRITE_GOLDENS"
"""Environment variable: goldens are written, and nothing is compared."""

LONGEST = 6
"""Leaves of a path that a golden lists in full."""

ENGLISH = {
    "evidence", "label", "message", "over", "reason", "row", "sized", "units", "warnings", "what",
    "why",
}  # fmt: skip
HOST = {
    "device_kind", "free_bytes", "git_commit", "kernels", "micro_batch_rows", "quiet_seconds",
    "seconds", "store", "threads", "time", "tokens_per_second", "torch", "utilisation", "versions",
    "windtunnel", "written",
}  # fmt: skip
"""Keys of facts of the host: its processor, disk, clock and versions."""

UNSTEADY = {"digest", "fits", "gradient_norm", "resamples_failed", "starts_agreeing"}
"""Keys of values that the last bits of a fit change, such as its hash."""


def by_value(document: Any) -> dict[str, Any]:
    """Every leaf of a document under its path."""
    return _columns(document, fractions=True)


def by_structure(document: Any) -> dict[str, Any]:
    """The same, but of fractions only the type: processors round losses differently."""
    return _columns(document, fractions=False)


def compare(name: str, key: str, found: dict[str, Any], *, rel: float = 1e-6) -> None:
    """Fail where `found` is not what `name`.json holds under `key`, fractions within `rel`.

    Where the environment variable `WRITE` is set, `found` is written there instead.
    """
    path = GOLDEN / f"{name}.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    if os.environ.get(WRITE):
        path.write_text(_text(kept | {key: found}))
        return
    golden = kept[key]
    wrong = [
        f"{where}: found {found.get(where)}, golden {golden.get(where)}"
        for where in sorted(found.keys() | golden.keys())
        if where not in found or where not in golden or not _same(found[where], golden[where], rel)
    ]
    assert not wrong, f"{name}.json, {key}:\n" + "\n".join(wrong)


def _text(goldens: dict[str, Any]) -> str:
    """JSON with one line a path, so that a diff reads well."""
    parts = []
    for key, columns in sorted(goldens.items()):
        lines = [
            f"  {json.dumps(where)}: {json.dumps(columns[where])}" for where in sorted(columns)
        ]
        parts.append(f" {json.dumps(key)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _columns(document: Any, *, fractions: bool) -> dict[str, Any]:
    columns: dict[str, list[Any]] = {}
    for keys, leaf in _leaves(document, ()):
        path = "".join(key if key == "[]" else f".{key}" for key in keys).removeprefix(".")
        columns.setdefault(path, []).append(_kept(keys, leaf, fractions=fractions))
    return {path: _summary(leaves) for path, leaves in columns.items()}


def _leaves(value: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each leaf with the keys down to it; an empty list or object is a leaf."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*keys, key))
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _leaves(inner, (*keys, "[]"))
    else:
        yield keys, value


def _kept(keys: tuple[str, ...], leaf: Any, *, fractions: bool) -> Any:
    names = [key for key in keys if key != "[]"]
    if (HOST | UNSTEADY).intersection(names) and not isinstance(leaf, dict | list):
        return "<text>" if isinstance(leaf, str) else "<number or null>"
    if isinstance(leaf, str) and ((names and names[-1] in ENGLISH) or Path(leaf).is_absolute()):
        return "<text>"
    if isinstance(leaf, float):
        return float(f"{leaf:.12g}") if fractions else "<fraction>"
    return leaf


def _summary(leaves: list[Any]) -> Any:
    """The leaves, or the count and checksums of many; checksums depend on the order."""
    if len(leaves) <= LONGEST:
        return leaves[0] if len(leaves) == 1 else leaves
    if all(type(each) is type(leaves[0]) and each == leaves[0] for each in leaves):
        return {"count": len(leaves), "all": leaves[0]}
    summary: dict[str, Any] = {"count": len(leaves)}
    fractions = [(i, each) for i, each in enumerate(leaves) if isinstance(each, float)]
    others = [(i, each) for i, each in enumerate(leaves) if not isinstance(each, float)]
    if others:
        digest = hashlib.sha256(json.dumps(others).encode()).hexdigest()[:16]
        summary |= {"first": others[0][1], "digest": digest}
    if fractions:
        weighted = sum((1 + i / len(leaves)) * each for i, each in fractions)
        summary |= {"total": sum(abs(each) for _, each in fractions), "weighted": weighted}
    return {k: _kept((), each, fractions=True) for k, each in summary.items()}


def _same(found: Any, golden: Any, rel: float) -> bool:
    if isinstance(found, dict) and isinstance(golden, dict):
        slack = 2 * rel * golden.get("total", 0.0)  # terms of both signs cancel in `weighted`
        return found.keys() == golden.keys() and all(
            abs(found[key] - each) <= slack if key in {"total", "weighted"} else found[key] == each
            for key, each in golden.items()
        )
    if isinstance(found, list) and isinstance(golden, list):
        pairs = zip(found, golden, strict=False)
        return len(found) == len(golden) and all(_same(f, g, rel) for f, g in pairs)
    if isinstance(found, float) and isinstance(golden, float):
        return math.isclose(found, golden, rel_tol=rel, abs_tol=1e-12)
    return type(found) is type(golden) and found == golden
