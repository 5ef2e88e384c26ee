"""Text sources: files or folders of text, JSON lines or Parquet, read as UTF-8 documents."""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from windtunnel.data.pairs import Pair
from windtunnel.data.spec import Source
from windtunnel.errors import DataError
from windtunnel.spec.data import PAIR_SUFFIXES, PLAIN_SUFFIXES, TOKEN_SUFFIXES

TEXT_SUFFIXES = (*PLAIN_SUFFIXES, *PAIR_SUFFIXES)
# A plain text file is cut at blank lines into documents of about this size, so that one large file
# can be split into training and validation.
DOCUMENT_BYTES = 8192


def source_files(source: Source) -> list[tuple[str, Path]]:
    """Files of a source with their names relative to it, in order of name.

    Raises:
        DataError: If the path is missing, holds no readable file, mixes text with token files,
            a file is empty, or pairs are asked for from other files than JSON lines.
    """
    root = Path(source.path)
    where = f"data source {source.name!r}"
    allowed = f"readable are {', '.join(TEXT_SUFFIXES + TOKEN_SUFFIXES)}"
    if not root.exists():
        raise DataError(f"{where}: {root} does not exist; check the path")
    if root.is_dir():
        found = [path for path in sorted(root.rglob("*")) if path.is_file() and _readable(path)]
        if not found:
            raise DataError(f"{where}: folder {root} holds no readable file; {allowed}")
        named = sorted((path.relative_to(root).as_posix(), path) for path in found)
    elif _readable(root):
        named = [(root.name, root)]
    else:
        raise DataError(f"{where}: {root} has an unknown suffix; {allowed}")
    if len({path.suffix in TOKEN_SUFFIXES for _, path in named}) > 1:
        raise DataError(f"{where}: {root} mixes text and token files; make them two sources")
    for _, path in named:
        if path.stat().st_size == 0:
            raise DataError(f"{where}: {path} is empty; remove it or fill it")
        if source.pairs is not None and not path.name.lower().endswith(PAIR_SUFFIXES):
            raise DataError(
                f"{where}: pairs = {list(source.pairs)}, but {path} holds no JSON lines; allowed "
                f"with pairs are {', '.join(PAIR_SUFFIXES)}: convert it, or remove pairs"
            )
    return named


def is_tokenised(files: list[tuple[str, Path]]) -> bool:
    """Whether the files hold token ids rather than text."""
    return files[0][1].suffix in TOKEN_SUFFIXES


def text_documents(source: Source) -> Iterator[bytes]:
    """The UTF-8 documents of a text source, in order; blank ones are left out.

    Raises:
        DataError: If a file is not UTF-8, not what its suffix says, or lacks the text column.
    """
    for _, path in source_files(source):
        if path.suffix in (".txt", ".md"):
            documents = _text(path)
        elif path.suffix == ".parquet":
            documents = _parquet(path, source.text_column)
        else:
            documents = (text for (text,) in _json_lines(path, (source.text_column,)))
        # Byte 0 separates documents, so it cannot stand inside one.
        clean = (document.replace(b"\0", b"") for document in documents)
        yield from (document for document in clean if document.strip())


def text_pairs(source: Source) -> Iterator[Pair]:
    """The pairs of a source of JSON lines, in order; those of a blank completion are left out.

    Raises:
        DataError: If a file is not JSON lines in UTF-8, a line lacks one of the fields, or every
            completion is blank.
    """
    assert source.pairs is not None
    blank, some = 0, False
    for _, path in source_files(source):
        for prompt, completion in _json_lines(path, source.pairs):
            pair = Pair(prompt.replace(b"\0", b""), completion.replace(b"\0", b""))
            if pair.completion.strip():
                some = True
                yield pair
            else:
                blank += 1
    if not some:
        raise DataError(
            f"data source {source.name!r}: {source.path}: all {blank} values of field "
            f"{source.pairs[1]!r} are blank; name the field of the completions in `pairs`"
        )


def _readable(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return not hidden and path.name.lower().endswith(TEXT_SUFFIXES + TOKEN_SUFFIXES)


def _text(path: Path) -> Iterator[bytes]:
    piece = bytearray()
    start = 0
    with path.open("rb") as file:
        for line in file:
            piece += line
            at_break = not line.strip() and len(piece) >= DOCUMENT_BYTES
            # A text without blank lines is cut at a line end instead.
            if at_break or len(piece) >= 4 * DOCUMENT_BYTES:
                yield _decoded(piece, path, start)
                start += len(piece)
                piece.clear()
    yield _decoded(piece, path, start)


def _decoded(piece: bytearray, path: Path, start: int) -> bytes:
    try:
        text = piece.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {start + error.start} (0x{piece[error.start]:02x}) is not UTF-8; "
            "convert the file to UTF-8"
        ) from error
    return text.removeprefix("\ufeff").replace("\r\n", "\n").strip("\n").encode()


def _json_lines(path: Path, columns: tuple[str, ...]) -> Iterator[list[bytes]]:
    try:
        with _opened(path) as file:
            yield from _json_texts(file, path, columns)
    except _damage(path) as error:
        raise DataError(
            f"{path}: cannot be decompressed or read ({error}); is it whole?"
        ) from error


def _json_texts(
    lines: Iterable[bytes], path: Path, columns: tuple[str, ...]
) -> Iterator[list[bytes]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record: Any = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path}:{number}: not a line of JSON in UTF-8: {error}") from error
        fields = record if isinstance(record, dict) else {}
        for column in columns:
            if not isinstance(fields.get(column), str):
                keys = ", ".join(map(repr, fields)) or "no fields"
                raise DataError(
                    f"{path}:{number}: no text in field {column!r}; the line has {keys}; "
                    f"{_right_fields(fields, columns)}"
                )
        # A lone surrogate escape cannot be written as UTF-8 and becomes a question mark.
        yield [fields[column].encode("utf-8", "replace") for column in columns]


def _right_fields(fields: dict[str, Any], columns: tuple[str, ...]) -> str:
    if len(columns) == 2:
        return "set pairs to the fields that hold a prompt and its completion"
    if {"prompt", "completion"} <= fields.keys():
        return "set pairs: [prompt, completion]"
    return "set text_column to the field that holds the text"


def _damage(path: Path) -> tuple[type[Exception], ...]:
    """What reading a damaged file of this kind raises."""
    if path.suffix == ".zst":
        import zstandard

        return (OSError, zstandard.ZstdError)
    return (OSError, EOFError, zlib.error)


def _opened(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return cast("BinaryIO", gzip.open(path, "rb"))
    if path.suffix == ".zst":
        import io

        import zstandard

        reader = zstandard.ZstdDecompressor().stream_reader(
            path.open("rb"), read_across_frames=True, closefd=True
        )
        return io.BufferedReader(reader)
    return path.open("rb")


def _parquet(path: Path, column: str) -> Iterator[bytes]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: not a Parquet file ({error})") from error
    with file:
        schema = file.schema_arrow
        if column not in schema.names:
            raise DataError(
                f"{path}: no column {column!r}; it has {', '.join(map(repr, schema.names))}; "
                "set text_column to one of them"
            )
        kind = schema.field(column).type
        if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
            raise DataError(f"{path}: column {column!r} holds {kind}; a text column is needed")
        for batch in file.iter_batches(columns=[column], batch_size=1024):
            for text in batch.column(0).to_pylist():
                if text is not None:
                    yield text.encode("utf-8", "replace")
