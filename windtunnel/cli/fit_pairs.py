"""Options of fits that are written NAME=VALUE."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from windtunnel.errors import ConfigError
from windtunnel.laws.conditions import number

EXAMPLES = {
    "--fix": "E=1.7",
    "--tie": "alpha=beta",
    "--scale": "params=1e9",
    "--target": "docs=2",
    "--default": "docs=0.5",
    "--weight": "docs=0.5",
}
Value = TypeVar("Value")


def words(option: str, text: str) -> tuple[str, str]:
    """`NAME=VALUE` of an option.

    Raises:
        ConfigError: It is written otherwise.
    """
    name, sign, value = (part.strip() for part in text.rpartition("="))
    if not (name and sign and value):
        raise ConfigError(
            f"{option} {text}: write NAME=VALUE, for example {option} {EXAMPLES[option]}"
        )
    return name, value


def numbered(option: str, text: str) -> tuple[str, float]:
    """`NAME=NUMBER` of an option.

    Raises:
        ConfigError: It is written otherwise.
    """
    name, value = words(option, text)
    found = number(value)
    if found is None:
        raise ConfigError(
            f"{option} {text}: {value!r} is not a number; write {option} {EXAMPLES[option]}"
        )
    return name, found


def pairs(
    option: str, texts: Iterable[str], read: Callable[[str, str], tuple[str, Value]]
) -> dict[str, Value]:
    """All the pairs that an option was given, each read by `read` (`words`, `numbered`).

    Raises:
        ConfigError: One is written otherwise, or a name is given twice.
    """
    return once(option, (read(option, text) for text in texts))


def once(option: str, found: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    """Pairs by name.

    Raises:
        ConfigError: A name is given twice.
    """
    values: dict[str, Value] = {}
    for name, value in found:
        if name in values:
            raise ConfigError(
                f"{option} {name} is given twice ({values[name]} and {value}): give it once"
            )
        values[name] = value
    return values
