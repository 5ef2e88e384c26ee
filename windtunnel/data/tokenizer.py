"""Text to token ids: raw bytes, or a Hugging Face `tokenizer.json`."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from windtunnel.data.account import Tally
from windtunnel.data.lossy import Losses, unknown_id
from windtunnel.errors import DataError, boundary, cause_of

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

_OPENING = 60
"""Characters of a document that a message quotes."""


class Encoded(NamedTuple):
    """Ids, shape (n,), and what of their text they do not stand for."""

    ids: Ids
    unknown: int = 0
    dropped: int = 0
    dropped_bytes: int = 0

    def count_in(self, tally: Tally) -> int:
        """Counts what is lost; returns its bytes."""
        tally.add("unknown-tokens", self.unknown)
        tally.add("dropped-characters", self.dropped, self.dropped_bytes)
        return self.dropped_bytes


class Tokenizer(Protocol):
    """What the build needs of a tokenizer."""

    vocab_size: int
    end_id: int

    def recipe(self) -> dict[str, str]:
        """What decides the ids, for hashing."""
        ...

    def encode(self, documents: Sequence[bytes], where: str) -> Iterator[Encoded]:
        """Ids of UTF-8 documents, in order, each closed by the separator.

        Raises:
            DataError: If a document cannot be encoded; `where` says whose they are.
        """
        ...

    def pieces(self, texts: Sequence[bytes], where: str) -> Iterator[Encoded]:
        """Ids of each UTF-8 text, in order, without a separator.

        Raises:
            DataError: If a text cannot be encoded; `where` says whose they are.
        """
        ...


class ByteTokenizer:
    """One token per byte; byte 0 ends a document."""

    vocab_size = 256
    end_id = 0

    def recipe(self) -> dict[str, str]:
        """See `Tokenizer`."""
        return {"kind": "bytes"}

    def encode(self, documents: Sequence[bytes], where: str) -> Iterator[Encoded]:
        """See `Tokenizer`."""
        if documents:
            yield Encoded(np.frombuffer(b"\0".join(documents) + b"\0", dtype=np.uint8))

    def pieces(self, texts: Sequence[bytes], where: str) -> Iterator[Encoded]:
        """See `Tokenizer`."""
        for text in texts:
            yield Encoded(np.frombuffer(text, dtype=np.uint8))


class JsonTokenizer:
    """A `tokenizer.json`, with a special token at the end of each document.

    Raises:
        DataError: If the file is missing or damaged, has no tokens, or names no end of text.
    """

    def __init__(self, path: Path, end_of_text: str | None) -> None:
        from tokenizers import Tokenizer as HuggingFace

        self._path = path
        where = f"tokenizer {path}"
        fix = "give the tokenizer.json that `save_pretrained` or tokenizers' `save` writes"
        with boundary(where, fix, what="cannot be read"):
            content = path.read_bytes()
            text = content.decode()
        with boundary(where, fix, what="not a tokenizer.json"):
            self._tokenizer = HuggingFace.from_str(text)
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            vocab = self._tokenizer.get_vocab(with_added_tokens=True)
            spec = json.loads(self._tokenizer.to_str())
        if not vocab:
            raise DataError(f"{where}: its vocabulary is empty; train it, or give another")
        with boundary(where, fix, what="not a tokenizer.json"):
            self._losses = Losses(self._tokenizer, spec, vocab)
            self._unknown = unknown_id(spec, vocab)
        self.vocab_size = max(vocab.values()) + 1
        names = END_OF_TEXT_NAMES if end_of_text is None else (end_of_text,)
        known = [name for name in names if name in vocab]
        if not known:
            raise DataError(
                f"{where}: no token {' or '.join(map(repr, names))} to end a document; "
                "set end_of_text to the token that does"
            )
        self._end, self.end_id = known[0], vocab[known[0]]
        self._sha256 = hashlib.sha256(content).hexdigest()

    def recipe(self) -> dict[str, str]:
        """See `Tokenizer`."""
        return {"kind": "json", "sha256": self._sha256, "end_of_text": self._end}

    def encode(self, documents: Sequence[bytes], where: str) -> Iterator[Encoded]:
        """See `Tokenizer`."""
        for each in self.pieces(documents, where):
            yield each._replace(ids=np.append(each.ids, np.uint32(self.end_id)))

    def pieces(self, texts: Sequence[bytes], where: str) -> Iterator[Encoded]:
        """See `Tokenizer`."""
        decoded = [text.decode() for text in texts]
        encodings = self._encodings(decoded, where)
        for encoding, lost in zip(encodings, self._losses.of(decoded), strict=True):
            ids = np.array(encoding.ids, dtype=np.uint32)
            unknown = 0 if self._unknown is None else int(np.count_nonzero(ids == self._unknown))
            yield Encoded(ids, unknown, *lost)

    def _encodings(self, texts: list[str], where: str) -> list[Any]:
        try:
            return self._tokenizer.encode_batch(texts, add_special_tokens=False)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as failed:  # the Rust library raises bare Exception, and panics
            text = next(filter(self._fails, texts), None)
            document = "" if text is None else f": the document that begins {text[:_OPENING]!r}"
            raise DataError(
                f"tokenizer {self._path}: {where}{document}: {cause_of(failed)}; give it an "
                "unknown token that is in its vocabulary, or byte fallback, or take another"
            ) from failed

    def _fails(self, text: str) -> bool:
        try:
            self._tokenizer.encode(text, add_special_tokens=False)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            return True
        return False


def load_tokenizer(tokenizer: str, *, end_of_text: str | None = None) -> Tokenizer:
    """The tokenizer a study names: `bytes` or the path of a `tokenizer.json`.

    Raises:
        DataError: If the file cannot be used.
    """
    return ByteTokenizer() if tokenizer == "bytes" else JsonTokenizer(Path(tokenizer), end_of_text)
