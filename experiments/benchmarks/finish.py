"""Seconds to finish a segment of 60 tokens a parameter, start-up included: two measurements, added.

Start-up is of `startup.py`, the steady rate of `training_step.py`; a segment trained whole checks
the sum.
"""

from collections.abc import Mapping
from typing import Any

from contenders import LONG_RUN, NAMES
from tables import table

# Contender, and its start-up; without a compiler, caches on disk make no difference.
COLUMNS = {
    "ours, cold": ("ours", "first"),
    "ours, warm": ("ours", "warm"),
    "plain loop": ("loop", "first"),
    "Trainer": ("trainer", "first"),
    "compiled loop, cold": ("loop compiled", "first"),
    "compiled loop, warm": ("loop compiled", "warm"),
}


def page(steps: Mapping[str, Any], startup: Mapping[str, Any]) -> str:
    """The section of the page."""
    rows = {row["shape"]: row for row in steps["rows"] if row["precision"] == startup["precision"]}
    starts, sizes = startup["starts"], [s for s in startup["starts"]["ours"] if s in rows]

    def seconds(name: str, size: str, *, start: str, tokens: float) -> float | None:
        """Start-up and the tokens at the steady rate; nothing where either was not measured."""
        found = rows[size]["contenders"].get(name)
        started = starts.get(name, {}).get(size)
        if found is None or started is None:
            return None
        return float(started[start] + tokens / found["tokens_per_second"])

    def cell(name: str, size: str, *, start: str) -> str:
        total = seconds(name, size, start=start, tokens=LONG_RUN * rows[size]["params"])
        return "" if total is None else f"{total:,.1f} ({starts[name][size][start]:.2f})"

    parts = [
        "### Time to finish a segment",
        f'Seconds to train {LONG_RUN} tokens a parameter from "imports done" on: start-up as '
        "measured (in brackets), and the tokens at the measured steady rate.",
        table(
            ["size", "tokens", *COLUMNS],
            (
                [size, f"{LONG_RUN * rows[size]['params']:,}"]
                + [cell(name, size, start=start) for name, start in COLUMNS.values()]
                for size in sizes
            ),
        ),
    ]
    whole = [found for found in startup["segments"] if found["size"] in rows]
    if whole:
        parts += [
            "As a check, a segment trained whole, in a fresh process on a cold machine:",
            table(
                ["", "size", "tokens", "seconds", "expected"],
                (
                    [
                        NAMES[found["contender"]],
                        found["size"],
                        f"{found['tokens']:,}",
                        f"{found['seconds']:,.1f}",
                        f"{expected:,.1f}" if expected is not None else "",
                    ]
                    for found in whole
                    for expected in [
                        seconds(
                            found["contender"], found["size"], start="first", tokens=found["tokens"]
                        )
                    ]
                ),
            ),
        ]
    return "\n\n".join(parts)
