"""Preparation of a study's data: every source is built once, then the dataset is opened.

A source's folder holds `train.bin`, `validation.bin` and `manifest.json`. Pairs add the loss masks
`train.mask.bin` and `validation.mask.bin` with one byte per token. Bit 0 is set where the
completion objective counts the prediction (a completion and its separator), bit 1 at the start of
an example.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from windtunnel.config.data import NEAR_DUPLICATE_SHARE
from windtunnel.data.account import Tally
from windtunnel.data.artifacts import Sides, TokenWriter, build_once, digest_of, read_manifest
from windtunnel.data.cache_key import dataset_cache_key, source_cache_key
from windtunnel.data.dataset import Dataset
from windtunnel.data.dedup import WINDOW_TOKENS, repeated_mask, repeated_windows
from windtunnel.data.digests import Digests
from windtunnel.data.files import index_of, source_files
from windtunnel.data.source import DataSpec, Source
from windtunnel.data.token_files import write_ids
from windtunnel.data.tokenize import write_pairs, write_text
from windtunnel.data.tokenizer import Tokenizer, load_tokenizer
from windtunnel.data.validation import ValidationSet
from windtunnel.errors import ConfigError, DataError

Progress = Callable[[str, int, int | None], None]
"""Called with a stage ('docs: reading documents'), units done and, where known, the total."""


def build_source(
    source: Source,
    tokenizer: Tokenizer,
    *,
    vocab_size: int | None,
    fraction: float,
    root: Path,
    dedup: float | None = NEAR_DUPLICATE_SHARE,
    digests: Digests | None = None,
    progress: Progress | None = None,
) -> Path:
    """The folder of a source's tokens below `root`, built if it is missing.

    Args:
        source: Text files, token files, or a builtin.
        tokenizer: Tokenizer of text.
        vocab_size: Needed for token files; may pad the tokenizer's own for text.
        fraction: Share of documents held out; 1: the whole source, without any exclusion.
        root: Folder of built sources.
        dedup: Share of a document that was read before from which it is dropped; None drops none.
        digests: Hashes of the files, where they are known already.
        progress: Called with the progress.

    Raises:
        ConfigError: If `vocab_size` is missing or below the tokenizer's.
        DataError: The source cannot be read, is empty or cannot be split.
    """
    tell = progress or _silent
    digests = digests or Digests(root)
    cache_key = source_cache_key(
        source,
        tokenizer,
        vocab_size=vocab_size,
        fraction=fraction,
        dedup=dedup,
        digests=digests,
        tell=tell,
    )
    folder = root / digest_of(cache_key)

    def write(unfinished: Path) -> dict[str, Any]:
        vocab = cache_key["vocab_size"]
        dtype = "<u2" if vocab <= 1 << 16 else "<u4"
        train_path, validation_path = unfinished / "train.bin", unfinished / "validation.bin"
        contamination, masks, tally = None, dict[str, dict[str, Any]](), Tally()
        with (
            TokenWriter(train_path, dtype) as train,
            TokenWriter(validation_path, dtype) as validation,
        ):
            sides = Sides(train=train, validation=validation, fraction=fraction, dedup=dedup)
            if cache_key["content"] == "text":
                spill = unfinished / "train.txt"
                contamination = write_text(
                    source, tokenizer, sides, spill=spill, tally=tally, tell=tell
                )
            elif cache_key["content"] == "pairs":
                contamination, masks = write_pairs(
                    source, tokenizer, sides, folder=unfinished, tally=tally, tell=tell
                )
            else:
                write_ids(source, sides, vocab_size=vocab, tally=tally, tell=tell)
        if cache_key["content"] == "tokens" and train.tokens and validation.tokens:
            contamination = _contamination(train_path, validation_path, dtype)
        if not source.builtin:
            _check_unchanged(source, digests)
        return {
            "kind": "source",
            "recipe": cache_key,
            "vocab_size": vocab,
            "dtype": dtype,
            "documents_dropped": tally.count("near-duplicate"),
            "account": tally.as_json(),
            "train": train.summary() | masks.get("train", {}),
            "validation": validation.summary()
            | {"residue": contamination}
            | masks.get("validation", {}),
        }

    build_once(folder, write)
    return folder


def _check_unchanged(source: Source, digests: Digests) -> None:
    """Check that the files still match the cache key."""
    for _, path in source_files(source):
        digests.check_unchanged(path)
        if index := index_of(path):
            digests.check_unchanged(index)


def _contamination(train: Path, validation: Path, dtype: str) -> float:
    held_out = np.memmap(validation, dtype=dtype, mode="r")
    training = np.memmap(train, dtype=dtype, mode="r")
    repeated = repeated_windows(training, held_out, window=WINDOW_TOKENS)
    mask = repeated_mask(held_out, repeated, window=WINDOW_TOKENS)
    return float(mask.mean())


def _silent(stage: str, done: int, total: int | None) -> None:
    pass


def prepare(spec: DataSpec, *, root: Path, progress: Progress | None = None) -> Dataset:
    """The dataset of `spec`, built below `root` if it is missing.

    Each source is built once in a folder named by its cache key, so a new weight or a further
    source rebuilds nothing. Several processes may prepare the same dataset at once.

    Args:
        spec: Sources, tokenizer and split.
        root: Folder of prepared data, such as `<store>/data`; made if missing.
        progress: Called with (stage, done, total or None).

    Raises:
        ConfigError: The vocabulary is missing or too small.
        DataError: A source or the tokenizer cannot be used.
    """
    digests = Digests(root)
    cache_key = dataset_cache_key(spec, digests=digests, tell=progress)
    tokenizer = load_tokenizer(spec.tokenizer, end_of_text=spec.end_of_text)
    folders = {
        source.name: build_source(
            source,
            tokenizer,
            vocab_size=spec.vocab_size,
            fraction=spec.validation_fraction,
            root=root,
            dedup=spec.dedup,
            digests=digests,
            progress=progress,
        )
        for source in sorted(spec.sources, key=lambda source: source.name)
    }

    def write(unfinished: Path) -> dict[str, Any]:
        return {
            "kind": "dataset",
            "vocab_size": max(entry["tokens"]["vocab_size"] for entry in cache_key["sources"]),
            "sources": [
                {
                    "name": entry["name"],
                    "weight": entry["weight"],
                    "folder": folders[entry["name"]].name,
                }
                for entry in cache_key["sources"]
            ],
        }

    folder = root / digest_of(cache_key)
    build_once(folder, write)
    digests.save()
    return Dataset.open(folder)


def find_prepared(spec: DataSpec, *, root: Path) -> Dataset | None:
    """The dataset of `spec` if it is below `root`; nothing is prepared.

    A file is hashed only if some prepared source has files of the same names and sizes. None also
    where a source cannot be read.
    """
    if not root.is_dir():
        return None
    digests = Digests(root)
    try:
        known = {
            tuple((name, size) for name, size, _ in manifest["recipe"]["files"])
            for manifest in _source_manifests(root)
            if "files" in manifest["recipe"]
        }
        for source in spec.sources:
            if source.builtin is None and _names_and_sizes(source) not in known:
                return None
        folder = root / digest_of(dataset_cache_key(spec, digests=digests))
    except (ConfigError, DataError):
        return None
    digests.save()
    return Dataset.open(folder) if folder.is_dir() else None


def _names_and_sizes(source: Source) -> tuple[tuple[str, int], ...]:
    return tuple((name, path.stat().st_size) for name, path in source_files(source))


def _source_manifests(root: Path) -> Iterator[dict[str, Any]]:
    """The undamaged manifests of the sources below `root`."""
    for path in root.glob("[0-9a-f]*/manifest.json"):
        with suppress(DataError):
            yield read_manifest(path.parent, "source")


def prepare_validation(
    source: Source,
    *,
    root: Path,
    tokenizer: str = "bytes",
    vocab_size: int | None = None,
    end_of_text: str | None = None,
    progress: Progress | None = None,
) -> tuple[ValidationSet, ...]:
    """A whole source as a further validation set, without exclusions or deduplication.

    Pairs give two sets: of all text, and of completions.

    Args:
        source: What to evaluate on; its weight is not used.
        root: Folder of prepared data.
        tokenizer: As in the study.
        vocab_size: As in the study.
        end_of_text: As in the study.
        progress: Called with (stage, done, total or None).

    Raises:
        ConfigError: The vocabulary is missing or too small.
        DataError: The source or the tokenizer cannot be used, or the source holds no document.
    """
    digests = Digests(root)
    folder = build_source(
        source,
        load_tokenizer(tokenizer, end_of_text=end_of_text),
        vocab_size=vocab_size,
        fraction=1.0,
        root=root,
        digests=digests,
        progress=progress,
    )
    digests.save()
    held_out = ValidationSet.open(folder, name=source.name)
    if not held_out:
        raise DataError(
            "empty",
            f"data source {source.name!r}: {source.path} holds no tokens",
            source=source.name,
            path=source.path,
        )
    return held_out
