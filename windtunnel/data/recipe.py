"""What decides the tokens of a source, as plain data that can be hashed."""

from collections.abc import Callable
from typing import Any

from windtunnel.data.builtin import package_versions
from windtunnel.data.digests import Digests
from windtunnel.data.files import index_of, is_token_file, source_files
from windtunnel.data.folders import FORMAT, digest_of
from windtunnel.data.spec import DataSpec, Source
from windtunnel.data.tokenizer import ByteTokenizer, Tokenizer, load_tokenizer
from windtunnel.errors import ConfigError
from windtunnel.spec.data import NEAR_DUPLICATE_SHARE

Tell = Callable[[str, int, int | None], None]


def recipe_of(
    spec: DataSpec, *, digests: Digests | None = None, tell: Tell | None = None
) -> dict[str, Any]:
    """What decides the prepared data of a study, weights and names included.

    Args:
        spec: Sources, tokenizer and split.
        digests: Hashes of the files, where they are known already.
        tell: Told how far the hashing of large files is.

    Raises:
        DataError: If a source or the tokenizer cannot be found or read.
    """
    _refuse_two_vocabularies(spec)
    tokenizer = load_tokenizer(spec.tokenizer, end_of_text=spec.end_of_text)
    digests = digests or Digests()
    return {
        "sources": [
            {
                "name": source.name,
                "weight": source.weight,
                "tokens": source_recipe(
                    source,
                    tokenizer,
                    vocab_size=spec.vocab_size,
                    fraction=spec.validation_fraction,
                    dedup=spec.dedup,
                    digests=digests,
                    tell=tell,
                    tokenizer_name=spec.tokenizer,
                ),
            }
            for source in sorted(spec.sources, key=lambda source: source.name)
        ],
    }


def recipe_hash(spec: DataSpec) -> str:
    """The name of the prepared folder of `spec`: 16 hex digits."""
    return digest_of(recipe_of(spec))


def source_recipe(
    source: Source,
    tokenizer: Tokenizer,
    *,
    vocab_size: int | None,
    fraction: float,
    dedup: float | None,
    digests: Digests,
    tell: Tell | None = None,
    tokenizer_name: str | None = None,
) -> dict[str, Any]:
    """What decides the stored tokens of one source; its name, weight, place and times do not.

    Raises:
        ConfigError: If `vocab_size` is missing for token files, or below the tokenizer's.
        DataError: If the source cannot be found or read.
    """
    recipe: dict[str, Any] = {"format": FORMAT, "validation_fraction": fraction}
    if source.builtin:
        return recipe | {
            "content": "pairs" if source.paired else "text",
            "vocab_size": _text_vocab(tokenizer, vocab_size, tokenizer_name),
            "tokenizer": tokenizer.recipe(),
            "builtin": source.path,
            "packages": package_versions(source.builtin),
        }
    files = source_files(source)
    hashed = (
        None if tell is None else lambda done: tell(f"{source.name}: hashing files", done, None)
    )
    recipe["files"] = [
        [name, path.stat().st_size, digests.of(path, hashed)] for name, path in files
    ]
    if is_token_file(files[0][1]):
        indexes = [index for _, path in files if (index := index_of(path))]
        return recipe | {
            "content": "tokens",
            "vocab_size": _token_vocab(source, tokenizer, vocab_size),
            "dtype": source.dtype,
            "indexes": [digests.of(index) for index in indexes],
        }
    if fraction < 1 and dedup != NEAR_DUPLICATE_SHARE:
        recipe["dedup"] = dedup
    recipe |= {
        "vocab_size": _text_vocab(tokenizer, vocab_size, tokenizer_name),
        "tokenizer": tokenizer.recipe(),
    }
    if source.pairs is not None:
        return recipe | {"content": "pairs", "pairs": list(source.pairs)}
    return recipe | {"content": "text", "text_column": source.text_column}


def _refuse_two_vocabularies(spec: DataSpec) -> None:
    """Bytes and another tokenizer's ids cannot share a model."""
    if spec.tokenizer != "bytes":
        return
    tokenised = {
        source.builtin is None and is_token_file(source_files(source)[0][1])
        for source in spec.sources
    }
    if len(tokenised) > 1:
        raise ConfigError(
            "data: tokenizer = 'bytes' for the text sources, but other sources hold token ids; "
            "set tokenizer to the tokenizer.json that made them"
        )


def _text_vocab(tokenizer: Tokenizer, vocab_size: int | None, name: str | None) -> int:
    if vocab_size is not None and vocab_size < tokenizer.vocab_size:
        named = "" if name is None else f" {name}"
        raise ConfigError(
            f"data: vocab_size = {vocab_size}, and the tokenizer{named} has {tokenizer.vocab_size} "
            "tokens; allowed is that or more: raise vocab_size, or leave it out"
        )
    return vocab_size or tokenizer.vocab_size


def _token_vocab(source: Source, tokenizer: Tokenizer, vocab_size: int | None) -> int:
    if vocab_size is None and isinstance(tokenizer, ByteTokenizer):
        raise ConfigError(
            f"data source {source.name!r}: {source.path} holds token ids; set vocab_size, "
            "or the tokenizer they were made with"
        )
    return vocab_size or tokenizer.vocab_size
