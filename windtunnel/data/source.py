"""The data of a study: weighted sources, a tokenizer and a validation share."""

import math
from dataclasses import dataclass
from typing import get_args

from windtunnel.config.data import NEAR_DUPLICATE_SHARE, Dtype, checked_builtin
from windtunnel.errors import ConfigError

DTYPES = get_args(Dtype)

PAIRED_BUILTINS = ("builtin:doctests",)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One domain of text or tokens.

    Attributes:
        name: Label of the domain; it also seeds the domain's shuffle.
        path: One of BUILTINS, or the absolute path of a file or folder.
        weight: Relative share of training rows; 0: only branches read it.
        text_column: Field of `.jsonl` and `.parquet` records that holds the text.
        pairs: Two fields of `.jsonl` records, a prompt and its completion, in place of a text.
        dtype: Little-endian type of a raw `.bin` token file; other formats carry their own.

    Raises:
        ConfigError: The name is empty, the weight is negative, the dtype is unknown, or a
            builtin is unknown or asked for by its fields.
    """

    name: str
    path: str
    weight: float = 1.0
    text_column: str = "text"
    pairs: tuple[str, str] | None = None
    dtype: Dtype = "uint16"

    @property
    def builtin(self) -> str | None:
        """The kind of builtin, if it is one."""
        return self.path.removeprefix("builtin:") if self.path.startswith("builtin:") else None

    @property
    def paired(self) -> bool:
        """Whether its documents are pairs of a prompt and a completion."""
        return self.pairs is not None or self.path in PAIRED_BUILTINS

    def __post_init__(self) -> None:
        where = f"data source {self.name!r}"
        if not self.name:
            raise ConfigError(
                "empty",
                f"data source {self.path!r}: its name is empty; give it one",
                key="name",
                path=self.path,
            )
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ConfigError(
                "out-of-range",
                f"{where}: weight = {self.weight}; allowed is a finite number, 0 (only branches "
                "read it) or above",
                source=self.name,
                weight=self.weight,
            )
        if self.dtype not in DTYPES:
            allowed = ", ".join(map(repr, DTYPES))
            raise ConfigError(
                "unknown-value",
                f"{where}: dtype = {self.dtype!r}; allowed are {allowed}",
                source=self.name,
                dtype=self.dtype,
                allowed=DTYPES,
            )
        if self.pairs is not None and self.pairs[0] == self.pairs[1]:
            raise ConfigError(
                "duplicate-value",
                f"{where}: pairs = {list(self.pairs)}: prompt and completion are two fields",
                source=self.name,
                pairs=self.pairs,
            )
        if self.builtin is None:
            return
        try:
            checked_builtin(self.path)
        except ValueError as refused:
            raise ConfigError(
                "unknown-builtin", f"{where}: path = {refused}", source=self.name, path=self.path
            ) from None
        if self.pairs is not None:
            raise ConfigError(
                "pairs-unsupported",
                f"{where}: pairs = {list(self.pairs)} are fields of .jsonl files; {self.path} has "
                "none: remove pairs",
                source=self.name,
                path=self.path,
                pairs=self.pairs,
            )


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """The data of a study.

    Attributes:
        sources: At least one source; names differ.
        tokenizer: `bytes`, or the absolute path of a Hugging Face `tokenizer.json`.
        vocab_size: Needed for pre-tokenised sources; otherwise may pad the tokenizer's own.
        validation_fraction: Share of documents held out, in [0, 0.5]; 0 holds out nothing.
        end_of_text: Token that ends a document, when the tokenizer's own name is unusual.
        dedup: Share already read, in (0, 1], at which a document is dropped; None
            drops none. Builtins are cleaned as they always are.

    Raises:
        ConfigError: There is no source, a name repeats, or the fraction or `dedup` is out of
            range.
    """

    sources: tuple[Source, ...]
    tokenizer: str = "bytes"
    vocab_size: int | None = None
    validation_fraction: float = 0.02
    end_of_text: str | None = None
    dedup: float | None = NEAR_DUPLICATE_SHARE

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        if not names:
            raise ConfigError(
                "empty",
                "data: no sources; name at least one, such as builtin:docs",
                key="data.sources",
            )
        if not any(source.weight for source in self.sources):
            raise ConfigError(
                "zero-weights",
                "data: every source has weight 0; trunks need one above 0",
                sources=names,
            )
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ConfigError(
                "duplicate-name",
                f"data: source name {repeated[0]!r} is used twice; rename one",
                source=repeated[0],
            )
        if not 0 <= self.validation_fraction <= 0.5:
            raise ConfigError(
                "out-of-range",
                f"data: validation_fraction = {self.validation_fraction}; allowed is 0 to 0.5",
                validation_fraction=self.validation_fraction,
            )
        if self.dedup is not None and not 0 < self.dedup <= 1:
            raise ConfigError(
                "out-of-range",
                f"data: dedup = {self.dedup}; allowed is a share above 0, up to 1, or None",
                dedup=self.dedup,
            )
