"""Options that several commands share, and the parsing of NAME=VALUE options."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from windtunnel.errors import ConfigError, did_you_mean

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="Study file.")]
FitFile = Annotated[
    Path, typer.Argument(metavar="FIT.json", help="File that `windtunnel fit --out` wrote.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

INPUT = "Columns and units"
ROWS = "Selection of rows"
OUTPUT = "Output"
"""Panels of the help, named by what their options are for."""

Scale = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COL=FACTOR",
        help="Multiply a column, for example params=1e9. Repeatable.",
        rich_help_panel=INPUT,
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CONDITION",
        help="Keep the rows that meet a condition such as 'flops>=1e18'. Repeatable.",
        rich_help_panel=ROWS,
    ),
]

EXAMPLES = {
    "--fix": "E=1.7",
    "--tie": "alpha=beta",
    "--scale": "params=1e9",
    "--target": "docs=2",
    "--default": "docs=0.5",
    "--weight": "docs=0.5",
}
Value = TypeVar("Value")


def column(what: str, panel: str = INPUT, metavar: str = "COL") -> typer.models.OptionInfo:
    """An option that names a column of the input table."""
    option: typer.models.OptionInfo = typer.Option(
        metavar=metavar, help=what, rich_help_panel=panel
    )
    return option


def check_choice(option: str, value: str, allowed: Iterable[str]) -> None:
    """Check that an option has one of its allowed values.

    Raises:
        ConfigError: It has another value.
    """
    choices = list(allowed)
    if value not in choices:
        raise ConfigError(
            "unknown-value",
            f"{option} {value}: allowed are {', '.join(choices)}{did_you_mean(value, choices)}",
            option=option,
            value=value,
            allowed=choices,
        )


def words(option: str, text: str) -> tuple[str, str]:
    """The name and the value of a `NAME=VALUE` option.

    Raises:
        ConfigError: The text has another form.
    """
    name, sign, value = (part.strip() for part in text.rpartition("="))
    if not (name and sign and value):
        raise ConfigError(
            "not-a-pair",
            f"{option} {text}: write NAME=VALUE, for example {option} {EXAMPLES[option]}",
            option=option,
            value=text,
        )
    return name, value


def numbered(option: str, text: str) -> tuple[str, float]:
    """The name and the number of a `NAME=NUMBER` option.

    Raises:
        ConfigError: The text has another form.
    """
    from windtunnel.laws.conditions import number

    name, value = words(option, text)
    parsed = number(value)
    if parsed is None:
        raise ConfigError(
            "not-a-number",
            f"{option} {text}: {value!r} is not a number; write {option} {EXAMPLES[option]}",
            option=option,
            value=value,
        )
    return name, parsed


def fixed(option: str, text: str) -> tuple[str, float | tuple[float, float]]:
    """The name and the number of a `NAME=NUMBER` option, or the two ends of `NAME=LOW..HIGH`.

    Raises:
        ConfigError: The text has another form.
    """
    name, value = words(option, text)
    low, dots, high = value.partition("..")
    if not dots:
        return numbered(option, text)
    ends = tuple(numbered(option, f"{name}={end}")[1] for end in (low, high))
    return name, (ends[0], ends[1])


def pairs(
    option: str, texts: Iterable[str], parse: Callable[[str, str], tuple[str, Value]]
) -> dict[str, Value]:
    """All pairs of a repeatable option, each parsed by `words` or `numbered`.

    Raises:
        ConfigError: One has another form, or a name is given twice.
    """
    return once(option, (parse(option, text) for text in texts))


def once(option: str, named: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    """Pairs as a dictionary.

    Raises:
        ConfigError: A name is given twice.
    """
    values: dict[str, Value] = {}
    for name, value in named:
        if name in values:
            raise ConfigError(
                "duplicate-name",
                f"{option} {name} is given twice ({values[name]} and {value}): give it once",
                option=option,
                name=name,
            )
        values[name] = value
    return values
