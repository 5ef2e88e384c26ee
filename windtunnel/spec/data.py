"""What a study file says of its data: sources, and what is held out of them."""

from collections import Counter
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from windtunnel.spec.strict import Strict

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Name = Annotated[str, Field(pattern=NAME, max_length=80)]


def _as_source(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


class SourceConfig(Strict):
    """One source of text or tokens; a bare string is its path."""

    path: Annotated[
        str,
        Field(
            description="builtin:docs, builtin:code, of one package alone as builtin:code/sympy, "
            "builtin:doctests, or a path relative to the study file: .txt, .jsonl[.gz|.zst], "
            ".parquet, .bin (raw, or Megatron's with .idx), .npy, or a folder"
        ),
    ]
    name: Annotated[Name | None, Field(description="Default: the file's stem")] = None
    weight: Annotated[
        float,
        Field(ge=0, description="Share of rows, relative to the others; 0: only branches read it"),
    ] = 1.0
    text_column: Annotated[str, Field(description="For .jsonl and .parquet")] = "text"
    pairs: Annotated[
        tuple[str, str] | None, Field(description="Two fields of .jsonl: prompt and completion")
    ] = None
    dtype: Annotated[Literal["uint16", "uint32"], Field(description="For raw .bin")] = "uint16"

    @property
    def label(self) -> str:
        """The name under which losses on this source are reported."""
        if self.name:
            return self.name
        if self.path.startswith("builtin:"):
            return self.path.removeprefix("builtin:").replace("/", "-")
        return PurePath(self.path).name.split(".")[0] or "data"

    @property
    def set_names(self) -> tuple[str, ...]:
        """Its validation sets: of pairs there is one of completions given their prompts too."""
        return (self.label, f"{self.label}_conditional") if self.paired else (self.label,)

    @property
    def paired(self) -> bool:
        """Whether it holds prompts with their completions."""
        return self.pairs is not None or self.path == "builtin:doctests"


Sources = Annotated[
    tuple[Annotated[SourceConfig, BeforeValidator(_as_source)], ...], Field(min_length=1)
]


class ValidationConfig(Strict):
    """Held-out documents: a share of each source, and whole extra sources."""

    fraction: Annotated[float, Field(gt=0, lt=0.5, description="Share of documents held out")] = (
        0.02
    )
    tokens: Annotated[
        int, Field(ge=1, description="Tokens per set evaluated at the end of a segment")
    ] = 131_072
    fork_tokens: Annotated[int, Field(ge=1, description="Tokens per set evaluated at a fork")] = (
        16_384
    )
    extra: tuple[Annotated[SourceConfig, BeforeValidator(_as_source)], ...] = ()


class DataConfig(Strict):
    """What is trained on and what is held out."""

    sources: Sources
    tokenizer: Annotated[
        str, Field(description="bytes, or the path of a Hugging Face tokenizer.json")
    ] = "bytes"
    vocab_size: Annotated[
        int | None, Field(description="Only for sources that are token files already")
    ] = None
    end_of_text: Annotated[
        str | None, Field(description="Separator token; default: the usual names are tried")
    ] = None
    validation: ValidationConfig = ValidationConfig()

    @field_validator("sources")
    @classmethod
    def _some_are_read(cls, sources: tuple[SourceConfig, ...]) -> tuple[SourceConfig, ...]:
        if not any(source.weight for source in sources):
            raise ValueError("every source has weight 0; trunks need one above 0")
        return sources

    @property
    def set_names(self) -> tuple[str, ...]:
        """Every validation set, those of `validation.extra` last."""
        sources = (*self.sources, *self.validation.extra)
        return tuple(name for source in sources for name in source.set_names)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        sources = (*self.sources, *self.validation.extra)
        labels = Counter(source.label for source in sources)
        if twice := [label for label, count in labels.items() if count > 1]:
            raise ValueError(f"two sources are called {twice[0]!r}; give each its own name")
        for source in sources:
            if taken := labels.keys() & set(source.set_names[1:]):
                raise ValueError(
                    f"a source is called {min(taken)!r}, as is the validation set of the "
                    f"completions of {source.label!r}; give it another name"
                )
        return self
