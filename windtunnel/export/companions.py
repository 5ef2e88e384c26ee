"""The studies that a Handoff rests on: the exported one, and others on the same data."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from windtunnel.errors import ConfigError
from windtunnel.findings import Records, records_of
from windtunnel.trials.study import Study, open_study


@dataclass(frozen=True, eq=False)
class Companion:
    """A study and what it measured."""

    study: Study

    @cached_property
    def records(self) -> Records:
        """Read once."""
        return records_of(self.study)

    @property
    def name(self) -> str:
        """Of the study."""
        return self.study.config.study


def open_companions(study: Study, files: tuple[Path, ...]) -> tuple[Companion, ...]:
    """The study itself first, then the others.

    Raises:
        ConfigError: One of them was measured on other data, so that its losses are others.
    """
    others = [open_study(file) for file in files]
    for other in others:
        for what, mine, theirs in _losses(study, other):
            if mine != theirs:
                raise ConfigError(
                    f"--with {other.file}: its {what} is {theirs}, that of {study.file} is {mine}: "
                    "its losses, and so its batch law, mean something else; only studies on the "
                    "same data, tokenizer and validation sets can be taken along"
                )
    return tuple(Companion(each) for each in (study, *others))


def _losses(study: Study, other: Study) -> Iterator[tuple[str, object, object]]:
    """What decides the meaning of a loss, of both."""
    yield "token stream", study.ground.stream, other.ground.stream
    yield (
        "validation",
        sorted(each.fingerprint for each in study.validation),
        sorted(each.fingerprint for each in other.validation),
    )
