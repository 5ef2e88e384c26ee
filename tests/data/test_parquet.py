"""Text columns of Parquet files, of every type that holds text."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from windtunnel.data import Source
from windtunnel.data.account import Tally
from windtunnel.data.readers import text_documents
from windtunnel.errors import DataError

TEXTS = ["one", "zwei", None, "três", "one"]
RAW = [None if text is None else text.encode() for text in TEXTS]


def read(path, column="text"):
    tally = Tally()
    source = Source(name="s", path=str(path), text_column=column)
    return [text.decode() for text in text_documents(source, tally)], tally.count("null")


@pytest.mark.parametrize(
    "column",
    [
        pa.array(TEXTS),
        pa.array(TEXTS, pa.large_string()),
        pa.array(TEXTS, pa.string_view()),
        pa.array(RAW, pa.binary()),
        pa.array(RAW, pa.large_binary()),
        pa.array(RAW, pa.binary_view()),
        pa.array(TEXTS).dictionary_encode(),
        pa.array(RAW, pa.large_binary()).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_every_text_type_is_read(tmp_path, column):
    pq.write_table(pa.table({"n": range(5), "text": column}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == (["one", "zwei", "três", "one"], 1)


def test_a_field_of_a_struct_is_named_by_its_path(tmp_path, refuses):
    rows = [{"body": {"text": text}} for text in TEXTS] + [None, {"body": None}]
    table = pa.table({"message": rows, "message.body": [f"own {n}" for n in range(7)]})
    pq.write_table(table, tmp_path / "A.PARQUET")
    assert read(tmp_path / "A.PARQUET", "message.body.text") == (["one", "zwei", "três", "one"], 3)
    assert read(tmp_path / "A.PARQUET", "message.body")[0][0] == "own 0"
    for column, code, values in (
        ("message", "wrong-type", {"column": "message"}),
        ("message.head", "unknown-column", {"column": "message", "field": "head"}),
        ("message.body.size", "unknown-column", {"column": "message.body", "field": "size"}),
    ):
        with refuses(code, **values):
            read(tmp_path / "A.PARQUET", column)


def test_lists_and_numbers_are_refused_with_what_to_do(tmp_path, refuses):
    table = pa.table({"text": [["a", "b"]], "n": [1], "all": pa.array([None])})
    pq.write_table(table, tmp_path / "a.parquet")
    with refuses("wrong-type", column="text"):
        read(tmp_path / "a.parquet")
    with refuses("wrong-type", column="n", type="int64"):
        read(tmp_path / "a.parquet", "n")
    assert read(tmp_path / "a.parquet", "all") == ([], 1)


@pytest.mark.parametrize("kind", [pa.string(), pa.binary(), pa.string_view()])
def test_what_is_not_utf8_is_named_by_its_row(tmp_path, refuses, kind):
    values = [f"text {n}".encode() for n in range(3000)]
    values[2077] = b"caf\xe9"
    column = pa.array(values, pa.binary()).view(pa.string())
    column = pa.array(values, pa.binary()) if kind == pa.binary() else column
    pq.write_table(
        pa.table({"text": column.cast(kind) if kind == pa.string_view() else column}),
        tmp_path / "a.parquet",
    )
    with refuses("not-utf8", path=tmp_path / "a.parquet", row=2078, column="text", byte=3):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("damage", ["middle", "end", "none"])
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "a.parquet"
    texts = [f"text number {n} of many" for n in range(5000)]
    pq.write_table(pa.table({"text": texts}), path, use_dictionary=False)
    data = bytearray(path.read_bytes())
    if damage == "middle":
        data[200:5000] = b"\xff" * 4800
    if damage == "end":
        data[-200:-8] = b"\0" * 192
    path.write_bytes(data if damage != "none" else b"PAR1")
    with pytest.raises(DataError) as refused:
        read(path)
    assert str(refused.value).startswith(f"{path}: ")


def test_dots_in_the_names_of_fields_are_read_as_in_json(tmp_path, refuses):
    rows = [{"b.c": {"d": "deep", "e.f": "deeper"}, "g": "flat"}]
    pq.write_table(pa.table({"a": rows, "n": [1]}), tmp_path / "a.parquet")
    for column, text in (("a.b.c.d", "deep"), ("a.b.c.e.f", "deeper"), ("a.g", "flat")):
        assert read(tmp_path / "a.parquet", column) == ([text], 0)
    with refuses("unknown-column", column="a", field="h"):
        read(tmp_path / "a.parquet", "a.h")


def test_a_chat_is_named_as_a_list(tmp_path, refuses):
    rows = [[{"role": "user", "content": "hello"}]]
    pq.write_table(pa.table({"messages": rows}), tmp_path / "a.parquet")
    for column in ("messages", "messages.content"):
        with refuses("wrong-type", column="messages"):
            read(tmp_path / "a.parquet", column)
