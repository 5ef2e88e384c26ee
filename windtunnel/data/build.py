"""One source, made once: a folder of `train.bin`, `validation.bin` and `manifest.json`.

Beside the tokens of pairs lie `train.mask.bin` and `validation.mask.bin`, one byte a token: bit 0
is set where its prediction counts under the completion objective (a completion and its separator),
bit 1 where an example opens.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from windtunnel.data.folders import Sides, TokenWriter, build_once, digest_of
from windtunnel.data.from_ids import write_ids
from windtunnel.data.from_pairs import write_pairs
from windtunnel.data.from_text import write_text
from windtunnel.data.recipe import source_recipe
from windtunnel.data.residue import WINDOW_TOKENS, repeated_mask, repeated_windows
from windtunnel.data.spec import Source
from windtunnel.data.tokenizer import Tokenizer

Progress = Callable[[str, int, int | None], None]
"""Called with a stage ('docs: reading documents'), units done and, where known, the total."""


def build_source(
    source: Source,
    tokenizer: Tokenizer,
    *,
    vocab_size: int | None,
    fraction: float,
    root: Path,
    progress: Progress | None = None,
) -> Path:
    """The folder of a source's tokens below `root`, built if it is not there.

    Args:
        source: Text files, token files, or a builtin.
        tokenizer: For text.
        vocab_size: Needed for token files; may pad the tokenizer's own for text.
        fraction: Share of documents for validation; 1 makes all of it a validation set, as it is.
        root: Where built folders lie.
        progress: Told how far it is.

    Raises:
        ConfigError: If `vocab_size` is missing or below the tokenizer's.
        DataError: If the source cannot be read, is empty or cannot be split.
    """
    tell = progress or _silent
    recipe = source_recipe(source, tokenizer, vocab_size=vocab_size, fraction=fraction)
    folder = root / digest_of(recipe)

    def write(unfinished: Path) -> dict[str, Any]:
        vocab = recipe["vocab_size"]
        dtype = "<u2" if vocab <= 1 << 16 else "<u4"
        train_path, validation_path = unfinished / "train.bin", unfinished / "validation.bin"
        dropped, residue, masks = 0, None, dict[str, dict[str, Any]]()
        with (
            TokenWriter(train_path, dtype) as train,
            TokenWriter(validation_path, dtype) as validation,
        ):
            sides = Sides(train=train, validation=validation, fraction=fraction)
            if recipe["content"] == "text":
                spool = unfinished / "train.txt"
                dropped, residue = write_text(source, tokenizer, sides, spool=spool, tell=tell)
            elif recipe["content"] == "pairs":
                dropped, residue, masks = write_pairs(
                    source, tokenizer, sides, folder=unfinished, tell=tell
                )
            else:
                write_ids(source, sides, vocab_size=vocab, tell=tell)
        if recipe["content"] == "tokens" and train.tokens and validation.tokens:
            residue = _residue(train_path, validation_path, dtype)
        return {
            "kind": "source",
            "recipe": recipe,
            "vocab_size": vocab,
            "dtype": dtype,
            "documents_dropped": dropped,
            "train": train.summary() | masks.get("train", {}),
            "validation": validation.summary() | {"residue": residue} | masks.get("validation", {}),
        }

    build_once(folder, write)
    return folder


def _residue(train: Path, validation: Path, dtype: str) -> float:
    held_out = np.memmap(validation, dtype=dtype, mode="r")
    training = np.memmap(train, dtype=dtype, mode="r")
    repeated = repeated_windows(training, held_out, window=WINDOW_TOKENS)
    mask = repeated_mask(held_out, repeated, window=WINDOW_TOKENS)
    return float(mask.mean())


def _silent(stage: str, done: int, total: int | None) -> None:
    pass
