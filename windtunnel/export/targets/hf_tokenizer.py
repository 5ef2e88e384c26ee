"""The study's tokenizer as transformers' AutoTokenizer reads it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windtunnel.data.tokenizer import ByteTokenizer, JsonTokenizer
from windtunnel.errors import DataError

END = "\0"
"""Byte 0, as text: it ends a document of bytes, and stands for nothing else."""


@dataclass(frozen=True, kw_only=True)
class WrittenTokenizer:
    """The files, the id that ends a text, and whether a text is framed in tokens of its own."""

    files: tuple[Path, ...] = ()
    end_id: int | None = None
    frames: bool = False


def write_tokenizer(
    tokenizer: str, folder: Path, *, vocab_size: int, context: int, end_of_text: str | None
) -> WrittenTokenizer:
    """Write `bytes`, or a tokenizer.json; nothing, where the file is gone.

    Nothing either for `bytes` with another vocabulary: these are ids of a tokenizer that the study
    does not know.
    """
    end: str | None = END
    if tokenizer == "bytes":
        if vocab_size != ByteTokenizer.vocab_size:
            return WrittenTokenizer()
        made = byte_tokenizer()
        text = made.to_str(pretty=True)
    else:
        path = Path(tokenizer)
        if not path.is_file():
            return WrittenTokenizer()
        from tokenizers import Tokenizer

        made = Tokenizer.from_file(str(path))
        end = _end_of(path, end_of_text)
        text = path.read_text(encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        "eos_token": end,
    }
    files = {"tokenizer.json": text, "tokenizer_config.json": json.dumps(config, indent=1) + "\n"}
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    return WrittenTokenizer(
        files=tuple(folder / name for name in files),
        end_id=None if end is None else made.token_to_id(end),
        frames=made.num_special_tokens_to_add(is_pair=False) > 0,
    )


def byte_tokenizer() -> Any:
    """A `tokenizers.Tokenizer` whose ids are the bytes of the text.

    It is byte-level BPE without merges. GPT-2's characters stand for the bytes: themselves where
    printable, the others from 256 on in order; byte 0 is the special token instead.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in printable]
    vocab = {chr(byte): byte for byte in printable}
    vocab |= {chr(256 + place): byte for place, byte in enumerate(others) if byte}
    made = Tokenizer(models.BPE(vocab=vocab | {END: 0}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    return made


def _end_of(path: Path, end_of_text: str | None) -> str | None:
    """The token that ended the study's documents; None where its name is unknown."""
    try:
        return JsonTokenizer(path, end_of_text).cache_key()["end_of_text"]
    except DataError:
        return None
