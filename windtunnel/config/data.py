"""The `data` section of a study file: sources, their mixture, and held-out sets.

A mixture is realised in whole rows out of `PERIOD`, so weights are exact to 1/1000.
"""

import math
from collections.abc import Sequence
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from windtunnel.config.units import Misfit, Strict, WrittenCount, checked_path
from windtunnel.errors import Refused, did_you_mean

_PACKED = ("", ".gz", ".zst")
PLAIN_SUFFIXES = (
    *(f"{kind}{packed}" for kind in (".txt", ".md") for packed in _PACKED),
    ".parquet",
)
PAIR_SUFFIXES = tuple(
    f"{kind}{packed}" for kind in (".jsonl", ".ndjson", ".json") for packed in _PACKED
)
"""Suffixes of JSON lines, in which two fields may form a pair."""
TOKEN_SUFFIXES = (".bin", ".npy")
BUILTINS = ("builtin:docs", "builtin:code", "builtin:doctests")
PARTED_BUILTINS = ("builtin:docs", "builtin:code")
"""Builtins of which a single package can be selected, as in builtin:code/sympy."""
Dtype = Literal["uint16", "uint32", "uint8", "int32", "int64", "uint64"]
NEAR_DUPLICATE_SHARE = 0.5
"""Share of a document already read at which it is dropped (assumed)."""
CONDITIONAL = "_conditional"
"""Suffix of the validation set with the loss on completions given their prompts."""

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Name = Annotated[str, Field(pattern=NAME, max_length=80)]


def _as_weight(value: Any) -> Any:
    if isinstance(value, str) and value.rstrip().endswith("%"):
        raise Refused(
            "not-a-number",
            f"{value!r}: weights are numbers relative to each other; write 9 and 1 for 90% and 10%",
            value=value,
        )
    return value


def _as_dedup(value: Any) -> Any:
    match value.strip().lower() if isinstance(value, str) else value:
        case True | "on" | "true" | "yes":
            return "on"
        case False | "off" | "false" | "no":
            return "off"
        case int() | float() as share if 0 < share <= 1:
            return float(share)
    hint = ""
    if isinstance(value, str) and value.rstrip().endswith("%"):
        hint = "; a share is a number, as 0.8 for 80%"
    raise Refused(
        "unknown-value",
        f"{value!r}: allowed are on, off, or the share of a document that was read before, above 0 "
        f"and up to 1, from which it is dropped{hint}",
        value=value,
    )


Dedup = Annotated[
    Literal["on", "off"] | float,
    BeforeValidator(_as_dedup),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["on", "off"]},
                {"type": "boolean"},
                {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            ]
        }
    ),
]

Weight = Annotated[float, Field(ge=0, le=1e12), BeforeValidator(_as_weight)]


def _as_source(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


def checked_builtin(path: str) -> str:
    """The path of a builtin source.

    Raises:
        Refused: There is no such builtin.
    """
    kind, slash, _ = path.partition("/")
    if kind not in (PARTED_BUILTINS if slash else BUILTINS):
        raise Refused(
            "unknown-builtin",
            f"{path!r}: the builtin sources are {', '.join(BUILTINS)}, and of docs and code one "
            f"package alone, as builtin:code/sympy{did_you_mean(path, BUILTINS)}",
            path=path,
            known=BUILTINS,
        )
    return path


def _checked_source(path: str) -> str:
    return checked_builtin(path) if path.startswith("builtin:") else checked_path(path)


def _checked_tokenizer(path: str) -> str:
    return path if path == "bytes" else checked_path(path)


class SourceConfig(Strict):
    """One source of text or tokens; a bare string is its path."""

    path: Annotated[
        str,
        AfterValidator(_checked_source),
        Field(
            description="builtin:docs, builtin:code, one package of these as in "
            "builtin:code/sympy, builtin:doctests, or a path relative to the study file: .txt, "
            ".md, .jsonl, .ndjson, .json (all also with .gz or .zst), .parquet, .bin (raw, or "
            "Megatron's with .idx), .npy, or a directory"
        ),
    ]
    name: Annotated[Name | None, Field(description="Default: the stem of the file name")] = None
    weight: Annotated[
        Weight,
        Field(description="Share of rows, relative to the other sources; 0: only branches read it"),
    ] = 1.0
    text_column: Annotated[
        str, Field(description="For .jsonl and .parquet; nested fields as in message.content")
    ] = "text"
    pairs: Annotated[
        tuple[str, str] | None, Field(description="The prompt and completion fields of .jsonl")
    ] = None
    dtype: Annotated[Dtype, Field(description="For raw .bin, and .npy without a header")] = "uint16"

    @model_validator(mode="after")
    def _pairs_are_fields_of_lines(self) -> Self:
        if self.pairs is None:
            return self
        prompt, completion = self.pairs
        fields = f"[{prompt}, {completion}]"
        if prompt == completion:
            raise Misfit(
                "duplicate-value",
                f"{fields}: prompt and completion are two fields; name both",
                "pairs",
                repeated=prompt,
            )
        if self.path.startswith("builtin:"):
            raise Misfit(
                "pairs-unsupported",
                f"{fields} are fields of .jsonl files, and {self.path} has none; remove `pairs` "
                "(builtin:doctests holds pairs without it)",
                "pairs",
                fields=self.pairs,
                path=self.path,
            )
        if self.path.lower().endswith((*PLAIN_SUFFIXES, *TOKEN_SUFFIXES)):
            raise Misfit(
                "pairs-unsupported",
                f"{fields} are fields of JSON lines, and {self.path} holds none; allowed with "
                f"pairs are {', '.join(PAIR_SUFFIXES)}, or a folder of them: convert it, or "
                "remove `pairs`",
                "pairs",
                fields=self.pairs,
                path=self.path,
                suffixes=PAIR_SUFFIXES,
            )
        return self

    @property
    def label(self) -> str:
        """The name of the source in records and reports."""
        if self.name:
            return self.name
        if self.path.startswith("builtin:"):
            return self.path.removeprefix("builtin:").replace("/", "-")
        return PurePath(self.path).name.split(".")[0] or "data"

    @property
    def set_names(self) -> tuple[str, ...]:
        """Its validation sets; of pairs also one with the loss on completions only."""
        return (self.label, f"{self.label}{CONDITIONAL}") if self.paired else (self.label,)

    @property
    def paired(self) -> bool:
        """Whether the source consists of prompts with completions."""
        return self.pairs is not None or self.path == "builtin:doctests"


Sources = Annotated[
    tuple[Annotated[SourceConfig, BeforeValidator(_as_source)], ...], Field(min_length=1)
]


def no_source(name: str, sources: Sources) -> str:
    """A clause `no source of data.sources`, with the likely name and all names."""
    labels = [source.label for source in sources]
    of_path = {source.path: source.label for source in sources}
    hint = f"; did you mean {of_path[name]!r}?" if name in of_path else did_you_mean(name, labels)
    return f"no source of data.sources{hint or '.'} There are: {', '.join(labels)}"


class ValidationConfig(Strict):
    """Held-out documents: a share of each source, and additional sources."""

    fraction: Annotated[float, Field(gt=0, lt=0.5, description="Share of documents held out")] = (
        0.02
    )
    tokens: Annotated[
        int,
        Field(ge=1, description="Tokens per validation set at the end of a segment"),
        WrittenCount,
    ] = 131_072
    fork_tokens: Annotated[
        int, Field(ge=1, description="Tokens per validation set at a fork"), WrittenCount
    ] = 16_384
    extra: tuple[Annotated[SourceConfig, BeforeValidator(_as_source)], ...] = ()


class DataConfig(Strict):
    """Training sources, tokenizer, validation sets and deduplication."""

    sources: Sources
    tokenizer: Annotated[
        str,
        AfterValidator(_checked_tokenizer),
        Field(description="bytes, or the path of a Hugging Face tokenizer.json"),
    ] = "bytes"
    vocab_size: Annotated[
        int | None,
        Field(ge=2, le=2**32, description="Only for sources that are already tokenized"),
    ] = None
    end_of_text: Annotated[
        str | None, Field(description="Document separator token; default: common names are tried")
    ] = None
    validation: ValidationConfig = ValidationConfig()
    dedup: Annotated[
        Dedup,
        Field(
            description="Drop near-duplicate documents: on, off, or the share of a document that "
            "must have been read before (on: 0.5)"
        ),
    ] = "on"

    @field_validator("sources")
    @classmethod
    def _some_are_read(cls, sources: tuple[SourceConfig, ...]) -> tuple[SourceConfig, ...]:
        if not any(source.weight for source in sources):
            raise Refused("zero-weights", "every source has weight 0; trunks need one above 0")
        weights = [source.weight for source in sources]
        for number, count in enumerate(whole_shares(weights)):
            if weights[number] and not count:
                raise Misfit(
                    "share-too-small",
                    f"a weight of {weights[number]:g} is {weights[number] / sum(weights):.2g} of "
                    f"all weights, and a share below 1/{2 * PERIOD} gets no rows: raise it, or "
                    "remove the source",
                    number,
                    "weight",
                    share=weights[number] / sum(weights),
                    least=1 / (2 * PERIOD),
                )
        return sources

    @property
    def dedup_share(self) -> float | None:
        """Share of a document already read at which it is dropped; None: never dropped."""
        if isinstance(self.dedup, float):
            return self.dedup
        return NEAR_DUPLICATE_SHARE if self.dedup == "on" else None

    @property
    def set_names(self) -> tuple[str, ...]:
        """All validation sets, those of `validation.extra` last."""
        sources = (*self.sources, *self.validation.extra)
        return tuple(name for source in sources for name in source.set_names)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        sources = (*self.sources, *self.validation.extra)
        labels = set[str]()
        for number, source in enumerate(sources):
            if source.label in labels:
                extra = number - len(self.sources)
                raise Misfit(
                    "duplicate-name",
                    f"two sources are called {source.label!r}; give this one another name: "
                    f"{{path: {source.path!r}, name: {source.label}-2}}, or leave it out",
                    *(("sources", number) if extra < 0 else ("validation", "extra", extra)),
                    name=source.label,
                )
            labels.add(source.label)
        for source in sources:
            if taken := labels & set(source.set_names[1:]):
                raise Refused(
                    "duplicate-name",
                    f"a source is called {min(taken)!r}, as is the validation set of the "
                    f"completions of {source.label!r}; give it another name",
                    name=min(taken),
                    source=source.label,
                )
        return self


PERIOD = 1000
"""Rows per period of a mixture, so that decimal weights such as 0.7 and 0.3 are exact."""
LARGEST_WEIGHT = 1e100


def whole_shares(weights: Sequence[float]) -> list[int]:
    """Rows per source out of `PERIOD`, by the largest-remainder method; their sum is `PERIOD`."""
    if max(weights) > LARGEST_WEIGHT:  # so that sums stay finite
        weights = [weight / max(weights) for weight in weights]
    total = math.fsum(weights)
    quotas = [PERIOD * weight / total for weight in weights]
    counts = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda k: (counts[k] - quotas[k], k))
    for place in by_remainder[: PERIOD - sum(counts)]:
        counts[place] += 1
    return counts
