"""Options of fits that are written NAME=VALUE."""

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
