"""Cache keys of prepared data: everything that decides the tokens, as hashable plain data.

A study keeps the tokens it was prepared with; `changes_since` warns when its files no longer match.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from windtunnel.config.data import NEAR_DUPLICATE_SHARE
from windtunnel.data.artifacts import FORMAT, digest_of
from windtunnel.data.builtin import package_versions
from windtunnel.data.dataset import Dataset
from windtunnel.data.digests import DIGEST_HEX, Digests
from windtunnel.data.files import index_of, is_token_file, source_files
from windtunnel.data.source import DataSpec, Source
from windtunnel.data.tokenizer import ByteTokenizer, Tokenizer, load_tokenizer
from windtunnel.data.validation import read_source
from windtunnel.errors import ConfigError, DataError, Diagnostic

Tell = Callable[[str, int, int | None], None]


def dataset_cache_key(
    spec: DataSpec, *, digests: Digests | None = None, tell: Tell | None = None
) -> dict[str, Any]:
    """Everything that decides the prepared data of a study, weights and names included.

    Args:
        spec: Sources, tokenizer and split.
        digests: Known hashes of the files.
        tell: Called with the progress of hashing large files.

    Raises:
        DataError: A source or the tokenizer cannot be found or read.
    """
    _refuse_two_vocabularies(spec)
    tokenizer = load_tokenizer(spec.tokenizer, end_of_text=spec.end_of_text)
    digests = digests or Digests()
    return {
        "sources": [
            {
                "name": source.name,
                "weight": source.weight,
                "tokens": source_cache_key(
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


def cache_key_hash(spec: DataSpec) -> str:
    """The name of the prepared folder of `spec`: 16 hex digits."""
    return digest_of(dataset_cache_key(spec))


def source_cache_key(
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
    """Everything that decides the stored tokens of one source, without name, weight and path.

    Raises:
        ConfigError: If `vocab_size` is missing for token files, or below the tokenizer's.
        DataError: The source cannot be found or read.
    """
    key: dict[str, Any] = {"format": FORMAT, "validation_fraction": fraction}
    if source.builtin:
        return key | {
            "content": "pairs" if source.paired else "text",
            "vocab_size": _text_vocab(tokenizer, vocab_size, tokenizer_name),
            "tokenizer": tokenizer.cache_key(),
            "builtin": source.path,
            "packages": package_versions(source.builtin),
        }
    files = source_files(source)
    hashed = (
        None if tell is None else lambda done: tell(f"{source.name}: hashing files", done, None)
    )
    key["files"] = [[name, path.stat().st_size, digests.of(path, hashed)] for name, path in files]
    if is_token_file(files[0][1]):
        indexes = [index for _, path in files if (index := index_of(path))]
        return key | {
            "content": "tokens",
            "vocab_size": _token_vocab(source, tokenizer, vocab_size),
            "dtype": source.dtype,
            "indexes": [digests.of(index) for index in indexes],
        }
    if fraction < 1 and dedup != NEAR_DUPLICATE_SHARE:
        key["dedup"] = dedup
    key |= {
        "vocab_size": _text_vocab(tokenizer, vocab_size, tokenizer_name),
        "tokenizer": tokenizer.cache_key(),
    }
    if source.pairs is not None:
        return key | {"content": "pairs", "pairs": list(source.pairs)}
    return key | {"content": "text", "text_column": source.text_column}


def _refuse_two_vocabularies(spec: DataSpec) -> None:
    """Refuse bytes beside another tokenizer's ids, which cannot share a model."""
    if spec.tokenizer != "bytes":
        return
    tokenised = {
        source.builtin is None and is_token_file(source_files(source)[0][1])
        for source in spec.sources
    }
    if len(tokenised) > 1:
        raise ConfigError(
            "mixed-vocabularies",
            "data: tokenizer = 'bytes' for the text sources, but other sources hold token ids; "
            "set tokenizer to the tokenizer.json that made them",
            tokenizer=spec.tokenizer,
        )


def _text_vocab(tokenizer: Tokenizer, vocab_size: int | None, name: str | None) -> int:
    if vocab_size is not None and vocab_size < tokenizer.vocab_size:
        named = "" if name is None else f" {name}"
        raise ConfigError(
            "vocab-too-small",
            f"data: vocab_size = {vocab_size}, and the tokenizer{named} has {tokenizer.vocab_size} "
            "tokens; allowed is that or more: raise vocab_size, or leave it out",
            vocab_size=vocab_size,
            tokenizer=name,
            needed=tokenizer.vocab_size,
        )
    return vocab_size or tokenizer.vocab_size


def _token_vocab(source: Source, tokenizer: Tokenizer, vocab_size: int | None) -> int:
    if vocab_size is None and isinstance(tokenizer, ByteTokenizer):
        raise ConfigError(
            "missing-vocab-size",
            f"data source {source.name!r}: {source.path} holds token ids; set vocab_size, "
            "or the tokenizer they were made with",
            source=source.name,
            path=source.path,
        )
    return vocab_size or tokenizer.vocab_size


_NAMED = 3
_CONTINUES = (
    "the study continues with its earlier tokens, so that its losses remain comparable; to train "
    "on what is there now, give the study a new `study:` name"
)


def changes_since(dataset: Dataset, spec: DataSpec, *, root: Path) -> tuple[Diagnostic, ...]:
    """A warning for each source, and for the tokenizer, whose files have changed.

    Files are read again only if their size or times changed.

    Args:
        dataset: The prepared dataset.
        spec: The present data section.
        root: Folder of prepared data, which also keeps the hashes.
    """
    digests, diagnostics = Digests(root), list[Diagnostic]()
    folders = {source.name: source.folder for source in dataset.sources}
    keys = [
        (source, read_source(folders[source.name])["recipe"])
        for source in spec.sources
        if source.name in folders
    ]
    for source, key in keys:
        if "files" not in key or not Path(source.path).exists():
            continue
        changes = list(_changes(source, key, digests))
        if not changes:
            continue
        names = ", ".join(map(str, changes[:_NAMED])) + (", ..." if len(changes) > _NAMED else "")
        diagnostics.append(
            Diagnostic(
                "source-changed",
                f"data source {source.name!r}: {len(changes)} of its files changed since its "
                f"tokens were made ({names}); {_CONTINUES}",
                source=source.name,
                files=[change.file for change in changes],
                changes=[change.kind for change in changes],
            )
        )
    digests.save()
    made = {key["tokenizer"].get("sha256") for _, key in keys if "tokenizer" in key}
    path = Path(spec.tokenizer)
    if spec.tokenizer != "bytes" and path.is_file() and made:
        now = hashlib.sha256(path.read_bytes()).hexdigest()
        if made != {now}:
            diagnostics.append(
                Diagnostic(
                    "tokenizer-changed",
                    f"tokenizer {path}: changed since the tokens; {_CONTINUES}",
                    path=path,
                )
            )
    return tuple(diagnostics)


class _Change(NamedTuple):
    """A changed file of a source, and how it changed: changed, gone, new or unreadable."""

    file: str
    kind: str
    text: str

    def __str__(self) -> str:
        return self.text


def _changes(source: Source, key: dict[str, Any], digests: Digests) -> Iterator[_Change]:
    """The files of a source that are changed, gone or new."""
    root = Path(source.path)
    try:
        now = dict(source_files(source))
        for name, size, digest in key["files"]:
            path = now.get(name) or (root / name if root.is_dir() else root)
            if not path.exists():
                yield _Change(name, "gone", f"{name} is gone")
            elif path.stat().st_size != size or (_is_whole(digest) and digests.of(path) != digest):
                yield _Change(name, "changed", name)
        written = key.get("indexes", [])
        if all(map(_is_whole, written)):
            indexes = [index for path in now.values() if written and (index := index_of(path))]
            if [digests.of(index) for index in indexes] != written:
                yield _Change("*.idx", "changed", "an .idx file")
    except (DataError, OSError) as error:
        yield _Change(source.path, "unreadable", f"cannot be read: {error}")
        return
    # Older versions selected the files of a folder by other rules.
    if all(_is_whole(digest) for _, _, digest in key["files"]):
        known = {name for name, _, _ in key["files"]}
        yield from (_Change(name, "new", f"{name} is new") for name in now if name not in known)


def _is_whole(digest: str) -> bool:
    """Whether a digest covers all of a file; those of older manifests do not."""
    return len(digest) == DIGEST_HEX
