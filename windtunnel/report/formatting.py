"""Numbers for people: `1.3 × 10¹⁵`, `142k`, `16.2 to 30.1`. Plain text; the template escapes it."""

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime

from windtunnel.laws import Interval
from windtunnel.runs.run import Run

NONE = "–"
"""Stands where there is no value."""

TIMES = "\u00a0×\u00a0"
"""With no-break spaces: a number stays on one line."""

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_PREFIXES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def power_of_ten(exponent: int) -> str:
    """`10¹⁵`."""
    return "10" + str(exponent).translate(_SUPERSCRIPT)


def scientific(value: float | None, digits: int = 2) -> str:
    """`1.3 × 10¹⁵` with `digits` significant digits; its spaces do not break."""
    if value is None or not math.isfinite(value):
        return _not_finite(value)
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}{TIMES}{power_of_ten(int(exponent))}".replace("-", "−")


def count(value: float | None) -> str:
    """`512`, `142k`, `3.15M`, `2.40B`: three significant digits."""
    return _prefixed(value, _PREFIXES)


def short(value: float) -> str:
    """`300M`, `1.6M`: a count without zeros at its end, for round numbers."""
    return re.sub(r"\.?0+(?=[kMBT])", "", text) if "." in (text := count(value)) else text


def size_in_bytes(value: float | None) -> str:
    """`35.1 MB`, decimal units."""
    return _prefixed(value, _BYTES, between=" ", plain=" B")


def significant(value: float | None) -> str:
    """Three significant digits, plainly where that reads well: `0.0312`, `18.4`, `1,260`."""
    if value is None or not math.isfinite(value):
        return _not_finite(value)
    size = abs(value)
    if size and not 1e-3 <= size < 1e5:
        return scientific(value, 3)
    if size >= 1000:
        return f"{value:,.0f}"
    decimals = max(0, 2 - math.floor(math.log10(size))) if size else 0
    return f"{value:.{decimals}f}".replace("-", "−")


def loss(value: float | None) -> str:
    """Four decimals: seed noise is seldom below 1e-4 of a loss."""
    return _not_finite(value) if value is None or not math.isfinite(value) else f"{value:.4f}"


def signed_percent(value: float | None) -> str:
    """`+0.42%` of a value that is in per cent already."""
    if value is None or not math.isfinite(value):
        return _not_finite(value)
    return f"{value:+.2f}%".replace("-", "−")


def share(value: float | None) -> str:
    """`1.2%` of a fraction."""
    return _not_finite(value) if value is None or not math.isfinite(value) else f"{value:.1%}"


def duration(seconds: float | None) -> str:
    """`42 s`, `12 min 5 s`, `3 h 12 min`, `2 d 4 h`."""
    if seconds is None or not math.isfinite(seconds):
        return _not_finite(seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, name, below, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // below} {small}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def moment(timestamp: float | None) -> str:
    """`2026-11-24 09:12 UTC`."""
    if timestamp is None:
        return NONE
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M UTC")


def span(low: float, high: float, write: Callable[[float], str] = significant) -> str:
    """`16.2 to 30.1`, or `no interval`."""
    if math.isnan(low) or math.isnan(high):
        return "no interval"
    return f"{write(low)} to {write(high)}"


def interval_span(interval: Interval, write: Callable[[float], str] = significant) -> str:
    """The ends of an interval."""
    return span(interval.low, interval.high, write)


def sentence(clause: object) -> str:
    """A clause of the library with a capital and a full stop."""
    text = str(clause).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith("?") else ".")


def run_name(run: Run) -> str:
    """`64×3, seed 1, 1.6M tokens`: a run by what a reader knows of it; an imported one by label."""
    return run.label or place_name(run.size, run.init_seed, run.tokens)


def place_name(size: str, seed: int | None, tokens: float | None) -> str:
    """The same of a segment: `64×3, seed 1` of one without a length of its own."""
    parts = (
        size.replace("x", "×"),
        None if seed is None else f"seed {seed}",
        None if tokens is None else f"{short(tokens)} tokens",
    )
    return ", ".join(filter(None, parts))


def run_tip(run: Run) -> str:
    """The tooltip of a run: its name, its learning rate where known, and its loss."""
    rate = f", learning rate {run.lr:.3g}" if run.lr else ""
    return f"{run_name(run)}{rate}: loss {loss(run.loss)}"


LARGE = 10_000
"""From here on a number of tokens or params reads as `12k`; a batch of 1,024 stays exact."""


def typeset(sentence: str) -> str:
    """A sentence of the library with its `1.2e+07`, `400000 tokens` and `-3%` set for people."""
    counted = re.sub(
        r"(?<![\w.])(\d+(?:\.\d+)?(?:e\+?\d+)?)(?= (?:tokens|params|parameters)\b)",
        lambda m: short(float(m[1])) if float(m[1]) >= LARGE else m[1],
        sentence,
    )
    powers = re.sub(
        r"(\d(?:\.\d+)?)e([+-]\d+)", lambda m: f"{m[1]}{TIMES}{power_of_ten(int(m[2]))}", counted
    )
    return re.sub(r"(?<=[ (])-(?=\d)", "−", powers)


def _prefixed(
    value: float | None,
    prefixes: tuple[tuple[float, str], ...],
    *,
    between: str = "",
    plain: str = "",
) -> str:
    if value is None or not math.isfinite(value):
        return _not_finite(value)
    for unit, prefix in prefixes:
        # 999,600 would read `1000k`: it is the next unit's.
        if value >= unit * 0.9995:
            return f"{_three_digits(value / unit)}{between}{prefix}"
    return f"{value:.0f}{plain}" if value >= 100 or value == round(value) else f"{value:.3g}{plain}"


def _three_digits(value: float) -> str:
    decimals = max(0, 2 - math.floor(math.log10(max(value, 1))))
    return f"{value:.{decimals}f}"


def _not_finite(value: float | None) -> str:
    if value is None or math.isnan(value):
        return NONE
    return "∞" if value > 0 else "−∞"
