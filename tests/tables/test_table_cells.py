"""Cells, units and files that are wrong: the code and values of each error."""

import gzip

import pandas as pd
import pytest
from table_files import codes, read, refused, values

# Cells that are wrong


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ("3.2e6x", "not-a-number"),
        ('"2,500"', "not-a-number"),
        ("1_00", "not-a-number"),
        ("true", "not-a-number"),
        ("inf", "not-finite"),
        ("-Infinity", "not-finite"),
        ("1e999", "not-a-number"),
        ("0", "out-of-range"),
        ("-1e6", "out-of-range"),
    ],
)
def test_bad_cells_are_named(csv, cell, code):
    path = csv(f'note,params,tokens,loss\n"two\nlines",1e6,2e7,4\n\nx,{cell},2e7,3\n')
    assert values(refused(path), "path", "place", "column", "cell") == (
        code, path, "line 5", "params", cell.strip('"'),
    )  # fmt: skip


def test_the_form_of_a_message(csv):
    path = csv("params,tokens,loss\n3.2e6x,2e7,4\n")
    assert str(refused(path)) == (
        f"{path}, line 2, column 'params': '3.2e6x': not a number; write it like 3.2e6, and leave "
        "the cell empty if it is not known"
    )


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ('"many"', "not-a-number"), ("[1]", "not-a-number"), ("-Infinity", "not-finite"),
        ("true", "not-a-number"), ("1" + "0" * 400, "not-finite"), ("0", "out-of-range"),
    ],
)  # fmt: skip
def test_bad_json_values_are_named(csv, cell, code):
    path = csv(f'{{"params": {cell}, "tokens": 2e7, "loss": 3}}\n', "runs.jsonl")
    assert values(refused(path), "path", "place", "column") == (code, path, "line 1", "params")


def test_bad_parquet_values_are_named(tmp_path):
    path = tmp_path / "runs.parquet"
    pd.DataFrame({"params": [1e6, 0], "tokens": [2e7, 2e7], "loss": [3, 3]}).to_parquet(path)
    assert values(refused(path), "place", "column", "cell") == (
        "out-of-range", "row 2", "params", 0.0,
    )  # fmt: skip


def test_optional_columns(csv):
    head = "params,tokens,loss,lr,rate\n1e6,2e7,4,"
    path = csv(head + "0.01,0.01\n1e6,4e7,3.9,3e-3 peak,0.01\n")
    table, diagnostics = read(path, optional=("lr",))
    assert "lr" not in table
    assert values(diagnostics[0], "name", "reason", "cell") == (
        "column-left-out", "lr", "not-a-number", "3e-3 peak",
    )  # fmt: skip
    table, diagnostics = read(path, columns={"lr": "rate"}, optional=("lr",))
    assert table["lr"].tolist() == [0.01, 0.01]
    assert diagnostics == ()
    path = csv("params,tokens,loss,rate\n1e6,2e7,4,-1\n")
    error = refused(path, columns={"lr": "rate"}, optional=("lr",))
    assert values(error, "column", "cell") == ("out-of-range", "rate", "-1")


# Units


@pytest.mark.parametrize(
    ("row", "column", "wrong"),
    [
        (("0.031", "2e9", "3"), "params", {"range": [0.031, 0.07], "scale": {"params": 1e9}}),
        (("36", "2e9", "3"), "params", {"range": [36, 36], "scale": {"params": 1e6}}),
        (("1e8", "2.5", "3"), "tokens", {"range": [2.5, 2.5], "scale": {"tokens": 1e9}}),
        (("1e8", "2e9", "35"), "loss", {"range": [35, 35], "median": 35}),
    ],
)
def test_units_are_asked_for(csv, row, column, wrong):
    last = ("0.07" if row[0] == "0.031" else row[0], *row[1:])
    path = csv(f"params,tokens,loss\n{','.join(row)}\n{','.join(last)}\n")
    error = refused(path)
    assert (error.code, error.values) == (
        "wrong-unit", {"path": path, "column": column, **wrong},
    )  # fmt: skip


def test_flops_in_exaflops_are_asked_for(csv):
    path = csv("params,flops,loss\n1e8,5.5,3\n")
    assert values(refused(path), "column", "range") == ("wrong-unit", "flops", [5.5, 5.5])
    assert read(path, scale={"flops": 1e18})[0].tokens == pytest.approx([5.5e18 / 6e8])


def test_small_whole_params_are_no_unit(csv):
    assert read(csv("params,tokens,loss\n5000,2e5,4\n9000,2e5,4\n"))[0].rows == 2


def test_scale(csv):
    path = csv("N,tokens,loss\n0.07,2e9,3\n0.4,8e9,2.5\n,1,1\n")
    for name in ("params", "N"):
        table, _ = read(path, columns={"params": "N"}, scale={name: 1e9}, where=["params>1e6"])
        assert table.params.tolist() == [7e7, 4e8]
    error = refused(path, scale={"toknes": 1e9})
    assert values(error, "column", "suggested") == ("unknown-column", "toknes", "tokens")
    error = refused(path, scale={"tokens": -1})
    assert values(error, "name", "factor") == ("out-of-range", "tokens", -1)


# Files that are none


@pytest.mark.parametrize(
    ("name", "content", "code", "wrong"),
    [
        ("runs.xlsx", b"x", "unknown-format", {}),
        ("runs.pkl", b"\x80\x04N.", "unknown-format", {}),
        ("runs.csv", b"", "empty", {}),
        ("runs.csv", b"\n \n", "empty", {}),
        ("runs.csv", b"params,tokens,loss\n", "too-few-rows", {"rows": 0}),
        ("runs.csv", b"# exported\n# nothing\n", "unknown-column", {}),
        ("runs.csv", b"params,tokens\n1,\xff\n", "not-utf8", {"encoding": "UTF-8", "byte": 16}),
        (
            "runs.csv",
            b"params,tokens\n1,2\n1,2,3\n",
            "ragged-row",
            {"line": 3, "cells": 3, "columns": 2},
        ),
        ("runs.csv", b"params,tokens\n\n1\n", "ragged-row", {"line": 3, "cells": 1, "columns": 2}),
        ("runs.csv", b"params,params\n1,2\n", "duplicate-column", {"column": "params"}),
        ("runs.csv", b"params tokens\n1 2\n", "unknown-separator", {"separator": "spaces"}),
        ("runs.csv", b"params|tokens\n1|2\n", "unknown-separator", {"separator": "bars"}),
        (
            "runs.csv",
            b"a,b;c\n1,2;3\n",
            "ambiguous-separator",
            {"separators": ["commas", "semicolons"]},
        ),
        ("runs.csv", "params,tokens\n1,2\n".encode("utf-16-le"), "not-utf8", {"byte": 1}),
        ("runs.csv", b"PK\x03\x04", "wrong-format", {}),
        ("runs.csv", b"PAR1", "wrong-format", {}),
        ("runs.csv", b'params,tokens\n1,2\n"1,2\n', "not-csv", {}),
        ("runs.csv.gz", gzip.compress(b"params\n" * 99, mtime=0)[:-9], "unreadable", {}),
        ("runs.jsonl", b'{"params": 1}\n\n{"params": }\n', "not-json", {}),
        ("runs.jsonl", b"[1, 2]\n", "wrong-type", {"place": "element 1", "type": "int"}),
        (
            "runs.jsonl",
            b'{"params": 1}\n[1, 2]\n',
            "wrong-type",
            {"place": "line 2", "type": "list"},
        ),
        ("runs.jsonl", b'{"a": 1, "a": 2}\n', "duplicate-key", {"key": "a"}),
        (
            "runs.jsonl",
            b'{"a.b": 1, "a": {"b": 2}}\n',
            "duplicate-column",
            {"place": "line 1", "column": "a.b"},
        ),
        ("runs.jsonl", b"[" * 100_000, "not-json", {}),
        ("runs.jsonl", b'{"n": ' + b"9" * 5000 + b"}\n", "not-json", {}),
        ("runs.json", b"3", "wrong-format", {"found": "int"}),
        ("runs.json", b'{"law": "power", "coefficients": {}}', "wrong-format", {"found": "fit"}),
        ("runs.json", b'{"a": {"0": 1}, "b": {"0": 2}}', "wrong-format", {"found": "cells by row"}),
        ("runs.json", b'{"a": [1, 2], "b": [1]}', "ragged-columns", {"lengths": {"a": 2, "b": 1}}),
        ("runs.parquet", b"", "empty", {}),
        ("runs.parquet", b"PAR1 and no more", "unreadable", {}),
    ],
)
def test_files_that_cannot_be_read(csv, name, content, code, wrong):
    path = csv(content, name)
    error = refused(path)
    assert error.code == code
    assert wrong.items() <= error.values.items()
    assert str(path) in str(error)


def test_paths_that_are_no_file(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for name, code in (
        ("no.csv", "missing-file"), ("no.parquet", "missing-file"), ("folder.csv", "not-a-file"),
    ):  # fmt: skip
        assert values(refused(tmp_path / name), "path") == (code, tmp_path / name)


def test_a_trunk_column_that_is_not_named_is_told(csv, runs):
    other = csv("params,tokens,loss,trunk_id\n1e6,2e7,4.5,a\n1e6,4e7,4.2,a\n", "other.csv")
    assert values(read(other)[1][0], "column") == ("trunk-column", "trunk_id")
    blank = csv("params,tokens,loss,trunk\n1e6,2e7,4.5,a\n1e6,4e7,4.2,\n", "blank.csv")
    assert values(read(blank)[1][0], "column", "blank") == ("trunk-column", "trunk", 1)
    assert "trunk-column" not in codes(read(runs)[1])
