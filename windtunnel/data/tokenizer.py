"""Text to token ids: raw bytes, or a Hugging Face `tokenizer.json`.

Some tokenizers drop characters: a BPE without an unknown token and without byte fallback skips
those it does not know, and some pre-tokenizers and normalizers delete text. No token stands for
these bytes, so they must not enter nats per byte. Only for such tokenizers are offsets examined.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from windtunnel.data.account import Tally
from windtunnel.errors import DataError, boundary, cause_of

# Names of the end of a document in published tokenizers.
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
    """Token ids, shape (n,), and the text that they do not represent."""

    ids: Ids
    unknown: int = 0
    dropped: int = 0
    dropped_bytes: int = 0

    def count_in(self, tally: Tally) -> int:
        """Count the lost text in a tally; returns its bytes."""
        tally.add("unknown-tokens", self.unknown)
        tally.add("dropped-characters", self.dropped, self.dropped_bytes)
        return self.dropped_bytes


class Tokenizer(Protocol):
    """The interface of a tokenizer."""

    vocab_size: int
    end_id: int

    def cache_key(self) -> dict[str, str]:
        """Everything that decides the ids, for hashing."""
        ...

    def encode(self, documents: Sequence[bytes], where: str) -> Iterator[Encoded]:
        """Ids of UTF-8 documents, in order, each closed by the separator.

        Raises:
            DataError: A document cannot be encoded; `where` says whose they are.
        """
        ...

    def pieces(self, texts: Sequence[bytes], where: str) -> Iterator[Encoded]:
        """Ids of each UTF-8 text, in order, without a separator.

        Raises:
            DataError: A text cannot be encoded; `where` says whose they are.
        """
        ...


class ByteTokenizer:
    """One token per byte; byte 0 ends a document."""

    vocab_size = 256
    end_id = 0

    def cache_key(self) -> dict[str, str]:
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
        DataError: The file is missing or damaged, has no tokens, or names no end of text.
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
            raise DataError(
                "empty", f"{where}: its vocabulary is empty; train it, or give another", path=path
            )
        with boundary(where, fix, what="not a tokenizer.json"):
            self._losses = Losses(self._tokenizer, spec, vocab)
            self._unknown = unknown_id(spec, vocab)
        self.vocab_size = max(vocab.values()) + 1
        names = END_OF_TEXT_NAMES if end_of_text is None else (end_of_text,)
        known = [name for name in names if name in vocab]
        if not known:
            raise DataError(
                "unknown-token",
                f"{where}: no token {' or '.join(map(repr, names))} to end a document; "
                "set end_of_text to the token that does",
                path=path,
                tokens=names,
            )
        self._end, self.end_id = known[0], vocab[known[0]]
        self._sha256 = hashlib.sha256(content).hexdigest()

    def cache_key(self) -> dict[str, str]:
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
                "cannot-encode",
                f"tokenizer {self._path}: {where}{document}: {cause_of(failed)}; give it an "
                "unknown token that is in its vocabulary, or byte fallback, or take another",
                path=self._path,
                where=where,
                text=text and text[:_OPENING],
                cause=cause_of(failed),
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
    """The tokenizer of a study: `bytes` or the path of a `tokenizer.json`.

    Raises:
        DataError: The file cannot be used.
    """
    return ByteTokenizer() if tokenizer == "bytes" else JsonTokenizer(Path(tokenizer), end_of_text)


_REMOVING_SPLITS = {"Whitespace", "WhitespaceSplit", "BertPreTokenizer", "CharDelimiterSplit"}
_DROPPED = "<|dropped by this tokenizer|>"
_REMOVING_NORMALIZERS = {"Strip", "StripAccents", "Nmt", "Precompiled", "BertNormalizer"}


class Losses:
    """Counter of characters that a tokenizer drops.

    Args:
        tokenizer: The tokenizer, of the `tokenizers` library.
        spec: The content of its `tokenizer.json`.
        vocab: Its tokens, added ones included.
    """

    def __init__(self, tokenizer: Any, spec: dict[str, Any], vocab: Mapping[str, int]) -> None:
        splits = list(_parts(spec.get("pre_tokenizer"), "pretokenizers"))
        normalizers = list(_parts(spec.get("normalizer"), "normalizers"))
        self._of_bytes = any(each["type"] == "ByteLevel" for each in (*splits, *normalizers))
        self._unknown = -1
        model_drops = self._model_drops(spec["model"], vocab)
        self.possible = (
            model_drops
            or any(each["type"] in _REMOVING_SPLITS or _removes(each) for each in splits)
            or any(each["type"] in _REMOVING_NORMALIZERS or _deletes(each) for each in normalizers)
        )
        # Post-processors trim offsets, and a model that drops characters shifts them: those after
        # a dropped one are too far left. An unknown token in its place makes them right.
        counting = spec | {"post_processor": None}
        if model_drops:
            self._unknown = max(vocab.values()) + 1
            known = {**spec["model"]["vocab"], _DROPPED: self._unknown}
            model = {"vocab": known, "unk_token": _DROPPED, "fuse_unk": False}
            counting["model"] = spec["model"] | model
        if self.possible:
            self._counting = type(tokenizer).from_str(json.dumps(counting))

    def of(self, texts: list[str]) -> list[tuple[int, int]]:
        """Dropped characters of each text, and their UTF-8 bytes."""
        if not self.possible:
            return [(0, 0)] * len(texts)
        encodings = self._counting.encode_batch(texts, add_special_tokens=False)
        return [self._lost(text, each) for text, each in zip(texts, encodings, strict=True)]

    def _lost(self, text: str, encoding: Any) -> tuple[int, int]:
        offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        dropped = np.array(encoding.ids, dtype=np.int64) == self._unknown
        lost = _outside(text, offsets[~dropped])
        sizes = _utf8_sizes(text)
        if not self._of_bytes:
            return int(np.count_nonzero(lost)), int(sizes[lost].sum())
        # Here tokens are bytes, so a character may be dropped in part.
        removed = _outside(text, offsets)
        return int(np.count_nonzero(lost)), int(sizes[removed].sum() + np.count_nonzero(dropped))

    def _model_drops(self, model: Mapping[str, Any], vocab: Mapping[str, int]) -> bool:
        if model.get("type", "BPE") != "BPE" or model.get("unk_token") is not None:
            return False
        if model.get("byte_fallback") and all(f"<0x{byte:02X}>" in vocab for byte in range(256)):
            return False
        return not (self._of_bytes and _alphabet() <= vocab.keys())


def unknown_id(spec: Mapping[str, Any], vocab: Mapping[str, int]) -> int | None:
    """Id of the unknown token, if there is one."""
    model = spec["model"]
    if model.get("type") == "Unigram":
        unknown = model.get("unk_id")
        return None if unknown is None else int(unknown)
    return vocab.get(model.get("unk_token") or "")


def _outside(text: str, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Characters of a text that lie in no token."""
    edges = np.zeros(len(text) + 1, dtype=np.int64)
    np.add.at(edges, offsets[:, 0], 1)
    np.add.at(edges, offsets[:, 1], -1)
    return np.cumsum(edges)[:-1] <= 0


def _utf8_sizes(text: str) -> npt.NDArray[np.int64]:
    """Bytes of each character of a text."""
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    sizes = np.ones(len(points), dtype=np.int64)
    for least in (0x80, 0x800, 0x10000):
        sizes += points >= least
    return sizes


def _parts(part: Any, within: str) -> Iterator[Mapping[str, Any]]:
    """The components of a tokenizer part: itself, or those of a sequence."""
    if not part:
        return
    if part["type"] == "Sequence":
        for each in part[within]:
            yield from _parts(each, within)
    else:
        yield part


def _removes(split: Mapping[str, Any]) -> bool:
    return split.get("behavior") == "Removed"


def _deletes(normalizer: Mapping[str, Any]) -> bool:
    """Whether a replacement deletes text, or may: a pattern can match more than it inserts."""
    if normalizer["type"] != "Replace":
        return False
    return "Regex" in normalizer["pattern"] or not normalizer["content"]


def _alphabet() -> set[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return set(ByteLevel.alphabet())
