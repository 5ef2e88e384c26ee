"""Text to token ids: raw bytes, or a Hugging Face `tokenizer.json`."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from windtunnel.errors import DataError

# Names that published tokenizers give to the end of a document.
END_OF_TEXT_NAMES = (
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|endofdocument|>",
    "<eos>",
    "</s>",
    "[EOS]",
    "<|im_end|>",
    "[SEP]",
)

Ids = npt.NDArray[np.unsignedinteger[Any]]


class Tokenizer(Protocol):
    """What the build needs of a tokenizer."""

    vocab_size: int
    end_id: int

    def recipe(self) -> dict[str, str]:
        """What decides the ids, for hashing."""
        ...

    def encode(self, documents: Sequence[bytes]) -> Iterator[Ids]:
        """Ids of UTF-8 documents, in order, each closed by the separator."""
        ...

    def pieces(self, texts: Sequence[bytes]) -> Iterator[Ids]:
        """Ids of each UTF-8 text, in order, without a separator."""
        ...


class ByteTokenizer:
    """One token per byte; byte 0 ends a document."""

    vocab_size = 256
    end_id = 0

    def recipe(self) -> dict[str, str]:
        """See `Tokenizer`."""
        return {"kind": "bytes"}

    def encode(self, documents: Sequence[bytes]) -> Iterator[Ids]:
        """See `Tokenizer`."""
        if documents:
            yield np.frombuffer(b"\0".join(documents) + b"\0", dtype=np.uint8)

    def pieces(self, texts: Sequence[bytes]) -> Iterator[Ids]:
        """See `Tokenizer`."""
        for text in texts:
            yield np.frombuffer(text, dtype=np.uint8)


class JsonTokenizer:
    """A `tokenizer.json`, with a special token at the end of each document.

    Raises:
        DataError: If the file is missing or damaged, or names no end of text.
    """

    def __init__(self, path: Path, end_of_text: str | None) -> None:
        from tokenizers import Tokenizer as HuggingFace

        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"tokenizer {path}: cannot be read ({error})") from error
        try:
            self._tokenizer = HuggingFace.from_str(text)
        except Exception as error:  # the Rust library raises bare Exception
            raise DataError(f"tokenizer {path}: not a tokenizer.json ({error})") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        vocab = self._tokenizer.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocab.values()) + 1
        names = END_OF_TEXT_NAMES if end_of_text is None else (end_of_text,)
        known = [name for name in names if name in vocab]
        if not known:
            raise DataError(
                f"tokenizer {path}: no token {' or '.join(map(repr, names))} to end a document; "
                "set end_of_text to the token that does"
            )
        self._end, self.end_id = known[0], vocab[known[0]]
        self._sha256 = hashlib.sha256(text.encode()).hexdigest()

    def recipe(self) -> dict[str, str]:
        """See `Tokenizer`."""
        return {"kind": "json", "sha256": self._sha256, "end_of_text": self._end}

    def encode(self, documents: Sequence[bytes]) -> Iterator[Ids]:
        """See `Tokenizer`."""
        for ids in self.pieces(documents):
            yield np.append(ids, np.uint32(self.end_id))

    def pieces(self, texts: Sequence[bytes]) -> Iterator[Ids]:
        """See `Tokenizer`."""
        decoded = [text.decode() for text in texts]
        for encoding in self._tokenizer.encode_batch(decoded, add_special_tokens=False):
            yield np.array(encoding.ids, dtype=np.uint32)


def load_tokenizer(tokenizer: str, *, end_of_text: str | None = None) -> Tokenizer:
    """The tokenizer a study names: `bytes` or the path of a `tokenizer.json`.

    Raises:
        DataError: If the file cannot be used.
    """
    return ByteTokenizer() if tokenizer == "bytes" else JsonTokenizer(Path(tokenizer), end_of_text)
