"""Imported runs in a study's law, its tables and its page: they move them, and come out again."""

import csv
import json

import pytest
from large_runs import COLUMNS, LAW, TABLE, taken

from windtunnel.runs.measured import gather
from windtunnel.runs.study import open_study


@pytest.mark.usefixtures("undrawn")
@pytest.mark.medium
def test_planted_large_runs_move_the_fit_and_come_out_again(finished, windtunnel, tmp_path):
    def fitted(*more, source=finished):
        code, out, err = windtunnel("fit", source, "--intervals", "none", "--json", *more)
        assert code == 0, err
        return json.loads(out)

    before = fitted()
    assert before["n"] == 16
    assert before["optimum"][0]["ratio_exact"] is not None
    largest = before["domain"]["params"][1]
    rows = [(100 * largest, 100 * largest * ratio) for ratio in (5, 10, 20, 40)]
    (tmp_path / "big.jsonl").write_text(
        "".join(
            json.dumps({"run": f"r{i}", "n": n, "d": d, "l": float(LAW(n, d)), "family": 1}) + "\n"
            for i, (n, d) in enumerate(rows)
        )
    )
    options = ("--params", "n", "--tokens", "d", "--loss", "l", "--decayed", "true",
               "--trunk", "family")  # fmt: skip
    code, out, err = windtunnel("import-runs", finished, tmp_path / "big.jsonl", *options)
    assert (code, err) == (0, "")
    assert "4 new, 0 known already; written to" in out

    after = fitted()
    assert after["n"] == 20
    assert after["n_trunks"] == before["n_trunks"] + 1
    assert after["domain"]["params"] == [before["domain"]["params"][0], 100 * largest]
    truth = LAW.alpha, LAW.beta, LAW.E
    miss = [
        [abs(fit["coefficients"][name] - value) for name, value in zip(
            ("alpha", "beta", "E"), truth, strict=True)]
        for fit in (before, after)
    ]  # fmt: skip
    assert all(now < then for then, now in zip(*miss, strict=True))  # a law pinned from both ends
    codes = [each["code"] for each in after["warnings"]]
    assert codes[:2] == ["small-validation", "imported-runs"]
    assert "4 of 20 rows are imported (4 from csv big.jsonl)" in after["warnings"][1]["message"]
    assert "column-left-out" in codes  # the exact FLOPs
    assert after["optimum"][0].get("ratio_exact") is None
    assert after["inputs"]["runs"] != before["inputs"]["runs"]

    without = fitted("--where", "kind != imported")
    assert without["coefficients"] == before["coefficients"]
    assert "imported-runs" not in [each["code"] for each in without["warnings"]]
    # Laws of curves and of rates do not take them.
    code, out, _ = windtunnel("fit", finished, "--law", "lr-valley", "--json")
    assert "imported" not in out

    code, out, _ = windtunnel("runs", finished, "--out", tmp_path / "runs.csv")
    with (tmp_path / "runs.csv").open() as file:
        listed = list(csv.DictReader(file))
    assert [row["kind"] for row in listed].count("imported") == 4
    assert listed[-1]["label"] == "r3"
    assert listed[-1]["width"] == listed[-1]["flops_exact"] == ""
    assert fitted(source=tmp_path / "runs.csv")["coefficients"] == after["coefficients"]
    code, out, _ = windtunnel("runs", finished)
    assert (code, out.count(" imported ")) == (0, 4)

    code, _, err = windtunnel("report", finished)
    assert (code, err) == (0, "")
    folder = tmp_path / "store" / "studies" / "small"
    page = (folder / "report.html").read_text()
    assert "4 of 20 rows are imported" in page
    assert "forecast and findings rest on the study" in page
    assert page.count(">csv big.jsonl<") == 4
    reported = json.loads((folder / "fit.json").read_text())
    default = json.loads(windtunnel("fit", finished, "--json")[1])
    assert (reported["law"], reported["coefficients"]) == ("auto", default["coefficients"])
    assert reported["inputs"] == after["inputs"]

    code, _, err = windtunnel("records", finished, "--out", tmp_path / "records")
    assert code == 0, err
    with (tmp_path / "records" / "imported.csv").open() as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["r0", "r1", "r2", "r3"]
    with (tmp_path / "records" / "runs.csv").open() as file:
        assert "imported" not in file.read()

    for label in ("r0", "r1", "r2", "r3"):
        code, out, _ = windtunnel("import-runs", finished, "--remove", label)
        assert (code, f"took out '{label}'" in out) == (0, True)
    assert fitted() == before


def test_undecayed_runs_are_kept_and_the_law_leaves_them_out(finished, windtunnel, table):
    code, _, err = windtunnel("import-runs", finished, table, *COLUMNS)
    assert code == 2
    assert "--decayed true, --decayed false or --decayed COL" in err
    code, out, _ = windtunnel("import-runs", finished, table, *COLUMNS, "--decayed", "good")
    assert "1 runs are not decayed: they are kept, and the law leaves them out" in out
    assert [each.decayed for each in taken(finished).values()] == [True, True, False]
    code, out, _ = windtunnel("fit", finished, "--intervals", "none", "--json")
    assert json.loads(out)["n"] == 16 + 2
    table.write_text(TABLE.replace("2e-4,false", "2e-4,"))
    code, _, err = windtunnel("import-runs", finished, table, *COLUMNS, "--decayed", "good")
    assert code == 2
    assert "column 'good' does not say of every run" in err


def test_a_studys_own_runs_do_not_come_back_as_imports(finished, windtunnel, tmp_path):
    windtunnel("runs", finished, "--out", tmp_path / "runs.csv")
    code, _, err = windtunnel("import-runs", finished, tmp_path / "runs.csv")
    assert code == 2
    assert "20 of 20 runs are segments of this study itself" in err
    assert len(gather(open_study(finished).store, open_study(finished).plan)) == 20
