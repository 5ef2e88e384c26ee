"""Text and pairs to tokens: documents, deduplication, split, contamination, ids.

The split is decided by a document's content, not by its position. Training text waits in a spill
file on disk between reading and tokenising, so a source may be larger than memory; only the
validation part and the hashes of paragraphs are in memory. A spill file holds texts end to end,
each ended by byte 0; for pairs, prompts and completions alternate.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from windtunnel.data.account import Tally
from windtunnel.data.artifacts import Sides, TokenWriter
from windtunnel.data.builtin import builtin_doctests, builtin_documents
from windtunnel.data.dedup import (
    CLEAN_SHARE,
    WINDOW_BYTES,
    NearDuplicates,
    repeated_mask,
    repeated_windows,
    without_repeats,
)
from windtunnel.data.pairs import COUNTS, Pair, PairGroup, encode_pairs, joined_ids, mask_file
from windtunnel.data.readers import text_documents, text_pairs
from windtunnel.data.source import Source
from windtunnel.data.tokenizer import Tokenizer
from windtunnel.errors import DataError

Document = TypeVar("Document")


def split_documents(
    documents: Iterable[Document],
    *,
    fraction: float,
    content: Callable[[Document], bytes],
    where: str,
    why: Callable[[], str] = lambda: "give more text, for instance in more files",
) -> Iterator[tuple[Document, bool]]:
    """Each document, and whether it is held out: if hash(content) < fraction.

    If no document falls below the fraction, the one with the lowest hash is held out, so that a
    small source has a validation set too. A fraction of 0 or 1 puts all on one side. `why` is the
    fix in the message where nothing can be split.

    Raises:
        DataError: A fraction above 0 leaves nothing for training or for validation.
    """
    held: tuple[float, Document] | None = None
    validation = training = 0
    for document in documents:
        rank = _rank(content(document))
        if rank < fraction:
            validation += 1
            yield document, True
            continue
        training += 1
        # The lowest so far waits until one falls below the fraction.
        if validation or fraction == 0:
            yield document, False
        elif held is None:
            held = (rank, document)
        elif rank < held[0]:
            yield held[1], False
            held = (rank, document)
        else:
            yield document, False
    if held is not None:
        training -= validation == 0
        yield held[1], validation == 0
    if 0 < fraction < 1 and not training:
        raise DataError(
            "too-few-documents",
            f"{where}: {validation + (held is not None)} document(s) cannot be split into training "
            f"and validation; {why()}",
            where=where,
            documents=validation + (held is not None),
        )


def few_documents(tally: Tally) -> str:
    """The reason why a source has too few documents for a split, and the fix."""
    if dropped := tally.count("near-duplicate"):
        return (
            f"{dropped:,} others were left out as near-duplicates of what was read before; set "
            "data.dedup: off, or to a higher share, or give more text"
        )
    left_out = tally.text()
    reasons = f" (left out: {left_out})" if left_out else ""
    return f"give more text, for instance in more files{reasons}"


def _rank(content: bytes) -> float:
    """A number in [0, 1), uniform over documents."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=6).digest(), "big") / 2**48


def write_text(
    source: Source,
    tokenizer: Tokenizer,
    sides: Sides,
    *,
    spill: Path,
    tally: Tally,
    tell: Callable[[str, int, int | None], None],
) -> float | None:
    """Write both sides of a text source; returns the contamination if measured.

    A builtin also loses repeated paragraphs, and validation paragraphs that occur in training. At a
    fraction of 1 the source is a test set and stays unchanged.
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

    # Documents lie end to end in the spill file, each ended by byte 0.
    held_out: list[bytes] = []
    with spill.open("wb") as file:
        for number, (document, is_validation) in enumerate(parts, start=1):
            if is_validation:
                held_out.append(document)
            else:
                file.write(document + b"\0")
                train.documents += 1
            if number % 256 == 0:
                tell(f"{source.name}: reading documents", number, None)
    if not held_out and not train.documents:
        left_out = tally.text()
        raise DataError(
            "empty",
            f"{where}: {source.path} holds no text"
            f"{f' ({left_out} left out)' if left_out else ''}; give it some",
            source=source.name,
            path=source.path,
        )

    contamination = None
    if held_out and train.documents:
        tell(f"{source.name}: comparing validation with training", 0, None)
        training = np.memmap(spill, dtype=np.uint8, mode="r")
        repeated = repeated_windows(training, _joined(held_out), window=WINDOW_BYTES)
        mask = repeated_mask(_joined(held_out), repeated, window=WINDOW_BYTES)
        if builtin:
            held_out = without_repeats(held_out, mask, tally)
            mask = repeated_mask(_joined(held_out), repeated, window=WINDOW_BYTES)
        contamination = float(mask.mean())
    validation.documents = len(held_out)
    sizes = {train: spill.stat().st_size, validation: len(_joined(held_out))}

    for side, documents in ((train, _read_spill(spill)), (validation, held_out)):
        for batch in _batches(documents):
            for encoded in tokenizer.encode(batch, where):
                side.append(encoded.ids)
                sizes[side] -= encoded.count_in(tally)
            if side is train:
                tell(f"{source.name}: writing tokens", train.tokens, None)
        side.text_bytes = sizes[side]
    if train.tokens + validation.tokens == train.documents + validation.documents:
        raise DataError(
            "tokenizer-drops-all",
            f"{where}: the tokenizer drops all of its text; take one that knows it",
            source=source.name,
        )
    spill.unlink()
    return contamination


def _novel(source: Source, sides: Sides, tally: Tally) -> Iterator[bytes]:
    """Documents of a source without near-duplicates."""
    if source.builtin:
        documents = builtin_documents(source.builtin)
        memory = NearDuplicates(drop_repeats=True, tally=tally)
    else:
        documents = text_documents(source, tally)
        if sides.dedup is None:
            return documents
        memory = NearDuplicates(share=sides.dedup, tally=tally)
    return documents if sides.fraction == 1 else filter(None, map(memory.novel, documents))


_BATCH_PAIRS = 4096


def write_pairs(
    source: Source,
    tokenizer: Tokenizer,
    sides: Sides,
    *,
    folder: Path,
    tally: Tally,
    tell: Callable[[str, int, int | None], None],
) -> tuple[float | None, dict[str, dict[str, Any]]]:
    """Write both sides of a source of pairs, and their masks into `folder`.

    A builtin also loses the validation pairs that occur in training.

    Returns:
        The contamination if measured, and the manifest's entry for the masks.

    Raises:
        DataError: The source cannot be read or split, or holds no pair.
    """
    train, validation = sides.train, sides.validation
    spill, held_out = folder / "train.txt", list[Pair]()
    builtin = source.builtin is not None
    where = f"data source {source.name!r}"
    parts = split_documents(
        _groups(source, sides, tally),
        fraction=sides.fraction,
        content=lambda group: group.content,
        where=where,
        why=lambda: few_documents(tally),
    )
    with spill.open("wb") as file:
        for number, (group, is_validation) in enumerate(parts, start=1):
            if is_validation:
                held_out += group.pairs
            else:
                file.write(_joined(itertools.chain(*group.pairs)).tobytes())
                train.documents += len(group.pairs)
            if number % 256 == 0:
                tell(f"{source.name}: reading documents", number, None)
    if not held_out and not train.documents:
        raise DataError(
            "empty",
            f"{where}: {source.path} holds no pair with a completion; give it some",
            source=source.name,
            path=source.path,
        )

    contamination = None
    if held_out and train.documents:
        tell(f"{source.name}: comparing validation with training", 0, None)
        all_pairs, training = held_out, np.memmap(spill, np.uint8, "r")
        held_out, contamination = _compared(training, all_pairs, clean=builtin)
        lost = _bytes_of(all_pairs) - _bytes_of(held_out)
        tally.add("residue", len(all_pairs) - len(held_out), lost)
    validation.documents = len(held_out)
    texts = _read_spill(spill)
    pairs = map(Pair, texts, texts)
    masks = {
        side: _write(
            each, tokenizer, tokens, mask_file(folder / f"{side}.bin"), tally=tally, where=where
        )
        for side, each, tokens in (("train", pairs, train), ("validation", held_out, validation))
    }
    tell(f"{source.name}: writing tokens", train.tokens, None)
    spill.unlink()
    return contamination, masks


def _compared(
    training: npt.NDArray[np.uint8], held_out: list[Pair], *, clean: bool
) -> tuple[list[Pair], float]:
    """Validation pairs, with `clean` only those outside training, and their contamination."""

    def repeated_bytes(pairs: list[Pair]) -> npt.NDArray[np.bool_]:
        text = _joined(itertools.chain(*pairs))
        return repeated_mask(text, repeated, window=WINDOW_BYTES)

    text = _joined(itertools.chain(*held_out))
    repeated = repeated_windows(training, text, window=WINDOW_BYTES)
    mask = repeated_bytes(held_out)
    if clean:
        sizes = [len(pair.prompt) + len(pair.completion) + 2 for pair in held_out]
        shares = np.add.reduceat(mask, np.cumsum([0, *sizes[:-1]]), dtype=np.int64) / sizes
        held_out = [p for p, share in zip(held_out, shares, strict=True) if share <= CLEAN_SHARE]
        mask = repeated_bytes(held_out)
    return held_out, float(mask.mean()) if len(mask) else 0.0


def _bytes_of(pairs: list[Pair]) -> int:
    return sum(len(pair.prompt) + len(pair.completion) + 1 for pair in pairs)


def _groups(source: Source, sides: Sides, tally: Tally) -> Iterator[PairGroup]:
    """Units of the split, without near-duplicates.

    The units of a builtin are its files, as for the same builtin without pairs, so a file is on the
    same side of both. Other pairs are compared whole, because prompts with a common template are no
    copies.
    """
    if source.builtin:
        groups, memory = builtin_doctests(), NearDuplicates(drop_repeats=True, tally=tally)
    else:
        groups = (PairGroup(b"\n".join(pair), [pair]) for pair in text_pairs(source, tally))
        if sides.dedup is None:
            return groups
        memory = NearDuplicates(whole=True, share=sides.dedup, tally=tally)
    if sides.fraction == 1:
        return groups
    novel = ((memory.novel(group.content), group.pairs) for group in groups)
    return (PairGroup(content, pairs) for content, pairs in novel if content)


def _write(
    pairs: Iterable[Pair],
    tokenizer: Tokenizer,
    tokens: TokenWriter,
    path: Path,
    *,
    tally: Tally,
    where: str,
) -> dict[str, Any]:
    """Write pairs and their mask; returns the manifest's entry for the mask."""
    pairs, text_bytes, completion_bytes, completion_tokens = iter(pairs), 0, 0, 0
    with TokenWriter(path, "u1") as masks:
        while batch := list(itertools.islice(pairs, _BATCH_PAIRS)):
            prompts, completions, mask = encode_pairs(tokenizer, batch, where)
            tokens.append(joined_ids(prompts, completions, tokenizer.end_id))
            masks.append(mask)
            dropped = sum(each.count_in(tally) for each in completions)
            answers = sum(len(pair.completion) + 1 for pair in batch) - dropped
            dropped = sum(each.count_in(tally) for each in prompts)
            text_bytes += answers + sum(len(pair.prompt) for pair in batch) - dropped
            completion_bytes += answers
            completion_tokens += int(np.count_nonzero(mask & COUNTS))
    tokens.text_bytes = text_bytes
    return {
        "mask_sha256": masks.summary()["sha256"],
        "completion_tokens": completion_tokens,
        "completion_bytes": completion_bytes,
    }


_BATCH_BYTES = 1 << 22


def _joined(texts: Iterable[bytes]) -> npt.NDArray[np.uint8]:
    """Texts in the form of a spill file."""
    return np.frombuffer(b"".join(text + b"\0" for text in texts), dtype=np.uint8)


def _read_spill(spill: Path) -> Iterator[bytes]:
    """The texts of a spill file, in order."""
    tail = b""
    with spill.open("rb") as file:
        while chunk := file.read(_BATCH_BYTES):
            *whole, tail = (tail + chunk).split(b"\0")
            yield from whole


def _batches(texts: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Lists of texts, each of about four million bytes."""
    batch: list[bytes] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
