"""Tables of other people: columns of any name and format, and what follows from them."""

import gzip
import json

import pandas as pd
import pytest
from table_files import NEEDS, codes, read, refused, values

# What is read


def test_a_plain_table(runs):
    table, diagnostics = read(runs)
    assert table.params.tolist() == [1e6, 1e6, 3e6, 3e6]
    assert table.tokens.tolist() == [2e7, 4e7, 6e7, 1.2e8]
    assert table.loss.tolist() == [4.5, 4.2, 3.9, 3.6]
    assert table.trunk.tolist() == ["a", "a", "b", "b"]
    assert table.decayed is None
    assert (table.filters, table.dropped, table.names, diagnostics) == ((), (), {}, ())
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
        table, diagnostics = read(path, optional=("lr",), where=["tokens>=2e7"])
        for name in NEEDS:
            assert table[name].tolist() == rows[name].tolist(), path
        assert table.decayed.tolist() == [True, False]
        assert table.labels["run"].tolist() == ["7", "8"]
        assert "lr" not in table
        assert codes(diagnostics) == ["column-left-out"]
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
    error = refused(csv(head + "maybe\n"))
    assert values(error, "place", "column", "cell") == (
        "not-a-boolean", "line 2", "decayed", "maybe",
    )  # fmt: skip
    table, diagnostics = read(csv(head + "\n1e6,4e7,3.9,true\n"))
    assert table.decayed is None
    assert values(diagnostics[0], "name", "column", "missing", "rows") == (
        "column-left-out", "decayed", "decayed", 1, 2,
    )  # fmt: skip


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
    assert values(refused(csv(text)), "place", "column", "cell") == (
        "not-a-number", "line 2", "flops", "1.2e14x",
    )  # fmt: skip
    table, diagnostics = read(csv(text.replace("x", "")))
    assert table.dropped == (("flops is missing", 1),)
    assert codes(diagnostics) == ["incomplete-rows"]


@pytest.mark.parametrize(
    "rule", ["6", "ND", "-6ND", "0ND", "6DN", "infND", "sixND", "6NDx", "1_0ND"]
)
def test_flop_rules_that_are_none(runs, rule):
    assert values(refused(runs, flop_rule=rule), "rule") == ("wrong-flop-rule", rule)


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
    error = refused(csv(f"this,{column}\n1,2\n"), needs=(name,))
    assert values(error, "name", "known", "suggested") == (
        "unknown-column", name, ["this", column], column,
    )  # fmt: skip


def test_a_missing_column_tells_of_flops(csv):
    path = csv("params,Training FLOP,loss\n1e6,1e14,3\n")
    assert str(refused(path)) == (
        f"{path}: no column 'tokens': name the column of tokens with --tokens COL, or compute with "
        "--flops COL to derive them. There are: params, Training FLOP, loss; did you mean "
        "'Training FLOP'?"
    )
    assert values(refused(csv("a\n1\n"), needs=("batch_tokens",)), "name", "suggested") == (
        "unknown-column", "batch_tokens", None,
    )  # fmt: skip


def test_a_column_that_was_named_must_be_there(runs):
    error = refused(runs, columns={"trunk": "famly"})
    assert values(error, "column", "name", "suggested") == (
        "unknown-column", "famly", "trunk", "family",
    )  # fmt: skip
    assert read(runs, columns={"lr": "lr"})[0].rows == 4  # the default name asks for nothing


def test_a_wide_table_is_not_printed_whole(csv):
    text = ",".join(f"c{i}" for i in range(100)) + "\n" + ",".join(["1"] * 100)
    assert "c29 and 70 more" in str(refused(csv(text)))
