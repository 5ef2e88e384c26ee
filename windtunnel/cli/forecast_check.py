"""`windtunnel forecast check`: the truth beside the forecast, and whether it fell inside."""

import math
from collections.abc import Sequence
from pathlib import Path

from windtunnel.cli.text import print_json, say, si, terminal
from windtunnel.errors import ConfigError, did_you_mean
from windtunnel.export.check import UNITS, Compared, check_forecast, keep_check
from windtunnel.export.fits import MEAN


def run_forecast_check(
    path: Path,
    losses: Sequence[str],
    *,
    tokens: float | None,
    params: float | None,
    unit: str,
    as_json: bool,
) -> bool:
    """Print and keep the comparison; whether every loss was inside.

    Raises:
        ConfigError: No Handoff, or a loss, set or unit that it cannot be compared with.
    """
    if unit not in UNITS:
        raise ConfigError(
            f"--unit {unit}: allowed are {', '.join(UNITS)}{did_you_mean(unit, UNITS)}"
        )
    for option, value in (("--tokens", tokens), ("--params", params)):
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"{option} {value:g}: must be above 0")
    measured: dict[str, float] = {}
    for text in losses:
        name, value = _loss(text)
        if name in measured:
            raise ConfigError(f"--loss {text}: a loss of {name} was given before; give one a set")
        measured[name] = value
    check = check_forecast(path, measured, params=params, tokens=tokens, unit=unit)
    if as_json:
        print_json(check.as_json())
        keep_check(path, check)
        return check.inside
    console = terminal()
    say(console, f"{si(check.params)} params on {si(check.tokens)} tokens, in nats per token:")
    for each in check.sets:
        say(console, f"  {each.name}: {_line(each, check.level)}")
    for warning in check.warnings:
        say(console, warning, label="warning:")
    print(f"kept in {keep_check(path, check)}")
    return check.inside


def _loss(text: str) -> tuple[str, float]:
    name, sign, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf or (sign and not name):
        raise ConfigError(
            f"--loss {text}: write a loss above 0, as --loss 2.31, or of one validation set, as "
            "--loss docs=2.31"
        )
    return name or MEAN, value


def _line(each: Compared, level: float) -> str:
    verdict = {True: "inside", False: "OUTSIDE", None: "no interval to be inside of"}[each.inside]
    ends = f" ({each.low:.4f} to {each.high:.4f}, {level:.0%})" if each.low and each.high else ""
    side = "too high" if each.log_error > 0 else "too low"
    return (
        f"measured {each.measured:.4f}, forecast {each.forecast:.4f}{ends}: {verdict}; the "
        f"forecast was {abs(math.expm1(each.log_error)):.2%} {side}"
    )
