"""Tables of other people: what is read, what is left out, and what each mistake is told."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from windtunnel.cli.read_table import read_table
from windtunnel.errors import ConfigError

NEEDS = ("params", "tokens", "loss")
HEAD = "params,tokens,loss,trunk,family\n"
ROWS = [
    "1e6,2e7,4.5,a,dense",
    "1e6,4e7,4.2,a,dense",
    "3e6,6e7,3.9,b,moe",
    "3e6,1.2e8,3.6,b,moe",
]
CHINCHILLA = Path(__file__).parents[2].parent / "shared/data/chinchilla_points.csv"


@pytest.fixture
def csv(tmp_path):
    def write(text, name="runs.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def runs(csv):
    return csv(HEAD + "\n".join(ROWS) + "\n")


def read(path, *, columns=None, needs=NEEDS, **options):
    found = read_table(path, columns=columns or {}, needs=needs, **options)
    return found.table, found.cautions


def message(path, **options):
    with pytest.raises(ConfigError) as told:
        read(path, **options)
    return str(told.value)


def codes(cautions):
    return [caution.code for caution in cautions]


# What is read


def test_a_plain_table(runs):
    table, cautions = read(runs)
    assert table.params.tolist() == [1e6, 1e6, 3e6, 3e6]
    assert table.tokens.tolist() == [2e7, 4e7, 6e7, 1.2e8]
    assert table.loss.tolist() == [4.5, 4.2, 3.9, 3.6]
    assert table.trunk.tolist() == ["a", "a", "b", "b"]
    assert table.decayed is None
    assert (table.filters, table.dropped, table.names, cautions) == ((), (), {}, ())
    assert (table.flop_rule, table.loss_unit) == ("6ND", "nats per token")


def test_every_format_reads_the_same(csv, tmp_path):
    rows = pd.DataFrame(
        {
            "params": [1_000_000, 3_000_000],
            "tokens": [2.5e7, 1 / 3 * 1e9],
            "loss": [4.5, 3.25],
            "decayed": [True, False],
            "trunk": ["a", "b"],
            "run": [7, 8],
            "lr": [0.01, None],
        }
    )
    lines = rows.to_json(orient="records", lines=True, double_precision=15)
    records = [json.loads(line) for line in lines.splitlines()]
    for record, tokens in zip(records, rows["tokens"], strict=True):
        record["tokens"] = tokens  # pandas rounds to 15 digits
    text = "\n".join(map(json.dumps, records)) + "\n\n"
    rows.to_parquet(tmp_path / "runs.parquet")
    paths = [
        csv(rows.to_csv()),  # with pandas' nameless index
        csv(gzip.compress(rows.to_csv(index=False).encode("utf-8-sig")), "runs.csv.gz"),
        csv(text, "runs.jsonl"),
        csv(gzip.compress(text.encode()), "RUNS.JSONL.GZ"),
        tmp_path / "runs.parquet",
    ]
    for path in paths:
        table, cautions = read(path, optional=("lr",), where=["tokens>=2e7"])
        for name in NEEDS:
            assert table[name].tolist() == rows[name].tolist(), path
        assert table.decayed.tolist() == [True, False]
        assert table.labels["run"].tolist() == ["7", "8"]
        assert "lr" not in table
        assert codes(cautions) == ["column-left-out"]
        assert table.filters == ("tokens >= 2e+07",)


def test_columns_of_another_name(csv):
    path = csv("N,Data Size,val,seed,cluster\n1e6,2e7,4,0,x\n1e7,2e8,3,1,x\n")
    columns = {"params": "N", "tokens": "Data Size", "loss": "val", "trunk": "seed"}
    table, _ = read(path, columns=columns, where=["Data Size > 1e7", "tokens<1e9", "val<5"])
    assert table.names == columns
    assert table.trunk.tolist() == ["0", "1"]
    assert table.filters == ("Data Size > 1e+07", "tokens < 1e+09", "val < 5")


def test_a_row_whose_trunk_is_not_known_is_a_trunk_of_its_own(csv):
    table, _ = read(csv("params,tokens,loss,trunk\n1e6,2e7,4,\n1e6,4e7,3.9,\n1e6,6e7,3.8,a\n"))
    assert table.trunk.tolist() == ["line 2", "line 3", "a"]


@pytest.mark.parametrize(
    "spelled", [("true", "false"), ("True", "FALSE"), ("1", "0"), ("1.0", "0"), ("yes", "No")]
)
def test_decayed(csv, spelled):
    yes, no = spelled
    path = csv(f"params,tokens,loss,decayed\n1e6,2e7,4,{yes}\n1e6,4e7,3.9,{no}\n")
    assert read(path)[0].decayed.tolist() == [True, False]
    for condition in ("decayed=true", "decayed=1", "decayed!=False"):
        assert read(path, where=[condition])[0].rows == 1


def test_decayed_that_is_wrong_or_not_known(csv):
    head = "params,tokens,loss,decayed\n1e6,2e7,4,"
    assert "line 2, column 'decayed': 'maybe': allowed are true, false, yes" in message(
        csv(head + "maybe\n")
    )
    table, cautions = read(csv(head + "\n1e6,4e7,3.9,true\n"))
    assert table.decayed is None
    assert str(cautions[0]) == (
        "decayed is not used: column 'decayed' is missing in 1 of 2 rows [column-left-out]"
    )


def test_other_laws_may_read_any_finite_number(csv):
    path = csv("x,y,score\n-1,0,0.5\n0,-2.5,0.7\n")
    table, _ = read(path, needs=("x", "y"), optional=("score", "flops"))
    assert table["x"].tolist() == [-1, 0]
    assert sorted(table.columns) == ["score", "x", "y"]


# C = k N D


def test_tokens_follow_from_flops(csv):
    path = csv("Model Size,Training FLOP,loss\n1e6,1.2e14,4\n1e7,1.2e16,3\n")
    columns = {"params": "Model Size", "flops": "Training FLOP"}
    table, _ = read(path, columns=columns, where=["tokens>1e7", "flops < 1e20"])
    assert table.tokens == pytest.approx([2e7, 2e8])
    assert table.filters == ("tokens > 1e+07", "flops < 1e+20", "tokens = flops / (6 params)")
    assert table["flops"].tolist() == [1.2e14, 1.2e16]
    table, _ = read(path, columns=columns, flop_rule="2.5ND")
    assert table.tokens == pytest.approx([4.8e7, 4.8e8])
    assert table.flop_rule == "2.5ND"


def test_params_and_flops_follow_too(csv):
    path = csv("tokens,flops,loss\n2e7,1.2e14,4\n2e8,1.2e16,3\n")
    table, _ = read(path)
    assert table.params == pytest.approx([1e6, 1e7])
    assert table.filters == ("params = flops / (6 tokens)",)
    path = csv("params,tokens,loss\n1e6,2e7,4\n1e7,2e8,3\n")
    table, _ = read(path, needs=("flops", "loss"))
    assert table["flops"] == pytest.approx([1.2e14, 1.2e16])
    assert table.filters == ("flops = 6 params tokens",)
    assert "flops" not in read(path, optional=("flops",))[0]  # not needed, so not made up


def test_a_column_of_the_file_is_not_overruled(csv):
    table, _ = read(csv("params,tokens,flops,loss\n1e6,3e7,1.2e14,4\n"), optional=("flops",))
    assert table.tokens.tolist() == [3e7]
    assert table.filters == ()


def test_bad_cells_behind_a_derived_column_are_told(csv):
    text = "params,flops,loss\n1e6,1.2e14x,4\n1e7,,3\n"
    assert "line 2, column 'flops': '1.2e14x': not a number" in message(csv(text))
    table, cautions = read(csv(text.replace("x", "")))
    assert table.dropped == (("flops is missing", 1),)
    assert codes(cautions) == ["incomplete-rows"]


@pytest.mark.parametrize(
    "rule", ["6", "ND", "-6ND", "0ND", "6DN", "infND", "sixND", "6NDx", "1_0ND"]
)
def test_flop_rules_that_are_none(runs, rule):
    assert f"FLOP rule {rule!r}: allowed is a positive number before ND" in message(
        runs, flop_rule=rule
    )


# Rows that are left out


def test_the_five_outliers(csv):
    rng = np.random.default_rng(0)
    size, flop = rng.uniform(1e8, 1e10, 40), rng.uniform(1e19, 1e21, 40)
    loss = rng.uniform(2, 3, 40)
    loss[[3, 11, 17, 29, 33]] = [5.0, 4.7, 4.0, 5.0, 3.5]
    rows = pd.DataFrame({"Model Size": size, "Training FLOP": flop, "loss": loss})
    columns = {"params": "Model Size", "flops": "Training FLOP"}
    path = csv(rows.to_csv(index=False))
    table, cautions = read(path, columns=columns, optional=("flops",), drop_highest=5)
    assert table.rows == 35
    kept = np.delete(np.arange(40), [3, 11, 17, 29, 33])
    assert table.loss.tolist() == loss[kept].tolist()
    assert table.tokens == pytest.approx((flop / (6 * size))[kept])
    assert table.filters == ("tokens = flops / (6 params)", "the 5 highest losses dropped")
    assert table.dropped == (("the 5 highest losses", 5),)
    assert cautions == ()
    table, _ = read(path, columns=columns, where=["loss<5"], drop_highest=1)
    assert table.loss.max() == 4.0  # after the conditions
    assert table.dropped == (("not loss < 5", 2), ("the highest loss", 1))


@pytest.mark.skipif(not CHINCHILLA.exists(), reason="the published points are not beside the code")
def test_the_published_points():
    columns = {"params": "Model Size", "flops": "Training FLOP"}
    table, _ = read(CHINCHILLA, columns=columns, drop_highest=5)
    assert table.rows == 240
    assert table.budget == pytest.approx(table["flops"])


def test_equal_losses_are_dropped_in_order(csv):
    path = csv("run,x,y\na,1,5\nb,2,5\nc,3,5\n")
    table, _ = read(path, needs=("x", "y"), drop_highest=2)
    assert table.labels["run"].tolist() == ["c"]
    assert table.filters == ("the 2 highest y values dropped",)


@pytest.mark.parametrize("count", [4, 5, -1])
def test_not_all_rows_are_dropped(runs, count):
    said = message(runs, drop_highest=count)
    assert said == f"{count} highest losses cannot be dropped: allowed are 0 to 3 of 4 rows"
    assert "allowed are 0, as the law reads no loss" in message(
        runs, needs=("params",), drop_highest=1
    )


def test_incomplete_and_diverged_rows_are_counted(csv):
    more = ["1e6,NaN,4,a,x", "1e6,2e7,,a,x", "1e6,3e7,None,a,x", "1e6,2e7,9,a,x"]
    outcomes = ["finished"] * 7 + ["diverged"]
    rows = [f"{row},{outcome}" for row, outcome in zip(ROWS + more, outcomes, strict=True)]
    table, cautions = read(csv(HEAD.strip() + ",outcome\n" + "\n".join(rows)))
    assert table.rows == 4
    assert table.dropped == (
        ("outcome is diverged", 1),
        ("tokens is missing", 1),
        ("loss is missing", 2),
    )
    assert codes(cautions) == ["unfinished-runs", "incomplete-rows"]
    assert "1 of 8 rows are left out as unfinished: outcome is diverged (1)" in cautions[0].message
    assert cautions[1].message == (
        "3 of 7 rows are left out: tokens is missing (1), loss is missing (2)"
    )
    said = message(csv("params,tokens,loss\n1e6,2e7,\n"))
    assert said.endswith("no row is complete: loss is missing (1); a law needs params, tokens, "
                         "loss in every row")  # fmt: skip


def test_conditions_select_rows(runs):
    table, _ = read(runs, where=["family in moe,other", "tokens<1e8"])
    assert table.loss.tolist() == [3.9]
    assert table.filters == ("family in moe, other", "tokens < 1e+08")
    assert table.dropped == (("not family in moe, other", 2), ("not tokens < 1e+08", 1))


def test_rows_that_a_condition_excludes_are_not_checked(csv):
    text = HEAD + "\n".join(ROWS) + "\n0,1e7,4,c,broken\n"
    assert read(csv(text), where=["family!=broken"])[0].rows == 4
    assert "line 6, column 'params': 0: allowed for params are numbers above 0" in message(
        csv(text)
    )


def test_conditions_that_leave_nothing(runs):
    assert message(runs, where=["params>1", "loss<1"]).endswith(
        "no row is left after 'loss < 1'; before it loss ran from 3.6 to 4.5 over 4 rows"
    )
    assert "family was one of dense, moe over 4 rows" in message(runs, where=["family=rnn"])


def test_conditions_on_what_is_not_there(runs):
    said = message(runs, where=["famly=moe"])
    assert "no column 'famly'. There are: params, tokens, loss, trunk, family" in said
    assert said.endswith("did you mean 'family'?")
    assert "holds text such as 'dense'" in message(runs, where=["family<3"])
    assert "'1_000' is not one" in message(runs, where=["params>1_000"])


# Columns that are not there


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("N", "params"), ("n_params", "params"), ("num_params", "params"), ("Params", "params"),
        ("parameters", "params"), ("Model Size", "params"), ("D", "tokens"), ("tokns", "tokens"),
        ("num_tokens", "tokens"), ("dataset_tokens", "tokens"), ("val_loss", "loss"),
        ("final_loss", "loss"), ("C", "flops"), ("compute", "flops"), ("FLOPs", "flops"),
        ("Training FLOP", "flops"), ("learning_rate", "lr"),
    ],
)  # fmt: skip
def test_other_spellings_are_known(csv, column, name):
    said = message(csv(f"this,{column}\n1,2\n"), needs=(name,))
    assert f"no column {name!r}: name the column of {name} with --{name} COL" in said
    assert said.endswith(f"There are: this, {column}; did you mean {column!r}?")


def test_a_missing_column_tells_of_flops(csv):
    said = message(csv("params,Training FLOP,loss\n1e6,1e14,3\n"))
    assert "--tokens COL, or compute with --flops COL to derive them" in said
    assert said.endswith("did you mean 'Training FLOP'?")
    assert "--batch-tokens COL" in message(csv("a\n1\n"), needs=("batch_tokens",))


def test_a_column_that_was_named_must_be_there(runs):
    said = message(runs, columns={"trunk": "famly"})
    assert "no column 'famly' for trunk. There are: params, " in said
    assert said.endswith("did you mean 'family'?")
    assert read(runs, columns={"lr": "lr"})[0].rows == 4  # the default name asks for nothing


def test_a_wide_table_is_not_printed_whole(csv):
    text = ",".join(f"c{i}" for i in range(100)) + "\n" + ",".join(["1"] * 100)
    assert "c29 and 70 more" in message(csv(text))


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
    table, cautions = read(path, optional=("lr",))
    assert "lr" not in table
    assert "lr is not used: " in str(cautions[0])
    assert "'3e-3 peak': not a number" in str(cautions[0])
    table, cautions = read(path, columns={"lr": "rate"}, optional=("lr",))
    assert table["lr"].tolist() == [0.01, 0.01]
    assert cautions == ()
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


# What else must be known


# Files that are none


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("runs.xlsx", b"x", "allowed are .csv, .tsv, .jsonl, .ndjson, .json, each with .gz or"),
        ("runs.pkl", b"\x80\x04N.", "not a table that can be read"),
        ("runs.csv", b"", "is empty"),
        ("runs.csv", b"\n \n", "is empty"),
        ("runs.csv", b"params,tokens,loss\n", "has no rows"),
        ("runs.csv", b"params,tokens\n1,\xff\n", "not UTF-8 text (byte 16)"),
        ("runs.csv", b"params,tokens\n1,2\n1,2,3\n", "line 3: 3 cells where the header has 2"),
        ("runs.csv", b"params,tokens\n\n1\n", "line 3: 1 cells where the header has 2"),
        ("runs.csv", b"params,params\n1,2\n", "column 'params' stands twice in the header"),
        ("runs.csv", b"params tokens\n1 2\n", "separated by spaces; separate them by commas"),
        ("runs.csv", b"params|tokens\n1|2\n", "separated by bars; separate them by commas"),
        ("runs.csv", b"a,b;c\n1,2;3\n", "commas and semicolons both part it into whole rows"),
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
    said = [caution.message for caution in read(other)[1] if caution.code == "trunk-column"]
    assert "--trunk 'trunk_id'" in said[0]
    blank = csv("params,tokens,loss,trunk\n1e6,2e7,4.5,a\n1e6,4e7,4.2,\n", "blank.csv")
    said = [caution.message for caution in read(blank)[1] if caution.code == "trunk-column"]
    assert "1 rows have no trunk" in said[0]
    assert "trunk-column" not in codes(read(runs)[1])
