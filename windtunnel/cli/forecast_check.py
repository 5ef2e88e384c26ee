"""`windtunnel forecast check`: the measured loss against its forecast."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from windtunnel.cli import EXIT_SOME_FAILED
from windtunnel.cli.options import AsJson, PerParam, check_choice, count, tokens_for
from windtunnel.cli.text import print_json, say, terminal
from windtunnel.errors import ConfigError
from windtunnel.quantities import write_count

if TYPE_CHECKING:
    from windtunnel.export.check import Compared


def check(
    handoff: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder that `windtunnel export` wrote.")
    ],
    loss: Annotated[
        list[str],
        typer.Option(
            metavar="[SET=]LOSS",
            help="Measured loss of one validation set, or the mean over all of them. Repeatable.",
        ),
    ],
    tokens: Annotated[
        float | None,
        count(
            "--tokens", "Training tokens, such as 1T or 20N; default: as exported.", per_param=True
        ),
    ] = None,
    params: Annotated[
        float | None, count("--params", "Parameter count, such as 2.4B; default: as exported.")
    ] = None,
    unit: Annotated[
        str, typer.Option(help="nats-per-token, nats-per-byte or bits-per-byte.")
    ] = "nats-per-token",
    as_json: AsJson = False,
) -> None:
    """Compare the loss of the large run with its forecast.

    Exits 3 if a loss lies outside its prediction interval.
    """
    inside = run_forecast_check(
        handoff, loss, tokens=tokens, params=params, unit=unit, as_json=as_json
    )
    if not inside:
        raise typer.Exit(EXIT_SOME_FAILED)


def run_forecast_check(
    path: Path,
    losses: Sequence[str],
    *,
    tokens: float | None,
    params: float | None,
    unit: str,
    as_json: bool,
) -> bool:
    """Print and keep the comparison; return whether every loss lies inside its interval.

    Raises:
        ConfigError: There is no Handoff, or it has no such validation set or unit.
    """
    from windtunnel.export.check import UNITS, check_forecast, log_check
    from windtunnel.export.handoff import Handoff

    check_choice("--unit", unit, UNITS)
    for option, value in (("--tokens", tokens), ("--params", params)):
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(
                "out-of-range", f"{option} {value:g}: must be above 0", option=option, value=value
            )
    if isinstance(tokens, PerParam):
        params = params or Handoff.read(path).counts.params
        tokens = tokens_for(tokens, params)
    measured: dict[str, float] = {}
    for text in losses:
        name, value = _loss(text)
        if name in measured:
            raise ConfigError(
                "duplicate-name",
                f"--loss {text}: a loss of {name} was given before; give one a set",
                option="--loss",
                name=name,
            )
        measured[name] = value
    check = check_forecast(path, measured, params=params, tokens=tokens, unit=cast("Any", unit))
    if as_json:
        print_json(check.as_json())
        log_check(path, check)
        return check.inside
    console = terminal()
    say(
        console,
        f"{write_count(check.params)} params on "
        f"{write_count(check.tokens)} tokens, in nats per token:",
    )
    for each in check.sets:
        say(console, f"  {each.name}: {_line(each, check.level)}")
    for warning in check.warnings:
        say(console, warning.message, label=f"warning ({warning.code}):")
    print(f"kept in {log_check(path, check)}")
    return check.inside


def _loss(text: str) -> tuple[str, float]:
    from windtunnel.export.fits import MEAN

    name, sign, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf or (sign and not name):
        raise ConfigError(
            "not-a-number",
            f"--loss {text}: write a loss above 0, as --loss 2.31, or of one validation set, as "
            "--loss docs=2.31",
            option="--loss",
            value=text,
        )
    return name or MEAN, value


def _line(compared: "Compared", level: float) -> str:
    verdict = {True: "inside", False: "OUTSIDE", None: "no interval to be inside of"}[
        compared.inside
    ]
    ends = (
        f" ({compared.low:.4f} to {compared.high:.4f}, {level:.0%})"
        if compared.low and compared.high
        else ""
    )
    side = "too high" if compared.log_error > 0 else "too low"
    return (
        f"measured {compared.measured:.4f}, forecast {compared.forecast:.4f}{ends}: {verdict}; the "
        f"forecast was {abs(math.expm1(compared.log_error)):.2%} {side}"
    )
