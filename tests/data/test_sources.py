import gzip
import json
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from windtunnel.data import DataSpec, Source, prepare, prepare_validation
from windtunnel.data.readers import DOCUMENT_BYTES, text_documents
from windtunnel.data.token_files import BLOCK_TOKENS
from windtunnel.errors import ConfigError

TEXTS = ["one fish", "two fish", "über\nfish"]
LINES = "".join(json.dumps({"text": text, "id": 1}) + "\n" for text in TEXTS).encode()


def read(path, **kwargs):
    source = Source(name="s", path=str(path), **kwargs)
    return [document.decode() for document in text_documents(source)]


def write_parquet(path):
    pq.write_table(pa.table({"text": [*TEXTS, None], "url": [1, 2, 3, 4]}), path)


WRITERS = {
    "a.jsonl": lambda path: path.write_bytes(LINES),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(LINES)),
    "a.jsonl.zst": lambda path: path.write_bytes(zstandard.compress(LINES)),
    "a.parquet": write_parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_record_format_gives_the_same_documents(tmp_path, name):
    WRITERS[name](tmp_path / name)
    assert read(tmp_path / name) == TEXTS
    assert read(tmp_path) == TEXTS


def test_text_files_come_in_order_of_name_without_blank_ones(tmp_path):
    (tmp_path / "b.md").write_bytes(b"second\r\nline")
    (tmp_path / "a.txt").write_text("\ufefffirst")
    (tmp_path / "c.txt").write_text(" \n ")
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "d.pdf").write_text("no")
    assert read(tmp_path) == ["first", "second\nline"]


def test_a_large_text_file_is_cut_at_blank_lines_and_loses_nothing(tmp_path):
    paragraphs = [f"paragraph {i} " + "x" * 500 for i in range(100)]
    (tmp_path / "a.txt").write_text("\n\n".join(paragraphs))
    documents = read(tmp_path / "a.txt")
    assert len(documents) == 7  # 16 paragraphs of 517 bytes reach 8192
    assert all(DOCUMENT_BYTES - 4 <= len(d) <= DOCUMENT_BYTES + 600 for d in documents[:-1])
    assert "\n\n".join(documents).split("\n\n") == paragraphs


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", None, ("missing-file", {})),
        ("a.txt", b"", ("empty", {})),
        ("a.doc", b"x", ("unknown-format", {"suffix": ".doc"})),
        ("a.txt", b"a" * 10 + b"\nbc\xff", ("not-utf8", {"byte": 13})),
        ("a.txt", b"a\n\n" * 5000 + b"\xe9\n", ("not-utf8", {"byte": 15000})),
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', ("not-json", {"line": 2})),
        ("a.jsonl", b'{"text": "\xff"}\n', ("not-json", {"line": 1})),
        (
            "a.jsonl",
            b'{"body": "x", "n": 1}\n',
            ("unknown-column", {"column": "text", "known": ["body", "n"]}),
        ),
        ("a.jsonl", b'{"text": 3}\n', ("wrong-type", {"column": "text", "type": "a number"})),
        ("a.jsonl", b"[1]\n", ("unknown-column", {"column": "text", "known": []})),
        ("a.jsonl.gz", gzip.compress(LINES * 100, mtime=0)[:-20], ("unreadable", {})),
        ("a.jsonl.gz", b"plain", ("unreadable", {})),
        ("a.jsonl.zst", b"plain", ("unreadable", {})),
        ("a.parquet", b"plain", ("unreadable", {})),
    ],
)
def test_unreadable_sources_say_where_and_what(tmp_path, refuses, name, content, expected):
    code, values = expected
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with refuses(code, **values) as caught:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_parquet_columns_are_named(tmp_path, refuses):
    write_parquet(tmp_path / "a.parquet")
    with refuses("unknown-column", column="body", known=["text", "url"]):
        read(tmp_path / "a.parquet", text_column="body")
    with refuses("wrong-type", column="url", type="int64"):
        read(tmp_path / "a.parquet", text_column="url")


def test_folders_without_or_with_mixed_files_are_refused(tmp_path, refuses):
    with refuses("no-readable-file", path=tmp_path):
        read(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    np.save(tmp_path / "b.npy", np.arange(3))
    with refuses("mixed-files", path=tmp_path):
        read(tmp_path)


# --- token files ----------------------------------------------------------------------------------

IDS = np.random.default_rng(0).integers(0, 5000, size=40 * BLOCK_TOKENS + 5)


def prepare_ids(path, root, *, vocab_size=5000, fraction=0.1, **kwargs):
    return prepare(
        DataSpec(
            sources=(Source(name="ids", path=str(path), **kwargs),),
            vocab_size=vocab_size,
            validation_fraction=fraction,
        ),
        root=root,
    )


def write_megatron(path, ids, sizes, documents):
    ids.astype("<u2").tofile(path)
    pointers = 2 * np.concatenate([[0], np.cumsum(sizes)[:-1]])
    path.with_suffix(".idx").write_bytes(
        b"MMIDIDX\x00\x00"
        + struct.pack("<QBQQ", 1, 8, len(sizes), len(documents))
        + np.array(sizes, "<i4").tobytes()
        + pointers.astype("<i8").tobytes()
        + np.array(documents, "<i8").tobytes()
    )


def test_raw_and_npy_token_files_give_the_same_stream(tmp_path):
    (tmp_path / "in").mkdir()
    IDS.astype("<u2").tofile(tmp_path / "in" / "a.bin")
    IDS.astype("<u4").tofile(tmp_path / "in" / "b.bin")
    np.save(tmp_path / "in" / "c.npy", IDS)
    sets = [
        prepare_ids(tmp_path / "in" / "a.bin", tmp_path),
        prepare_ids(tmp_path / "in" / "b.bin", tmp_path, dtype="uint32"),
        prepare_ids(tmp_path / "in" / "c.npy", tmp_path),
    ]
    assert len({dataset.fingerprint for dataset in sets}) == 1
    dataset = sets[0]
    assert dataset.sources[0].tokens + dataset.validation[0].tokens == len(IDS)
    assert dataset.sources[0].documents + dataset.validation[0].documents == 41
    assert dataset.bytes_per_token is None
    assert dataset.validation[0].bytes_per_token is None
    assert dataset.validation[0].contamination == 0.0


def test_a_large_vocabulary_is_stored_in_four_bytes(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(70_000))
    dataset = prepare_ids(tmp_path / "a.npy", tmp_path, vocab_size=70_000, fraction=0)
    assert (tmp_path / dataset.sources[0].folder / "train.bin").stat().st_size == 280_000
    assert dataset.stream(69_999).rows(0, 1, data_seed=0)[0].tolist() == list(range(70_000))


def test_megatron_documents_are_the_unit_of_the_split(tmp_path):
    # 50 documents of two sequences each; document i holds the value i.
    sizes = [3, 4] * 50
    ids = np.repeat(np.arange(50), 7)
    write_megatron(tmp_path / "a.bin", ids, sizes, list(range(0, 101, 2)))
    dataset = prepare_ids(tmp_path / "a.bin", tmp_path, vocab_size=50, fraction=0.2)
    train, held_out = (
        np.fromfile(dataset.sources[0].folder / f"{side}.bin", "<u2")
        for side in ("train", "validation")
    )
    assert sorted([*train, *held_out]) == ids.tolist()
    assert not set(train) & set(held_out)
    assert dataset.validation[0].documents == len(set(held_out)) > 1


def test_a_wrong_id_is_named_with_its_place(tmp_path, refuses):
    ids = IDS.copy()
    ids[9000] = 5000
    np.save(tmp_path / "a.npy", ids)
    with refuses("out-of-range", path=tmp_path / "a.npy", token=9000, id=5000, vocab_size=5000):
        prepare_ids(tmp_path / "a.npy", tmp_path)
    np.save(tmp_path / "b.npy", -IDS)
    with refuses("out-of-range", id=int(-IDS.max())):
        prepare_ids(tmp_path / "b.npy", tmp_path)


def test_damaged_token_files_are_refused(tmp_path, refuses):
    def fails(name, code, **values):
        with refuses(code, **values):
            prepare_ids(tmp_path / name, tmp_path)

    (tmp_path / "odd.bin").write_bytes(b"abc")
    fails("odd.bin", "partial-token", bytes=3, token_bytes=2)
    np.save(tmp_path / "flat.npy", np.zeros((2, 2), int))
    fails("flat.npy", "wrong-type", shape=(2, 2))
    np.save(tmp_path / "float.npy", np.zeros(3))
    fails("float.npy", "wrong-type", type="float64")
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    fails("object.npy", "unreadable")
    write_megatron(tmp_path / "cut.bin", IDS[:10], [20], [0, 1])
    fails("cut.bin", "inconsistent-index", entry=0)
    (tmp_path / "cut.idx").write_bytes(b"something else")
    fails("cut.bin", "wrong-format", path=tmp_path / "cut.idx")


def test_token_files_need_a_vocabulary_and_no_bytes_beside_them(tmp_path, corpus, refuses):
    np.save(tmp_path / "a.npy", IDS)
    with refuses("missing-vocab-size", ConfigError):
        prepare_ids(tmp_path / "a.npy", tmp_path, vocab_size=None)
    sources = (
        Source(name="ids", path=str(tmp_path / "a.npy")),
        Source(name="text", path=str(corpus)),
    )
    with refuses("mixed-vocabularies", ConfigError, tokenizer="bytes"):
        prepare(DataSpec(sources=sources, vocab_size=5000), root=tmp_path)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"weight": -1.0}, "out-of-range"),
        ({"weight": float("nan")}, "out-of-range"),
        ({"path": "builtin:poems"}, "unknown-builtin"),
        ({"dtype": "int8"}, "unknown-value"),
        ({"name": ""}, "empty"),
    ],
)
def test_a_source_is_checked_at_birth(refuses, change, code):
    with refuses(code, ConfigError):
        Source(**({"name": "a", "path": "/x"} | change))


def test_a_spec_is_checked_at_birth(refuses):
    source = Source(name="a", path="/x")
    with refuses("empty", ConfigError, key="data.sources"):
        DataSpec(sources=())
    with refuses("duplicate-name", ConfigError, source="a"):
        DataSpec(sources=(source, source))
    with refuses("out-of-range", ConfigError, validation_fraction=0.6):
        DataSpec(sources=(source,), validation_fraction=0.6)


def test_an_extra_validation_set_is_the_whole_source(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(LINES * 2)
    (held_out,) = prepare_validation(
        Source(name="x", path=str(tmp_path / "a.jsonl")), root=tmp_path
    )
    text = ("\0".join(TEXTS * 2) + "\0").encode()
    assert (held_out.folder / "validation.bin").read_bytes() == np.frombuffer(text, "u1").astype(
        "<u2"
    ).tobytes()
    assert (held_out.documents, held_out.tokens, held_out.contamination) == (6, len(text), None)
