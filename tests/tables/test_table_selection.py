"""Rows of other people's tables that are left out: conditions, outliers, unfinished runs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from table_files import HEAD, ROWS, codes, read, refused, values

CHINCHILLA = Path(__file__).parents[2].parent / "shared/data/chinchilla_points.csv"


def test_the_five_outliers(csv):
    rng = np.random.default_rng(0)
    size, flop = rng.uniform(1e8, 1e10, 40), rng.uniform(1e19, 1e21, 40)
    loss = rng.uniform(2, 3, 40)
    loss[[3, 11, 17, 29, 33]] = [5.0, 4.7, 4.0, 5.0, 3.5]
    rows = pd.DataFrame({"Model Size": size, "Training FLOP": flop, "loss": loss})
    columns = {"params": "Model Size", "flops": "Training FLOP"}
    path = csv(rows.to_csv(index=False))
    table, diagnostics = read(path, columns=columns, optional=("flops",), drop_highest=5)
    assert table.rows == 35
    kept = np.delete(np.arange(40), [3, 11, 17, 29, 33])
    assert table.loss.tolist() == loss[kept].tolist()
    assert table.tokens == pytest.approx((flop / (6 * size))[kept])
    assert table.filters == ("tokens = flops / (6 params)", "the 5 highest losses dropped")
    assert table.dropped == (("the 5 highest losses", 5),)
    assert diagnostics == ()
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
    for needs in (("params", "tokens", "loss"), ("params",)):  # of a law that reads no loss: none
        error = refused(runs, needs=needs, drop_highest=count)
        assert values(error, "drop_highest", "rows") == ("out-of-range", count, 4)


def test_incomplete_and_diverged_rows_are_counted(csv):
    more = ["1e6,NaN,4,a,x", "1e6,2e7,,a,x", "1e6,3e7,None,a,x", "1e6,2e7,9,a,x"]
    outcomes = ["finished"] * 7 + ["diverged"]
    rows = [f"{row},{outcome}" for row, outcome in zip(ROWS + more, outcomes, strict=True)]
    table, diagnostics = read(csv(HEAD.strip() + ",outcome\n" + "\n".join(rows)))
    assert table.rows == 4
    assert table.dropped == (
        ("outcome is diverged", 1),
        ("tokens is missing", 1),
        ("loss is missing", 2),
    )
    assert codes(diagnostics) == ["unfinished-runs", "incomplete-rows"]
    assert values(diagnostics[0], "column", "rows", "unfinished") == (
        "unfinished-runs", "outcome", 8, {"diverged": 1},
    )  # fmt: skip
    assert values(diagnostics[1], "left_out", "rows") == ("incomplete-rows", 3, 8)
    error = refused(csv("params,tokens,loss\n1e6,2e7,\n"))
    assert values(error, "needs", "dropped") == (
        "no-rows-left", ["params", "tokens", "loss"], {"loss is missing": 1},
    )  # fmt: skip


def test_conditions_select_rows(runs):
    table, _ = read(runs, where=["family in moe,other", "tokens<1e8"])
    assert table.loss.tolist() == [3.9]
    assert table.filters == ("family in moe, other", "tokens < 1e+08")
    assert table.dropped == (("not family in moe, other", 2), ("not tokens < 1e+08", 1))


def test_rows_that_a_condition_excludes_are_not_checked(csv):
    text = HEAD + "\n".join(ROWS) + "\n0,1e7,4,c,broken\n"
    assert read(csv(text), where=["family!=broken"])[0].rows == 4
    assert values(refused(csv(text)), "place", "column", "cell") == (
        "out-of-range", "line 6", "params", "0",
    )  # fmt: skip


def test_conditions_that_leave_nothing(runs):
    error = refused(runs, where=["params>1", "loss<1"])
    assert str(error).endswith(
        "no row is left after 'loss < 1'; before it loss ran from 3.6 to 4.5 over 4 rows"
    )
    assert values(error, "condition", "rows") == ("no-rows-left", "loss < 1", 4)
    error = refused(runs, where=["family=rnn"])
    assert values(error, "condition", "rows") == ("no-rows-left", "family == rnn", 4)


def test_conditions_on_what_is_not_there(runs):
    error = refused(runs, where=["famly=moe"])
    assert values(error, "column", "known") == (
        "unknown-column", "famly", ["params", "tokens", "loss", "trunk", "family"],
    )  # fmt: skip
    assert "holds text such as 'dense'" in str(refused(runs, where=["family<3"]))
    assert "'1__000' is not one" in str(refused(runs, where=["params>1__000"]))
