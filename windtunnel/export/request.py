"""The request of an export: a size, an amount of data, and the studies that it rests on."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from windtunnel.config.target import DATA, SIZES
from windtunnel.config.units import expanded
from windtunnel.errors import ConfigError
from windtunnel.export.handoff import LrRuleName
from windtunnel.findings import Records, records_of
from windtunnel.runs.study import Study, open_study

POSITIVE = (
    "params", "flops", "tokens", "tokens_per_param", "context", "vocab_size", "head_dim",
    "heads_per_kv", "batch_tokens",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options of `windtunnel export` and `answer`; None or empty where one is not given.

    At most one of `params`, `shape` (WIDTHxDEPTH) and `model` (a YAML file with a `model` section),
    and at most one of `flops`, `tokens` and `tokens_per_param`.

    Attributes:
        context: of the target, as `vocab_size`, `head_dim` and `heads_per_kv`; None: the study's.
        fit: a file that `windtunnel fit STUDY.yaml --out` wrote; default: the study's own.
        extra_studies: further studies on the same data, whose batch law, batch rule and searches
            count as well.
        experiment: which scaling experiment's fit, where the study has several.
        winner: the search whose winning values replace the recipe's.
        no_transfer: whether the recipe is exported as it was tuned, whatever was measured.
        extrapolate: whether a target far beyond the fitted runs is accepted.
        accept: codes of failing warnings that are accepted.
    """

    params: float | None = None
    shape: str | None = None
    model: Path | None = None
    flops: float | None = None
    tokens: float | None = None
    tokens_per_param: float | None = None
    context: int | None = None
    vocab_size: int | None = None
    head_dim: int | None = None
    heads_per_kv: int | None = None
    fit: Path | None = None
    extra_studies: tuple[Path, ...] = ()
    experiment: str | None = None
    winner: str | None = None
    batch_tokens: int | None = None
    lr_rule: LrRuleName | None = None
    no_transfer: bool = False
    extrapolate: bool = False
    accept: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for options in (self._given(*SIZES), self._given(*DATA)):
            if len(options) > 1:
                raise ConfigError(
                    "contradicting-options",
                    f"{' and '.join(options)} say the same in two ways: give one",
                    options=options,
                )
        for name in POSITIVE:
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(
                    "out-of-range",
                    f"{option(name)} {value:g}: must be above 0",
                    option=option(name),
                    value=value,
                    above=0,
                )

    @property
    def has_target(self) -> bool:
        """Whether it says what to train: a size, an amount of training, or both."""
        return bool(self._given(*SIZES, *DATA))

    def filled(self, study: Study) -> Self:
        """The same request; the study's `target` gives what it leaves out."""
        target = study.config.target
        if target is None:
            return self
        given: dict[str, Any] = target.model_dump(exclude_none=True)
        if target.model is not None:
            given["model"] = study.file.parent / expanded(target.model)
        for names in (SIZES, DATA):
            if self._given(*names):
                given = {name: value for name, value in given.items() if name not in names}
        return replace(self, **{n: v for n, v in given.items() if getattr(self, n) is None})

    def checked(self) -> Self:
        """The same request, if it says what to train.

        Raises:
            ConfigError: It does not.
        """
        if self.has_target:
            return self
        raise ConfigError(
            "missing-option",
            "say what to train: a size (--params 2.4B, --shape 2304x40 or --model MODEL.yaml), "
            "an amount of training (--flops 1e21, --tokens 1T or --tokens-per-param 50), or "
            "one of each; what is left out follows from the fitted law. A `target:` in the study "
            "file says it for good",
            allowed=[option(name) for name in (*SIZES, *DATA)],
        )

    @property
    def as_typed(self) -> dict[str, str]:
        """Every option that was given, by its name."""
        return dict(self._typed())

    def _typed(self) -> Iterator[tuple[str, str]]:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is None or value is False or value == ():
                continue
            name = "with" if each.name == "extra_studies" else each.name
            many = isinstance(value, tuple)
            yield name, ", ".join(map(str, value)) if many else _written(value)

    def _given(self, *names: str) -> list[str]:
        return [option(name) for name in names if getattr(self, name) is not None]


def _written(value: object) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def option(name: str) -> str:
    """A field of `Request` as it is typed."""
    return "--with" if name == "extra_studies" else f"--{name.replace('_', '-')}"


@dataclass(frozen=True, eq=False)
class StudyRecords:
    """A study and what it measured."""

    study: Study

    @cached_property
    def records(self) -> Records:
        """What the study measured, read once."""
        return records_of(self.study)

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study.config.study


def open_studies(study: Study, files: tuple[Path, ...]) -> tuple[StudyRecords, ...]:
    """The study itself first, then the others.

    Raises:
        ConfigError: One of them was measured on other data, so that its losses are others.
    """
    others = [open_study(file) for file in files]
    for other in others:
        for what, mine, theirs in _losses(study, other):
            if mine != theirs:
                raise ConfigError(
                    "other-data",
                    f"--with {other.file}: its {what} is {theirs}, that of {study.file} is {mine}: "
                    "its losses, and so its batch law, mean something else; only studies on the "
                    "same data, tokenizer and validation sets can be taken along",
                    option="--with",
                    path=other.file,
                    study=study.file,
                    what=what,
                )
    return tuple(StudyRecords(each) for each in (study, *others))


def _losses(study: Study, other: Study) -> Iterator[tuple[str, object, object]]:
    """What the meaning of a loss depends on, for both studies."""
    yield "token stream", study.study_context.stream, other.study_context.stream
    yield (
        "validation",
        sorted(each.fingerprint for each in study.validation),
        sorted(each.fingerprint for each in other.validation),
    )
