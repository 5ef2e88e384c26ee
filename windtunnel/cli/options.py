"""Options that several commands share, and the parsing of NAME=VALUE options."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from windtunnel.errors import ConfigError, Refused, did_you_mean
from windtunnel.quantities import count_of, read_ratio

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
GOOD = {
    "--experts": "8",
    "--params": "2.4B",
    "--sunk-tokens": "1T",
    "--to": "torch",
    "--out": "results/",
    "--loss": "2.31",
    "--tokens-per-param": "20",
    "--drop-highest": "2",
    "--context": "4096",
    "--head-dim": "128",
    "--heads-per-kv": "4",
    "--depth": "3",
}
"""Good values of options that Typer itself checks, where the default is none to show."""
FILES = {
    "study": "hparams.yaml",
    "fit": "fit.json",
    "source": "runs.csv",
    "handoff": "handed/",
    "upcycling": "upcycled.json",
}
"""Good values of arguments, by their name."""
Value = TypeVar("Value")


class PerParam(float):
    """Tokens as a multiple of the parameter count: the 20 of `20N`."""


def count(
    option: str,
    what: str,
    panel: str | None = None,
    *,
    per_param: bool = False,
    whole: bool = False,
    example: str = "2.4B",
) -> typer.models.OptionInfo:
    """An option that takes a count as people write it; `per_param`: also `20N`; `whole`: an int."""

    def parse(text: str) -> float:
        if per_param and (ratio := read_ratio(text)) is not None:
            return PerParam(ratio)
        try:
            number = count_of(text, example=example)
        except Refused as refused:
            values = refused.values | {"option": option}
            raise ConfigError(refused.code, f"{option} {refused}", **values) from None
        if whole and not number.is_integer():
            raise ConfigError(
                "not-whole", f"{option} {text}: expected a whole number", option=option, value=text
            )
        return int(number) if whole else number

    metavar = "NUMBER|xN" if per_param else "NUMBER"
    made: typer.models.OptionInfo = typer.Option(
        option, help=what, rich_help_panel=panel, parser=parse, metavar=metavar
    )
    return made


def example_of(context: typer.Context, parameter: Any) -> str | None:
    """A good value of an argument or an option, as one types it; None where none is known."""
    option = next((each for each in parameter.opts if each.startswith("--")), None)
    if option is None:
        file = FILES.get(parameter.name)
        return None if file is None else f"{context.command_path} {file}"
    default = parameter.default if isinstance(parameter.default, int | float) else None
    value = GOOD.get(option, default)
    return None if value is None else f"{option} {value}"


def tokens_for(
    tokens: float | None, params: float | None, option: str = "--tokens"
) -> float | None:
    """Tokens as a number, `20N` multiplied by the params.

    Raises:
        ConfigError: The params are not known.
    """
    if not isinstance(tokens, PerParam):
        return tokens
    if params is None:
        raise ConfigError(
            "missing-option",
            f"{option} {tokens:g}N: N is the parameter count; give --params too",
            option=option,
            value=f"{tokens:g}N",
            missing=["--params"],
        )
    return tokens * params


def data_options(
    tokens: float | None, tokens_per_param: float | None
) -> tuple[float | None, float | None]:
    """The tokens and the tokens per param of two options; `--tokens 20N` is the second.

    Raises:
        ConfigError: Both say it.
    """
    if not isinstance(tokens, PerParam):
        return tokens, tokens_per_param
    if tokens_per_param is not None:
        raise ConfigError(
            "contradicting-options",
            f"--tokens {tokens:g}N and --tokens-per-param {tokens_per_param:g} say the same in two "
            "ways: give one",
            options=["--tokens", "--tokens-per-param"],
        )
    return None, float(tokens)


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
