"""Text to tokens: documents -> near-duplicates out -> split -> residue -> ids.

Text is spooled to the disk between reading and tokenising, so a source may be larger than memory;
only its validation part and the hashes of its paragraphs are held.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from windtunnel.data.account import Tally
from windtunnel.data.builtin import builtin_documents
from windtunnel.data.duplicates import NearDuplicates
from windtunnel.data.folders import Sides
from windtunnel.data.readers import text_documents
from windtunnel.data.residue import WINDOW_BYTES, repeated_mask, repeated_windows, without_repeats
from windtunnel.data.spec import Source
from windtunnel.data.split import few_documents, split_documents
from windtunnel.data.spool import batches, joined, spooled
from windtunnel.data.tokenizer import Tokenizer
from windtunnel.errors import DataError


def write_text(
    source: Source,
    tokenizer: Tokenizer,
    sides: Sides,
    *,
    spool: Path,
    tally: Tally,
    tell: Callable[[str, int, int | None], None],
) -> float | None:
    """Writes both sides of a text source; returns the residue if measured.

    A builtin also loses repeated paragraphs, and validation paragraphs that training holds. At a
    fraction of 1 the source is a test set and stays as it is.
    """
    train, validation, where = sides.train, sides.validation, f"data source {source.name!r}"
    builtin = source.builtin is not None
    parts = split_documents(
        _novel(source, sides, tally),
        fraction=sides.fraction,
        content=bytes,
        where=where,
        why=lambda: few_documents(tally),
    )

    # Documents lie end to end in the spool, each closed by byte 0.
    held_out: list[bytes] = []
    with spool.open("wb") as file:
        for number, (document, is_validation) in enumerate(parts, start=1):
            if is_validation:
                held_out.append(document)
            else:
                file.write(document + b"\0")
                train.documents += 1
            if number % 256 == 0:
                tell(f"{source.name}: reading documents", number, None)
    if not held_out and not train.documents:
        said = tally.said()
        raise DataError(
            f"{where}: {source.path} holds no text"
            f"{f' ({said} left out)' if said else ''}; give it some"
        )

    residue = None
    if held_out and train.documents:
        tell(f"{source.name}: comparing validation with training", 0, None)
        training = np.memmap(spool, dtype=np.uint8, mode="r")
        repeated = repeated_windows(training, joined(held_out), window=WINDOW_BYTES)
        mask = repeated_mask(joined(held_out), repeated, window=WINDOW_BYTES)
        if builtin:
            held_out = without_repeats(held_out, mask, tally)
            mask = repeated_mask(joined(held_out), repeated, window=WINDOW_BYTES)
        residue = float(mask.mean())
    validation.documents = len(held_out)
    sizes = {train: spool.stat().st_size, validation: len(joined(held_out))}

    for side, documents in ((train, spooled(spool)), (validation, held_out)):
        for batch in batches(documents):
            for encoded in tokenizer.encode(batch, where):
                side.append(encoded.ids)
                sizes[side] -= encoded.count_in(tally)
            if side is train:
                tell(f"{source.name}: writing tokens", train.tokens, None)
        side.text_bytes = sizes[side]
    if train.tokens + validation.tokens == train.documents + validation.documents:
        raise DataError(f"{where}: the tokenizer drops all of its text; take one that knows it")
    spool.unlink()
    return residue


def _novel(source: Source, sides: Sides, tally: Tally) -> Iterator[bytes]:
    """The documents of a source, without near-duplicates."""
    if source.builtin:
        documents = builtin_documents(source.builtin)
        memory = NearDuplicates(drop_repeats=True, tally=tally)
    else:
        documents = text_documents(source, tally)
        if sides.dedup is None:
            return documents
        memory = NearDuplicates(share=sides.dedup, tally=tally)
    return documents if sides.fraction == 1 else filter(None, map(memory.novel, documents))
