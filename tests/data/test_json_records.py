"""JSON lines, arrays and objects: what is read, and what a fault says."""

import gzip
import json

import pytest
import zstandard

from windtunnel.data import Source
from windtunnel.data.readers import text_documents, text_pairs
from windtunnel.errors import DataError

TEXTS = ["one fish", "zwei\nFische", "três"]
RECORDS = [{"text": text, "n": number} for number, text in enumerate(TEXTS)]


def packed(data):
    """Gzip without the time, which would name a case otherwise in each of pytest's processes."""
    return gzip.compress(data, mtime=0)


LINES = "".join(json.dumps(record) + "\n" for record in RECORDS).encode()


def read(path, **fields):
    return [text.decode() for text in text_documents(Source(name="s", path=str(path), **fields))]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ndjson", LINES),
        ("a.json", LINES),
        ("a.json.gz", packed(LINES)),
        ("a.json.zst", zstandard.compress(LINES)),
        ("a.json", json.dumps(RECORDS).encode()),
        ("a.json", b"\n " + json.dumps(RECORDS, indent=1).encode()),
        ("a.json.gz", packed(json.dumps(RECORDS).encode())),
        ("a.json", b"\xef\xbb\xbf" + json.dumps(RECORDS).encode()),
        ("a.jsonl", b"\xef\xbb\xbf" + LINES),
        ("a.jsonl", LINES.replace(b"\n", b"\r\n")),
        ("a.jsonl", LINES.replace(b'"n": 1', b'"n": NaN')),
    ],
)
def test_lines_and_arrays_give_the_same_documents(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert read(tmp_path / name) == TEXTS


def test_one_object_over_several_lines_is_one_document(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(RECORDS[0], indent=1))
    assert read(tmp_path / "a.json") == TEXTS[:1]


@pytest.mark.parametrize("name", ["a.txt.gz", "a.md.zst", "A.TXT.GZ"])
def test_packed_text_is_read(tmp_path, name):
    packed = gzip.compress if name.lower().endswith("gz") else zstandard.compress
    (tmp_path / name).write_bytes(packed(b"one\n\ntwo"))
    assert read(tmp_path / name) == ["one\n\ntwo"]


def test_a_field_within_is_named_by_its_path(tmp_path):
    record = {"message": {"content": "deep", "parts": ["a"]}, "a.b": "own", "x": None}
    (tmp_path / "a.jsonl").write_text(json.dumps(record))
    assert read(tmp_path / "a.jsonl", text_column="message.content") == ["deep"]
    assert read(tmp_path / "a.jsonl", text_column="a.b") == ["own"]
    assert read(tmp_path / "a.jsonl", text_column="x.y") == []
    source = Source(name="s", path=str(tmp_path / "a.jsonl"), pairs=("a.b", "message.content"))
    assert list(text_pairs(source)) == [(b"own", b"deep")]


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("a.jsonl", LINES + b'{"text": "x", "n": ' + b"7" * 5000 + b"}\n", ":4: "),
        ("a.jsonl", LINES + b'{"text": "x", "n": ' + DEEP + b"}\n", ":4: "),
        ("a.jsonl", LINES + b'{"text": "x"\n', ":4: "),
        ("a.jsonl", LINES + b'{"text": "\xe9"}\n', ":4: "),
        ("a.json", b"[" + LINES.replace(b"\n", b",") + DEEP + b"]", ": "),
        ("a.json", b'[{"text": "a"}, {"text": 3}]', ": record 2: "),
        ("a.json", b'{\n"text": \n', ": "),
        ("a.jsonl", LINES.replace(b"\n", b"\r"), ":1: its lines end in CR alone"),
        ("a.jsonl", LINES.decode().encode("utf-16"), ": is UTF-16"),
        ("a.jsonl", LINES.decode().encode("utf-32"), ": is UTF-32"),
        ("a.txt", "text\n".encode("utf-16"), ": is UTF-16"),
        ("a.jsonl", LINES.decode().encode("utf-16-le"), ": is UTF-16LE"),
        ("a.txt", "text\n".encode("utf-16-be"), ": is UTF-16BE"),
        ("a.jsonl", LINES.decode().encode("utf-32-le"), ": is UTF-32LE"),
        ("a.txt", packed(b"text"), ": is gzip"),
        ("a.txt.gz", packed(packed(b"text")), ": is gzip"),
        ("a.jsonl", zstandard.compress(LINES), ": is zstd"),
        ("a.txt", b"one\rtwo\rthree", ": its lines end in CR alone"),
        ("a.txt.gz", packed(b"one\r"), ": its lines end in CR alone"),
        ("a.jsonl", b'{"text": NaN}', ":1: no text in field 'text' but NaN"),
        ("a.txt", b"line\r" * 20_000, ": its lines end in CR alone"),
        ("a.jsonl.gz", packed(LINES * 99)[:-30], ": cannot be decompressed or read"),
        ("a.jsonl.zst", zstandard.compress(LINES * 99)[:-9] + b"x", ": cannot be decompressed"),
        ("a.txt.gz", packed(LINES * 99)[:40] + b"damage", ": cannot be decompressed"),
        ("a.jsonl", b'{"text": ["a", "b"]}\n', ":1: no text in field 'text' but a list"),
        ("a.jsonl", b'{"text": {"body": "a"}}\n', ":1: no text in field 'text' but an object"),
    ],
)
def test_a_fault_says_where_it_is(tmp_path, name, content, place):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as refused:
        read(tmp_path / name)
    assert str(refused.value).startswith(f"{tmp_path / name}{place}")
    assert ";" in str(refused.value)  # and what to do


def test_a_text_that_is_all_null_says_so(tmp_path, refuses):
    from windtunnel.data import DataSpec, prepare

    (tmp_path / "a.jsonl").write_text('{"text": null}\n' * 3)
    spec = DataSpec(sources=(Source(name="s", path=str(tmp_path / "a.jsonl")),))
    with refuses("too-few-documents", documents=0) as caught:
        prepare(spec, root=tmp_path)
    assert "left out: 3 nulls" in str(caught.value)


@pytest.mark.parametrize("orient", ["columns", "index", "split", "table"])
def test_a_table_of_pandas_is_named_with_what_to_do(tmp_path, orient):
    tables = {
        "columns": {"text": {"0": "one", "1": "two"}},
        "index": {"0": {"text": "one"}, "1": {"text": "two"}},
        "split": {"columns": ["text"], "index": [0, 1], "data": [["one"], ["two"]]},
        "table": {"schema": {"fields": []}, "data": [{"text": "one"}]},
    }
    (tmp_path / "a.json").write_text(json.dumps(tables[orient]))
    with pytest.raises(DataError, match=r"orient='records', lines=True"):
        read(tmp_path / "a.json")


def test_a_chat_is_named_as_a_list(tmp_path, refuses):
    (tmp_path / "a.jsonl").write_text('{"messages": [{"content": "hello"}]}')
    with refuses("unknown-column", column="messages.content") as caught:
        read(tmp_path / "a.jsonl", text_column="messages.content")
    assert "'messages' is a list" in str(caught.value)


@pytest.mark.parametrize("text", [b"x" * 40_000 + b"\r\n", b"a\rb\n", b"a\r\nb\r\n"])
def test_text_with_line_feeds_is_read(tmp_path, text):
    (tmp_path / "a.txt").write_bytes(text)
    wanted = text.replace(b"\r\n", b"\n").strip(b"\n").decode()
    assert read(tmp_path / "a.txt") == [wanted]
