"""Cells, units and files that are wrong: what each mistake is told."""

import gzip

import pandas as pd
import pytest
from table_files import codes, message, read

# Cells that are wrong


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("3.2e6x", "'3.2e6x': not a number; write it like 3.2e6"),
        ('"2,500"', "'2,500': not a number; write a decimal point, and no comma"),
        ("1_00", "'1_00': not a number"),
        ("true", "'true': not a number"),
        ("inf", "inf: not finite; allowed are finite numbers"),
        ("-Infinity", "-Infinity: not finite"),
        ("1e999", "'1e999': not a number"),
        ("0", "0: allowed for params are numbers above 0; correct the row or exclude it: --where"),
        ("-1e6", "-1e6: allowed for params are numbers above 0"),
    ],
)
def test_bad_cells_are_named(csv, cell, said):
    path = csv(f'note,params,tokens,loss\n"two\nlines",1e6,2e7,4\n\nx,{cell},2e7,3\n')
    assert f"{path}, line 5, column 'params': {said}" in message(path)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ('"many"', "'many': not a number"), ("[1]", "[1]: not a number"), ("-Infinity", "-inf: "),
        ("true", "True: not a number"), ("1" + "0" * 400, "not finite"), ("0", "0: allowed for"),
    ],
)  # fmt: skip
def test_bad_json_values_are_named(csv, cell, said):
    path = csv(f'{{"params": {cell}, "tokens": 2e7, "loss": 3}}\n', "runs.jsonl")
    assert f"{path}, line 1, column 'params': " in (told := message(path))
    assert said in told


def test_bad_parquet_values_are_named(tmp_path):
    path = tmp_path / "runs.parquet"
    pd.DataFrame({"params": [1e6, 0], "tokens": [2e7, 2e7], "loss": [3, 3]}).to_parquet(path)
    assert "row 2, column 'params': 0.0: allowed for params" in message(path)


def test_optional_columns(csv):
    head = "params,tokens,loss,lr,rate\n1e6,2e7,4,"
    path = csv(head + "0.01,0.01\n1e6,4e7,3.9,3e-3 peak,0.01\n")
    table, diagnostics = read(path, optional=("lr",))
    assert "lr" not in table
    assert "lr is not used: " in str(diagnostics[0])
    assert "'3e-3 peak': not a number" in str(diagnostics[0])
    table, diagnostics = read(path, columns={"lr": "rate"}, optional=("lr",))
    assert table["lr"].tolist() == [0.01, 0.01]
    assert diagnostics == ()
    path = csv("params,tokens,loss,rate\n1e6,2e7,4,-1\n")
    assert "allowed for lr are numbers above 0" in message(
        path, columns={"lr": "rate"}, optional=("lr",)
    )


# Units


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            ("0.031", "2e9", "3"),
            "column 'params' runs from 0.031 to 0.07: looks like billions of parameters, and a law "
            "takes parameters: multiply it by 1e9 with --scale params=1e9 (1e6 if millions)",
        ),
        (("36", "2e9", "3"), "looks like millions of parameters"),
        (("1e8", "2.5", "3"), "column 'tokens' runs from 2.5 to 2.5: looks like billions of tok"),
        (("1e8", "2e9", "35"), "looks like per cent or perplexity: give nats per token"),
    ],
)
def test_units_are_asked_for(csv, row, said):
    last = ("0.07" if row[0] == "0.031" else row[0], *row[1:])
    path = csv(f"params,tokens,loss\n{','.join(row)}\n{','.join(last)}\n")
    assert said in message(path)


def test_flops_in_exaflops_are_asked_for(csv):
    path = csv("params,flops,loss\n1e8,5.5,3\n")
    assert "column 'flops' runs from 5.5 to 5.5: looks like a multiple" in message(path)
    assert read(path, scale={"flops": 1e18})[0].tokens == pytest.approx([5.5e18 / 6e8])


def test_small_whole_params_are_no_unit(csv):
    assert read(csv("params,tokens,loss\n5000,2e5,4\n9000,2e5,4\n"))[0].rows == 2


def test_scale(csv):
    path = csv("N,tokens,loss\n0.07,2e9,3\n0.4,8e9,2.5\n,1,1\n")
    for name in ("params", "N"):
        table, _ = read(path, columns={"params": "N"}, scale={name: 1e9}, where=["params>1e6"])
        assert table.params.tolist() == [7e7, 4e8]
    assert "--scale toknes=1e+09: " in (said := message(path, scale={"toknes": 1e9}))
    assert said.endswith("did you mean 'tokens'?")
    assert "--scale tokens=-1: allowed is a positive number" in message(path, scale={"tokens": -1})


# Files that are none


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("runs.xlsx", b"x", "allowed are .csv, .tsv, .jsonl, .ndjson, .json, each with .gz or"),
        ("runs.pkl", b"\x80\x04N.", "not a table that can be read"),
        ("runs.csv", b"", "is empty"),
        ("runs.csv", b"\n \n", "is empty"),
        ("runs.csv", b"params,tokens,loss\n", "has no rows"),
        ("runs.csv", b"# exported\n# nothing\n", "runs.csv"),
        ("runs.csv", b"params,tokens\n1,\xff\n", "not UTF-8 text (byte 16)"),
        ("runs.csv", b"params,tokens\n1,2\n1,2,3\n", "line 3: 3 cells where the header has 2"),
        ("runs.csv", b"params,tokens\n\n1\n", "line 3: 1 cells where the header has 2"),
        ("runs.csv", b"params,params\n1,2\n", "column 'params' stands twice in the header"),
        ("runs.csv", b"params tokens\n1 2\n", "separated by spaces; separate them by commas"),
        ("runs.csv", b"params|tokens\n1|2\n", "separated by bars; separate them by commas"),
        ("runs.csv", b"a,b;c\n1,2;3\n", "it splits into whole rows by commas and semicolons alike"),
        ("runs.csv", "params,tokens\n1,2\n".encode("utf-16-le"), "holds zero bytes"),
        ("runs.csv", b"PK\x03\x04", "is a workbook or a zip archive"),
        ("runs.csv", b"PAR1", "is a Parquet file; name it .parquet"),
        ("runs.csv", b'params,tokens\n1,2\n"1,2\n', "line 3: not CSV"),
        ("runs.csv.gz", gzip.compress(b"params\n" * 99, mtime=0)[:-9], "not a whole gzip file"),
        ("runs.jsonl", b'{"params": 1}\n\n{"params": }\n', "line 3: not JSON"),
        ("runs.jsonl", b"[1, 2]\n", "element 1: not a JSON object; write each run as one"),
        ("runs.jsonl", b'{"params": 1}\n[1, 2]\n', "line 2: not a JSON object; write each run as"),
        ("runs.jsonl", b'{"a": 1, "a": 2}\n', "line 1: not JSON: key 'a' stands twice"),
        ("runs.jsonl", b'{"a.b": 1, "a": {"b": 2}}\n', "line 1: name 'a.b' is there twice"),
        ("runs.jsonl", b"[" * 100_000, "not JSON"),
        ("runs.jsonl", b'{"n": ' + b"9" * 5000 + b"}\n", "line 1: not JSON"),
        ("runs.json", b"3", "holds one value and no table"),
        ("runs.json", b'{"law": "power", "coefficients": {}}', "is a fit and no table of runs"),
        ("runs.json", b'{"a": {"0": 1}, "b": {"0": 2}}', "orient='records'"),
        ("runs.json", b'{"a": [1, 2], "b": [1]}', "not every column has a list of equal length"),
        ("runs.parquet", b"", "is empty"),
        ("runs.parquet", b"PAR1 and no more", "not a Parquet table"),
    ],
)
def test_files_that_cannot_be_read(csv, name, content, said):
    path = csv(content, name)
    assert said in (told := message(path))
    assert str(path) in told


def test_paths_that_are_no_file(tmp_path):
    assert message(tmp_path / "no.csv").endswith("no.csv: no such file")
    assert message(tmp_path / "no.parquet").endswith("no.parquet: no such file")
    (tmp_path / "folder.csv").mkdir()
    assert "is a folder; give one table" in message(tmp_path / "folder.csv")


def test_a_trunk_column_that_is_not_named_is_told(csv, runs):
    other = csv("params,tokens,loss,trunk_id\n1e6,2e7,4.5,a\n1e6,4e7,4.2,a\n", "other.csv")
    said = [
        diagnostic.message for diagnostic in read(other)[1] if diagnostic.code == "trunk-column"
    ]
    assert "--trunk 'trunk_id'" in said[0]
    blank = csv("params,tokens,loss,trunk\n1e6,2e7,4.5,a\n1e6,4e7,4.2,\n", "blank.csv")
    said = [
        diagnostic.message for diagnostic in read(blank)[1] if diagnostic.code == "trunk-column"
    ]
    assert "1 rows have no trunk" in said[0]
    assert "trunk-column" not in codes(read(runs)[1])
