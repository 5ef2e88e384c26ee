"""Damaged and odd data files through preparation: tokens that add up, or a file and a cause."""

import gzip
import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from windtunnel.errors import WindtunnelError
from windtunnel.runs.study import Study, open_study

STUDY = """\
study: fuzzed
data:
  sources: [{source}]
  validation: {{fraction: 0.2}}
  {tokenizer}
model: {{sizes: [16x1], head_dim: 16, context: 8}}
recipe: {{lr: 1e-2, base_width: 16, batch_tokens: 128, warmup_steps: 10}}
experiments: [{{kind: scaling, horizons: [110 steps], seeds: 1, hold_out: none}}]
store: {store}
tracking: {{enabled: false}}
"""
WORDS = (
    "a",
    "tree",
    "of",
    "words",
    "größe",
    "naïve",
    "文字",
    "🌲",
    "0",
    "end.",
    "(x)",
    "\t",
    "\n\n",
)
ODD_VALUES: tuple[Any, ...] = (None, 3, 1.5, True, [], ["a"], {"a": "b"}, "", " ", "\0", "\ud800")
ODD_BYTES = (b"\xff\xfe", b"\0", b"\x80", b"\r", b"\xef\xbb\xbf", b"{", b'"', b"\n\n\n", b"\\u0000")


def _text(draw: Any) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(0, 120)))


def _plain(draw: Any) -> bytes:
    return "\n\n".join(_text(draw) for _ in range(draw.randint(0, 60))).encode()


def _lines(draw: Any) -> bytes:
    rows: list[Any] = [{"text": _text(draw), "id": n} for n in range(draw.randint(0, 60))]
    for row in rows:
        if draw.random() < 0.05:
            row["text"] = draw.choice(ODD_VALUES)
    if draw.random() < 0.1:
        rows.append(draw.choice(ODD_VALUES))
    lines = [json.dumps(row) for row in rows]
    if lines and draw.random() < 0.2:
        odd = ('{"text": "a", "n": %s}' % ("9" * 5000), "[" * 9000, '{"text": NaN}', "{}", "")
        lines[draw.randrange(len(lines))] = draw.choice(odd)
    if draw.random() < 0.1:
        return f"[{','.join(lines)}]".encode()
    return "\n".join(lines).encode()


def _parquet(draw: Any) -> bytes:
    import pyarrow
    import pyarrow.parquet

    texts: list[str | None] = [_text(draw) for _ in range(draw.randint(0, 60))]
    if texts and draw.random() < 0.3:
        texts[0] = None
    kinds = ("string", "large_string", "string_view", "binary", "dictionary", "list", "struct")
    kind = draw.choice(kinds)
    column = pyarrow.array(texts, pyarrow.string())
    match kind:
        case "dictionary":
            column = column.dictionary_encode()
        case "list":
            column = pyarrow.array([[each] for each in texts])
        case "struct":
            column = pyarrow.array([{"content": each} for each in texts])
        case _:
            column = column.cast(getattr(pyarrow, kind)())
    sink = io.BytesIO()
    name = draw.choice(("text", "text", "text", "body"))
    pyarrow.parquet.write_table(pyarrow.table({name: column}), sink)
    return sink.getvalue()


def _ids(draw: Any) -> Any:
    rng = np.random.default_rng(draw.randrange(2**32))
    high = draw.choice((256, 256, 1000, 70_000))
    return rng.integers(0, high, draw.randint(0, 20_000))


def _raw(draw: Any) -> bytes:
    return _ids(draw).astype(draw.choice(("<u2", "<u2", "<u4", "<i8", "u1", ">u2"))).tobytes()


def _headed(draw: Any) -> bytes:
    ids = _ids(draw)
    header = np.zeros(256, "<i4")
    header[:3] = (draw.choice((20240520, 20240801, 7)), 1, len(ids) + draw.choice((0, 0, 5)))
    return header.tobytes() + ids.astype("<u2").tobytes()


def _npy(draw: Any) -> bytes:
    ids = _ids(draw).astype(draw.choice(("<u2", "<i4", ">u2", "<f4", "O")))
    if draw.random() < 0.1:
        ids = ids[: len(ids) // 2 * 2].reshape(-1, 2)
    sink = io.BytesIO()
    np.save(sink, ids, allow_pickle=True)
    return sink.getvalue()


def _index(draw: Any, tokens: int) -> bytes:
    """A Megatron index over a file of so many uint16, with some numbers out of place."""
    count = max(1, tokens // 100)
    sizes = np.full(count, 100, "<i4")
    pointers = np.arange(count, dtype="<i8") * 200
    documents = np.arange(count + 1, dtype="<i8")
    for array in (sizes, pointers, documents):
        if draw.random() < 0.3:
            odd = (-1, 0, 1, 10**6, 2**31 - 1)
            array[draw.randrange(len(array))] = draw.choice(odd)
    head = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, count, len(documents))
    return head + sizes.tobytes() + pointers.tobytes() + documents.tobytes()


def _tokenizer(draw: Any) -> bytes:
    """A tokenizer.json of one of five kinds, with some keys changed."""
    vocab = {"<eos>": 0, **{word: n for n, word in enumerate(WORDS[:6], start=1)}}
    vocab |= {letter: len(vocab) + n for n, letter in enumerate("abcdefgh") if letter not in vocab}
    models = {
        "BPE": {"vocab": vocab, "merges": []},
        "WordLevel": {"vocab": vocab, "unk_token": draw.choice(("<eos>", "[UNK]"))},
        "WordPiece": {"vocab": vocab, "unk_token": draw.choice(("<eos>", "[UNK]"))},
        "Unigram": {
            "vocab": [[word, -1.0] for word in vocab],
            "unk_id": draw.choice((None, 0, 99)),
        },
        "Nonsense": {},
    }
    kind = draw.choice(list(models))
    document: dict[str, Any] = {
        "version": "1.0", "added_tokens": [], "normalizer": None, "post_processor": None,
        "pre_tokenizer": draw.choice((None, {"type": "Whitespace"}, {"type": "ByteLevel"})),
        "decoder": None, "model": {"type": kind, **models[kind]},
    }  # fmt: skip
    if draw.random() < 0.2:
        document[draw.choice(list(document))] = draw.choice(ODD_VALUES[:-1])
    elif draw.random() < 0.2:
        document["model"][draw.choice(("vocab", "merges", "unk_token"))] = draw.choice(
            (None, {}, 3)
        )
    return json.dumps(document).encode()


def _damaged(draw: Any, content: bytes) -> bytes:
    if not content or draw.random() < 0.6:
        return content
    place = draw.randrange(len(content))
    match draw.randrange(3):
        case 0:
            return content[:place]
        case 1:
            return content[:place] + bytes([draw.randrange(256)]) + content[place + 1 :]
    return content[:place] + draw.choice(ODD_BYTES) + content[place:]


WRITERS = {
    ".txt": _plain, ".md": _plain, ".TXT": _plain, ".jsonl": _lines, ".json": _lines,
    ".parquet": _parquet, ".bin": _raw, ".BIN": _headed, ".npy": _npy, ".csv": _plain,
}  # fmt: skip
PACKED = {"": bytes, ".gz": lambda content: gzip.compress(content, mtime=0)}


def _write_file(draw: Any, folder: Path, stem: str) -> Path:
    suffix, packing = draw.choice(list(WRITERS)), draw.choice(("", "", "", ".gz"))
    path = folder / f"{stem}{suffix}{packing}"
    content = PACKED[packing](WRITERS[suffix](draw))
    path.write_bytes(_damaged(draw, content))
    if suffix == ".bin" and draw.random() < 0.3:
        index = _damaged(draw, _index(draw, len(content) // 2))
        path.with_suffix(".idx").write_bytes(index)
    return path


def _write_source(draw: Any, folder: Path) -> str:
    """One file, or a folder of some with links; the source as a study file writes it."""
    inner = folder / "corpus"
    inner.mkdir()
    path = _write_file(draw, inner, "part0")
    if draw.random() < 0.4:
        for number in range(1, draw.randint(2, 4)):
            _write_file(draw, inner, f"part{number}")
        (inner / "README.md").write_text("what this is")
        (inner / "again").symlink_to(inner if draw.random() < 0.5 else folder / "nowhere")
        path = inner
    fields = {"path": f"corpus/{path.name}" if path != inner else "corpus"}
    if draw.random() < 0.2:
        fields["text_column"] = draw.choice(("text.content", "body", "nobody", ""))
    if draw.random() < 0.2:
        fields["dtype"] = draw.choice(("uint16", "uint32"))
    if draw.random() < 0.1:
        fields["pairs"] = draw.choice(("[text, id]", "[text, text]", "[a, b]"))
    return "{" + ", ".join(f"{key}: {value!r}" if key != "pairs" else f"{key}: {value}"
                           for key, value in fields.items()) + "}"  # fmt: skip


def _prepared(study: Path) -> tuple[Study | None, str]:
    """The study with its data, or why it has none; any other exception is a fault."""
    try:
        return open_study(study, prepared=True), ""
    except WindtunnelError as problem:
        return None, str(problem)


@pytest.mark.medium
def test_odd_data_is_prepared_whole_or_refused_by_name(cases, tmp_path):
    refused = prepared = 0
    names = ("corpus", "tokenizer.json", "words", "vocab_size", "part0", "hparams")
    for number, draw in enumerate(cases("data")):
        folder = tmp_path / f"case{number}"
        folder.mkdir()
        source, tokenizer = _write_source(draw, folder), ""
        if draw.random() < 0.3:
            (folder / "tokenizer.json").write_bytes(_damaged(draw, _tokenizer(draw)))
            tokenizer = "tokenizer: tokenizer.json"
        elif draw.random() < 0.5:
            tokenizer = "vocab_size: 256"
        file = folder / "hparams.yaml"
        file.write_text(STUDY.format(source=source, tokenizer=tokenizer, store="store"))
        study, problem = _prepared(file)
        case = f"case {number}: {source} {tokenizer}"
        if study is None or study.dataset is None:
            refused += 1
            assert any(name in problem for name in names), (case, problem)
            continue
        prepared += 1
        for each in study.dataset.sources:
            assert each.tokens > 0, case
            if tokenizer != "tokenizer: tokenizer.json" and each.bytes is not None:
                assert each.bytes == each.tokens, case
    assert refused
    assert prepared
