"""Text to tokens: documents -> near-duplicates out -> split -> residue -> ids.

Text is spooled to the disk between reading and tokenising, so a source may be larger than memory;
only its validation part and the hashes of its paragraphs are held.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from windtunnel.data.builtin import builtin_documents
from windtunnel.data.duplicates import NearDuplicates
from windtunnel.data.folders import Sides
from windtunnel.data.readers import text_documents
from windtunnel.data.residue import WINDOW_BYTES, repeated_mask, repeated_windows, without_repeats
from windtunnel.data.spec import Source
from windtunnel.data.split import split_documents
from windtunnel.data.spool import batches, joined, spooled
from windtunnel.data.tokenizer import Tokenizer
from windtunnel.errors import DataError


def write_text(
    source: Source,
    tokenizer: Tokenizer,
    sides: Sides,
    *,
    spool: Path,
    tell: Callable[[str, int, int | None], None],
) -> tuple[int, float | None]:
    """Writes both sides of a text source; returns documents dropped, and the residue if measured.

    A builtin also loses repeated paragraphs, and validation paragraphs that training holds. At a
    fraction of 1 the source is a test set and stays as it is.
    """
    train, validation = sides.train, sides.validation
    builtin = source.builtin is not None
    memory = None if sides.fraction == 1 else NearDuplicates(drop_repeats=builtin)
    documents = _documents(source)
    if memory is not None:
        documents = filter(None, map(memory.novel, documents))
    parts = split_documents(
        documents, fraction=sides.fraction, content=bytes, where=f"data source {source.name!r}"
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
        raise DataError(f"data source {source.name!r}: {source.path} holds no text; give it some")

    train.text_bytes = spool.stat().st_size
    residue = None
    if held_out and train.documents:
        tell(f"{source.name}: comparing validation with training", 0, None)
        training = np.memmap(spool, dtype=np.uint8, mode="r")
        repeated = repeated_windows(training, joined(held_out), window=WINDOW_BYTES)
        mask = repeated_mask(joined(held_out), repeated, window=WINDOW_BYTES)
        if builtin:
            held_out = without_repeats(held_out, mask)
            mask = repeated_mask(joined(held_out), repeated, window=WINDOW_BYTES)
        residue = float(mask.mean())
    validation.documents = len(held_out)
    validation.text_bytes = len(joined(held_out))

    for batch in batches(spooled(spool)):
        for ids in tokenizer.encode(batch):
            train.append(ids)
        tell(f"{source.name}: writing tokens", train.tokens, None)
    for batch in batches(held_out):
        for ids in tokenizer.encode(batch):
            validation.append(ids)
    spool.unlink()
    return (0 if memory is None else memory.dropped), residue


def _documents(source: Source) -> Iterator[bytes]:
    return builtin_documents(source.builtin) if source.builtin else text_documents(source)
