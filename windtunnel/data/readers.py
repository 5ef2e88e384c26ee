"""Text sources as UTF-8 documents: files or folders of text, JSON lines or Parquet."""

from collections.abc import Iterator
from pathlib import Path

from windtunnel.config.data import PAIR_SUFFIXES
from windtunnel.data.account import Tally
from windtunnel.data.files import source_files, suffix_of
from windtunnel.data.json_lines import json_texts
from windtunnel.data.opening import opened
from windtunnel.data.pairs import Pair
from windtunnel.data.parquet import parquet_texts
from windtunnel.data.source import Source
from windtunnel.errors import DataError

# A plain text file is cut at blank lines into documents of about this size, so that one large file
# can be split into training and validation.
DOCUMENT_BYTES = 8192


def text_documents(source: Source, tally: Tally | None = None) -> Iterator[bytes]:
    """The UTF-8 documents of a text source, in order; blank ones are left out.

    Args:
        source: A source of text files.
        tally: Counts what is left out.

    Raises:
        DataError: A file is not UTF-8, not what its suffix says, or lacks the text column.
    """
    tally = tally or Tally()
    for name, path in source_files(source, tally):
        for number, document in enumerate(_documents(path, source.text_column, tally), start=1):
            tally.place = _place(name, number)
            text = _without_nul(document, tally)
            if text.strip():
                yield text
            else:
                tally.add("blank", 1, len(document), example=tally.place)


def text_pairs(source: Source, tally: Tally | None = None) -> Iterator[Pair]:
    """The pairs of a source of JSON lines, in order, without those of a blank completion.

    Args:
        source: Files of JSON lines.
        tally: Counts what is left out.

    Raises:
        DataError: A file is not JSON lines in UTF-8, a line lacks one of the fields, or every
            completion is blank.
    """
    assert source.pairs is not None
    tally, some = tally or Tally(), False
    for name, path in source_files(source, tally):
        for number, texts in enumerate(json_texts(path, source.pairs, tally), start=1):
            tally.place, (prompt, completion) = _place(name, number), texts
            pair = Pair(_without_nul(prompt, tally), _without_nul(completion, tally))
            if pair.completion.strip():
                some = True
                yield pair
            else:
                tally.add("blank", 1, len(pair.prompt) + len(pair.completion))
    if not some:
        missing = tally.count("blank") + tally.count("null")
        raise DataError(
            "empty",
            f"data source {source.name!r}: {source.path}: all {missing} values of field "
            f"{source.pairs[1]!r} are blank; name the field of the completions in `pairs`",
            source=source.name,
            path=source.path,
            field=source.pairs[1],
            blank=missing,
        )


def _place(name: str, number: int) -> str:
    return name if number == 1 else f"{name} document {number}"


def _documents(path: Path, column: str, tally: Tally) -> Iterator[bytes]:
    suffix = suffix_of(path)
    if suffix == ".parquet":
        return parquet_texts(path, column, tally)
    if suffix in PAIR_SUFFIXES:
        return (text for (text,) in json_texts(path, (column,), tally))
    return _text(path)


def _without_nul(text: bytes, tally: Tally) -> bytes:
    """A text without byte 0, which separates documents."""
    if b"\0" not in text:
        return text
    clean = text.replace(b"\0", b"")
    tally.add("nul-bytes", len(text) - len(clean), len(text) - len(clean))
    return clean


def _text(path: Path) -> Iterator[bytes]:
    piece = bytearray()
    start = 0
    with opened(path) as file:
        for line in file:
            piece += line
            at_break = not line.strip() and len(piece) >= DOCUMENT_BYTES
            # A text without blank lines is cut at a line end instead.
            if at_break or len(piece) >= 4 * DOCUMENT_BYTES:
                yield _decoded(piece, path, start)
                start += len(piece)
                piece.clear()
        if piece:
            yield _decoded(piece, path, start)


def _decoded(piece: bytearray, path: Path, start: int) -> bytes:
    # Every piece but the last of a file ends at an LF.
    lone = piece.count(b"\r") - piece.count(b"\r\n")
    few = 2 if len(piece) >= 4 * DOCUMENT_BYTES else 1
    if lone >= few > piece.count(b"\n") and (start == 0 or few > 1):
        raise DataError(
            "cr-line-ends",
            f"{path}: its lines end in CR alone; convert it to LF: tr '\\r' '\\n' < OLD > NEW",
            path=path,
        )
    try:
        text = piece.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            "not-utf8",
            f"{path}: byte {start + error.start} (0x{piece[error.start]:02x}) is not UTF-8; "
            "convert the file to UTF-8",
            path=path,
            byte=start + error.start,
        ) from error
    return text.removeprefix("\ufeff").replace("\r\n", "\n").strip("\n").encode()
