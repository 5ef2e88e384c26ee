"""Tokenizers that do not stand for all of a text: which can drop characters, and how many.

A BPE without an unknown token and without byte fallback passes over characters that it does not
know, and some pre-tokenizers and normalizers take characters out. The bytes of such characters are
behind no token, so they must not be in nats per byte. Only for these are offsets looked at.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

_REMOVING_SPLITS = {"Whitespace", "WhitespaceSplit", "BertPreTokenizer", "CharDelimiterSplit"}
_DROPPED = "<|dropped by this tokenizer|>"
_REMOVING_NORMALIZERS = {"Strip", "StripAccents", "Nmt", "Precompiled", "BertNormalizer"}


class Losses:
    """Counts the characters of texts that a tokenizer leaves behind no token.

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
        # a dropped one lie too far left. With an unknown token in its place they are right.
        counting = spec | {"post_processor": None}
        if model_drops:
            self._unknown = max(vocab.values()) + 1
            known = {**spec["model"]["vocab"], _DROPPED: self._unknown}
            model = {"vocab": known, "unk_token": _DROPPED, "fuse_unk": False}
            counting["model"] = spec["model"] | model
        if self.possible:
            self._counting = type(tokenizer).from_str(json.dumps(counting))

    def of(self, texts: list[str]) -> list[tuple[int, int]]:
        """Of each text, the characters that are behind no token, and their UTF-8 bytes."""
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
        # Here a token is of bytes, of which some of a character may be dropped and others not.
        removed = _outside(text, offsets)
        return int(np.count_nonzero(lost)), int(sizes[removed].sum() + np.count_nonzero(dropped))

    def _model_drops(self, model: Mapping[str, Any], vocab: Mapping[str, int]) -> bool:
        if model.get("type", "BPE") != "BPE" or model.get("unk_token") is not None:
            return False
        if model.get("byte_fallback") and all(f"<0x{byte:02X}>" in vocab for byte in range(256)):
            return False
        return not (self._of_bytes and _alphabet() <= vocab.keys())


def unknown_id(spec: Mapping[str, Any], vocab: Mapping[str, int]) -> int | None:
    """The id that stands for what a tokenizer does not know, if it has one."""
    model = spec["model"]
    if model.get("type") == "Unigram":
        unknown = model.get("unk_id")
        return None if unknown is None else int(unknown)
    return vocab.get(model.get("unk_token") or "")


def _outside(text: str, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which characters of a text lie in no token."""
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
    """A part of a tokenizer, or those that a sequence of them joins."""
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
    """Whether a replacement takes text out, or may: a pattern can match more than it puts there."""
    if normalizer["type"] != "Replace":
        return False
    return "Regex" in normalizer["pattern"] or not normalizer["content"]


def _alphabet() -> set[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return set(ByteLevel.alphabet())
