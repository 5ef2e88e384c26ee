"""Token files to tokens: checked against the vocabulary and split, otherwise as they are."""

from collections.abc import Callable

from windtunnel.data.account import Tally
from windtunnel.data.files import source_files
from windtunnel.data.folders import Sides
from windtunnel.data.spec import Source
from windtunnel.data.split import split_documents
from windtunnel.data.token_files import TokenDocument, token_documents


def write_ids(
    source: Source,
    sides: Sides,
    *,
    vocab_size: int,
    tally: Tally,
    tell: Callable[[str, int, int | None], None],
) -> None:
    """Writes both sides of a source of token ids; the bytes behind them stay unknown.

    Raises:
        DataError: If an id is outside the vocabulary, or the source cannot be split.
    """
    paths = [path for _, path in source_files(source, tally)]
    parts = split_documents(
        token_documents(source, paths, tally),
        fraction=sides.fraction,
        content=_content,
        where=f"data source {source.name!r}",
    )
    for number, (document, is_validation) in enumerate(parts, start=1):
        writer = sides.validation if is_validation else sides.train
        writer.append(document.checked(vocab_size))
        writer.documents += 1
        if number % 256 == 0:
            tell(f"{source.name}: reading documents", number, None)


def _content(document: TokenDocument) -> bytes:
    # Wide, so that the split does not depend on the type the file was written in.
    return document.ids.astype("<i8").tobytes()
