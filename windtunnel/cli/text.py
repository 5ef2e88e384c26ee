"""Numbers and sentences for people, JSON for machines."""

import json
import sys

from rich.console import Console
from rich.text import Text

WIDTH_OFF_TERMINAL = 120
"""A file or a pipe has no width; rich would assume 80 and cut tables."""


def terminal() -> Console:
    """Where tables go."""
    return Console(width=None if sys.stdout.isatty() else WIDTH_OFF_TERMINAL)


def say(console: Console, text: str, *, label: str = "", style: str = "yellow") -> None:
    """One sentence on one line, however narrow the terminal; nothing in it is read as markup."""
    head = Text(f"{label} ", style=style) if label else Text()
    console.print(head + Text(text), soft_wrap=True)


def si(value: float, unit: str = "") -> str:
    """142k, 1.3M, 2.4G; plain below a thousand, powers of ten where no prefix is usual."""
    if not 1e-4 <= abs(value) < 1e15 and value:
        return f"{value:.3g}{unit}"
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{prefix}{unit}"
    return f"{value:.3g}{unit}"


def flops(value: float) -> str:
    """A FLOP count in powers of ten."""
    return f"{value:.2e} FLOPs"


def duration(seconds: float) -> str:
    """0.4 s, 45 s, 12 min, 3.5 h, 2.1 days."""
    if 0 < seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def size_of(count: float) -> str:
    """Bytes on a disk."""
    return si(count, "B")


def print_json(value: object) -> None:
    """JSON for machines: one object, no NaN."""
    print(json.dumps(value, indent=1, allow_nan=False))
