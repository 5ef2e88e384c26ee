"""Rows of other people's tables that are left out: conditions, outliers, unfinished runs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from table_files import HEAD, ROWS, codes, message, read

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
    said = message(runs, drop_highest=count)
    assert said == f"{count} highest losses cannot be dropped: allowed are 0 to 3 of 4 rows"
    assert "allowed are 0, as the law reads no loss" in message(
        runs, needs=("params",), drop_highest=1
    )


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
    assert (
        "1 of 8 rows are left out as unfinished: outcome is diverged (1)" in diagnostics[0].message
    )
    assert diagnostics[1].message == (
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
