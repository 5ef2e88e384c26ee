"""From what a study asks to what lies on disk: built once, then opened."""

from pathlib import Path
from typing import Any

from windtunnel.data.build import Progress, build_source
from windtunnel.data.dataset import Dataset
from windtunnel.data.digests import Digests
from windtunnel.data.folders import build_once, digest_of
from windtunnel.data.recipe import recipe_of
from windtunnel.data.spec import DataSpec, Source
from windtunnel.data.tokenizer import load_tokenizer
from windtunnel.data.validation import ValidationSet
from windtunnel.errors import DataError


def prepare(spec: DataSpec, *, root: Path, progress: Progress | None = None) -> Dataset:
    """The dataset of `spec`, built below `root` where it is not there yet.

    Each source is built once in a folder named by its recipe, so another weight or a further
    source rebuilds nothing. Several processes may prepare the same dataset at once.

    Args:
        spec: Sources, tokenizer and split.
        root: Folder of prepared data, such as `<store>/data`; made if missing.
        progress: Called with (stage, done, total or None).

    Raises:
        ConfigError: If the vocabulary is missing or too small.
        DataError: If a source or the tokenizer cannot be used.
    """
    digests = Digests(root)
    recipe = recipe_of(spec, digests=digests, tell=progress)
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
            "vocab_size": max(entry["tokens"]["vocab_size"] for entry in recipe["sources"]),
            "sources": [
                {
                    "name": entry["name"],
                    "weight": entry["weight"],
                    "folder": folders[entry["name"]].name,
                }
                for entry in recipe["sources"]
            ],
        }

    folder = root / digest_of(recipe)
    build_once(folder, write)
    digests.save()
    return Dataset.open(folder)


def prepare_validation(
    source: Source,
    *,
    root: Path,
    tokenizer: str = "bytes",
    vocab_size: int | None = None,
    end_of_text: str | None = None,
    progress: Progress | None = None,
) -> tuple[ValidationSet, ...]:
    """A whole source as a further validation set: nothing is dropped, nothing compared.

    Of pairs there are two sets, of all text and of completions; else there is one.

    Args:
        source: What to evaluate on; its weight is not used.
        root: Folder of prepared data.
        tokenizer: As in the study.
        vocab_size: As in the study.
        end_of_text: As in the study.
        progress: Called with (stage, done, total or None).

    Raises:
        ConfigError: If the vocabulary is missing or too small.
        DataError: If the source or the tokenizer cannot be used, or the source holds no document.
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
        raise DataError(f"data source {source.name!r}: {source.path} holds no tokens")
    return held_out
