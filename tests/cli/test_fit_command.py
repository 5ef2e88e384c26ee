"""The fit, predict and optimum commands on tables: the public contract of docs/fit.md."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from windtunnel.cli.app import app
from windtunnel.errors import WindtunnelError
from windtunnel.laws import LAWS, Chinchilla, DataConstrained

CHINCHILLA_POINTS = Path(__file__).parents[3] / "shared" / "data" / "chinchilla_points.csv"
BATCH_GRID = CHINCHILLA_POINTS.parent / "cases" / "power2.csv"
LAW = Chinchilla(1.69, 406.4, 410.7, 0.34, 0.28)
KEYS = [
    "schema", "law", "formula", "source", "n", "n_trunks", "n_dropped", "dropped", "columns",
    "filters", "convention", "objective", "coefficients", "scaled", "intervals", "level", "method",
    "resamples", "resamples_failed", "starts", "starts_agreeing", "converged", "domain", "optimum",
    "exponents", "holdout", "influence", "residuals", "noise", "correlation", "warnings", "details",
    "inputs", "seed", "exact_rule", "draws", "noise_draws", "digest",
]  # fmt: skip


def run(*arguments):
    """Standard output of a command that works."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def fitted(*arguments):
    return json.loads(run("fit", *arguments, "--json"))


def refused(*arguments):
    """The message and the code of a command that fails."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert isinstance(result.exception, WindtunnelError), result.exception
    return f"{result.exception} [{result.exception.code}]"


@pytest.fixture
def table():
    """Trunk-and-branch runs of a planted law: 6 sizes, 6 horizons, 2 seeds, 0.3% noise."""
    rng = np.random.default_rng(1)
    rows = []
    for size in np.geomspace(1e5, 3.2e6, 6):
        for seed in (0, 1):
            shared = 0.002 * rng.standard_normal()
            rows += [
                {
                    "params": size,
                    "tokens": ratio * size,
                    "loss": float(LAW(size, ratio * size))
                    * np.exp(shared + 0.002 * rng.standard_normal()),
                    "trunk": f"{size:.0f}-{seed}",
                    "family": "ours",
                }
                for ratio in (5, 10, 20, 40, 80, 300)
            ]
    return pd.DataFrame(rows)


@pytest.fixture
def csv(table, tmp_path):
    path = tmp_path / "runs.csv"
    table.to_csv(path, index=False)
    return path


def test_the_schema_is_frozen_and_reads_back(csv, tmp_path):
    out = tmp_path / "fit.json"
    fit = json.loads(run("fit", csv, "--law", "chinchilla", "--json", "--out", out))
    assert list(fit) == KEYS
    assert json.loads(out.read_text()) == fit
    assert fit["n"] == 72
    assert set(fit["coefficients"]) == {"E", "A", "B", "alpha", "beta"}
    assert set(fit["intervals"]) == {*fit["coefficients"], "a", "b", "ratio"}
    assert set(fit["objective"]) == {"name", "delta", "value", "gradient_norm"}
    assert fit["objective"]["gradient_norm"] < 1e-7
    assert {"flops", "params", "tokens", "ratio", "ratio_interval", "ratio_exact", "loss",
            "extrapolates"} <= set(fit["optimum"][0])  # fmt: skip
    assert set(fit["exponents"]) == {"a", "a_interval", "b", "b_interval"}
    assert {"n", "trunks", "mean_relative_error", "by_group", "covered", "naive"} <= set(
        fit["holdout"]
    )
    assert len(fit["influence"]["rows"]) == 5
    assert {"branch", "trunk"} <= set(fit["noise"])
    assert fit["resamples"] == len(fit["draws"]) == 1000


def test_the_default_is_auto_and_its_document_holds_the_misfit(csv, tmp_path):
    out = tmp_path / "fit.json"
    fit = json.loads(run("fit", csv, "--bootstrap", 60, "--json", "--out", out))
    assert json.loads(out.read_text()) == fit
    assert (fit["law"], fit["method"], fit["resamples"]) == ("auto", "posterior", 60)
    assert set(fit) == {*KEYS, "misfit"}
    assert set(fit["coefficients"]) == {"E", "A", "B", "alpha", "beta", "k"}
    assert {"forms", "extrapolations", "widening", "misfit"} <= set(fit["details"])
    printed = run("fit", csv, "--bootstrap", 60)
    assert "no-floor" in printed
    assert fitted(csv, "--fix", "E=1.7", "--bootstrap", 60)["law"] == "chinchilla"


@pytest.mark.medium
def test_predict_and_optimum_from_a_written_fit(csv, tmp_path):
    out = tmp_path / "fit.json"
    run("fit", csv, "--out", out)
    asked = ("--params", 1e6, "--tokens", 2e7)
    found = json.loads(run("predict", out, *asked, "--json"))
    assert found["interval"][0] < found["loss"] < found["interval"][1]
    assert found["loss"] == pytest.approx(float(LAW(1e6, 2e7)), rel=0.01)
    assert found["warnings"] == []
    far = json.loads(run("predict", out, "--params", 3.2e8, "--tokens", 3.2e10, "--json"))
    assert "2.00 decades above" in far["warnings"][0]["message"]
    assert "2.00 decades above" in run("predict", out, "--params", 3.2e8, "--tokens", 3.2e10)

    best = json.loads(run("optimum", out, "--flops", 1e15, "--json"))
    assert best["ratio_interval"][0] < best["ratio"] < best["ratio_interval"][1]
    again = json.loads(run("optimum", out, "--params", best["params"], "--json"))
    assert again["flops"] == pytest.approx(1e15)
    again = json.loads(run("optimum", out, "--tokens-per-param", best["ratio"], "--json"))
    assert again["flops"] == pytest.approx(1e15)
    split = json.loads(run("optimum", out, "--flops", 1e15, "--tokens-per-param", 200, "--json"))
    assert split["ratio"] == pytest.approx(200)
    assert split["excess"] > 0
    assert "this split loses" in run("optimum", out, "--flops", 1e15, "--tokens-per-param", 200)


@pytest.mark.skipif(not CHINCHILLA_POINTS.exists(), reason="shared data is not beside the repo")
def test_the_published_points_reach_the_known_optimum():
    fit = fitted(
        CHINCHILLA_POINTS, "--params", "Model Size", "--flops", "Training FLOP",
        "--drop-highest", "5", "--delta", "1e-3", "--holdout", "flops>=1e21",
    )  # fmt: skip
    assert (fit["n"], fit["n_dropped"]) == (240, 5)
    assert fit["objective"]["value"] == pytest.approx(0.0010182740, abs=5e-11)
    assert fit["objective"]["gradient_norm"] < 1e-7
    found = fit["coefficients"]
    assert found["alpha"] == pytest.approx(0.34731, abs=5e-6)
    assert found["beta"] == pytest.approx(0.36717, abs=5e-6)
    assert found["E"] == pytest.approx(1.81722, abs=5e-6)
    assert fit["filters"] == [
        "tokens = flops / (6 params)", "the 5 highest losses dropped",
    ]  # fmt: skip
    assert fit["starts_agreeing"] == fit["starts"] == 64
    assert fit["holdout"]["mean_relative_error"] < min(fit["holdout"]["naive"].values())
    outliers = fitted(
        CHINCHILLA_POINTS, "--params", "Model Size", "--flops", "Training FLOP",
        "--delta", "1e-3", "--holdout", "none",
    )  # fmt: skip
    assert outliers["coefficients"]["beta"] == pytest.approx(0.453, abs=5e-4)
    assert "outlier-driven" in [warning["code"] for warning in outliers["warnings"]]


@pytest.mark.medium
def test_a_holdout_that_cuts_a_trunk_is_widened(csv, table):
    flops = 6 * table["params"] * table["tokens"]
    limit = float(np.sort(flops)[-4])
    fit = fitted(csv, "--holdout", f"flops>={limit}")
    held = set(table["trunk"][flops >= limit])
    assert fit["holdout"]["n"] == 6 * len(held)
    assert fit["warnings"][0]["code"] == "holdout-widened"
    whole = fitted(csv, "--holdout", "params>=3.1e6")
    assert "holdout-widened" not in [warning["code"] for warning in whole["warnings"]]


@pytest.mark.medium
def test_selection_scaling_fixing_and_tying(csv, table, tmp_path):
    fit = fitted(csv, "--where", "params < 3e6", "--where", "family == ours", "--bootstrap", 50)
    assert (fit["n"], fit["n_dropped"]) == (60, 12)
    assert fit["dropped"] == [{"reason": "not params < 3e+06", "rows": 12}]
    tied = fitted(csv, "--tie", "alpha=beta", "--bootstrap", 50)["coefficients"]
    assert tied["alpha"] == tied["beta"]
    fixed = fitted(csv, "--fix", "E=1.7", "--fix", "alpha=0.33", "--bootstrap", 50)["coefficients"]
    assert (fixed["E"], fixed["alpha"]) == (1.7, 0.33)
    billions = tmp_path / "billions.csv"
    table.assign(params=table["params"] / 1e9).to_csv(billions, index=False)
    assert "--scale params=1e9" in refused("fit", billions)
    scaled = fitted(billions, "--scale", "params=1e9", "--bootstrap", 50)
    assert scaled["coefficients"]["alpha"] == pytest.approx(
        fitted(csv, "--bootstrap", 50)["coefficients"]["alpha"]
    )


@pytest.mark.medium
def test_every_kind_of_table_gives_the_same_fit(csv, table, tmp_path):
    lines = table.to_json(orient="records", lines=True)
    (tmp_path / "runs.jsonl").write_text(lines)
    (tmp_path / "runs.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    table.to_parquet(tmp_path / "runs.parquet")
    wanted = fitted(csv, "--intervals", "none")["coefficients"]
    for name in ("runs.jsonl", "runs.jsonl.gz", "runs.parquet"):
        found = fitted(tmp_path / name, "--intervals", "none")["coefficients"]
        assert found == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("method", ["two-level", "case", "profile", "none"])
def test_every_method_of_intervals(csv, method):
    fit = fitted(csv, "--law", "chinchilla", "--intervals", method, "--bootstrap", "200")
    assert fit["method"] == method
    assert bool(fit["intervals"]) == (method != "none")
    for name, (low, high) in fit["intervals"].items():
        value = fit["coefficients"].get(name)
        assert value is None or low <= value <= high


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--law", "chinchila"], r"\[unknown-value\]"),
        (["--intervals", "bca"], r"\[unknown-value\]"),
        (["--objective", "hubber-log"], r"\[unknown-value\]"),
        (["--delta", "small"], r"\[not-a-number\]"),
        (["--level", "90"], r"\[out-of-range\]"),
        (["--fix", "alpha"], r"\[not-a-pair\]"),
        (["--fix", "alpha=x"], r"\[not-a-number\]"),
        (["--fix", "alfa=0.3"], "did you mean 'alpha'"),
        (["--tie", "alpha=gamma"], "no coefficient 'gamma'"),
        (["--params", "sise"], "no column 'sise'"),
        (["--where", "params"], "params"),
        (["--where", "params > 1e12"], "no row is left"),
        (["--where", "params < 2e5"], "distinct values of params; this table has 1: add 2"),
        (["--drop-highest", "99"], "cannot be dropped"),
        (["--holdout", "flops>=1e30"], "no row of 72 is held out"),
        (["--holdout", "size>=1"], "no column 'size'"),
        (["--flop-rule", "6DN"], "6ND"),
        (
            ["--law", "isoflop", "--interpolate", "spline"],
            r"\[unknown-value\]",
        ),
        (["--law", "isoflop", "--intervals", "profile"], "budgets|profile"),
        (["--law", "power"], "name the column of x with --x COL"),
        (["--law", "envelope"], "run"),
    ],
)
def test_bad_options_teach(csv, options, message):
    import re

    assert re.search(message, refused("fit", csv, *options))


def test_a_fit_that_is_none_is_refused(csv, tmp_path):
    assert "cannot be read" in refused("optimum", tmp_path / "none.json", "--flops", "1e20")
    assert "not a fit" in refused("predict", csv, "--params", "1e6", "--tokens", "1e7")
    out = tmp_path / "fit.json"
    run("fit", csv, "--out", out, "--bootstrap", "10")
    assert "also needs tokens" in refused("predict", out, "--params", "1e6")
    assert "give flops, or one of" in refused("optimum", out)
    assert "must be above 0" in refused("optimum", out, "--flops", "-1")
    assert "no input 'loss'" in refused("predict", out, "--loss", "2", "--params", "1e6")
    below_a_file = out / "fit.json"
    assert "cannot be written" in refused("fit", csv, "--out", below_a_file, "--bootstrap", "10")


@pytest.mark.medium
def test_repeated_data(tmp_path):
    law = DataConstrained(1.87, 521.0, 1488.0, 0.353, 0.353, 5.31, 15.39)
    n, u, e = (
        each.ravel()
        for each in np.meshgrid(
            np.geomspace(1e7, 2e9, 5), np.geomspace(1e8, 1e10, 3), [0.5, 2, 8, 30]
        )
    )
    path = tmp_path / "repeats.csv"
    columns = {"params": n, "tokens": u * e, "unique_tokens": u, "loss": law(n, u * e, u)}
    pd.DataFrame(columns).to_csv(path, index=False)
    out = tmp_path / "fit.json"
    asked = ("--law", "data-constrained", "--bootstrap", "20", "--holdout", "none")
    fit = fitted(path, *asked, "--out", out)
    assert fit["coefficients"] == pytest.approx(law.coefficients, rel=1e-4)
    asked = ("--params", 1e9, "--tokens", 1e11, "--json")
    fresh = json.loads(run("predict", out, *asked))["loss"]
    repeated = json.loads(run("predict", out, *asked, "--unique-tokens", 2e9))["loss"]
    assert fresh == pytest.approx(float(law(1e9, 1e11, 1e11)), rel=1e-6)
    assert repeated == pytest.approx(float(law(1e9, 1e11, 2e9)), rel=1e-6)
    assert repeated > fresh


def test_help_names_every_law():
    text = " ".join(run("fit", "--help").split())
    for law in LAWS:
        assert law in text


@pytest.mark.medium
def test_the_best_split_when_data_runs_out(tmp_path):
    law = DataConstrained(1.87, 521.0, 1488.0, 0.353, 0.353, 5.31, 15.39)
    n, u, e = (
        each.ravel()
        for each in np.meshgrid(
            np.geomspace(1e7, 2e9, 5), np.geomspace(1e8, 1e10, 3), [0.5, 2, 8, 30]
        )
    )
    rng = np.random.default_rng(0)
    loss = law(n, u * e, u) * np.exp(0.002 * rng.standard_normal(n.size))
    path, out = tmp_path / "repeats.csv", tmp_path / "fit.json"
    columns = {"params": n, "tokens": u * e, "unique_tokens": u, "loss": loss}
    pd.DataFrame(columns).to_csv(path, index=False)
    run("fit", path, "--law", "data-constrained", "--out", out, "--bootstrap", "100")
    plenty = json.loads(run("optimum", out, "--flops", 1e20, "--json"))
    same = json.loads(run("optimum", out, "--flops", 1e20, "--unique-tokens", 1e13, "--json"))
    assert same["params"] == pytest.approx(plenty["params"], rel=0.01)
    short = json.loads(run("optimum", out, "--flops", 1e20, "--unique-tokens", 1e9, "--json"))
    assert short["loss"] > plenty["loss"]
    # No other split of the budget is better under the fitted law.
    found = law.of(json.loads(out.read_text())["coefficients"].values())
    sizes = short["params"] * np.geomspace(0.5, 2, 101)
    assert short["loss"] <= found(sizes, 1e20 / 6 / sizes, 1e9).min() * (1 + 1e-6)
    assert short["params_interval"][0] < short["params"] < short["params_interval"][1]
    assert "goes with flops" in refused("optimum", out, "--unique-tokens", 1e9)


def test_a_holdout_on_any_column_of_the_file(csv, table, tmp_path):
    path = tmp_path / "named.csv"
    table.assign(phase=np.where(table["params"] > 3e6, "late", "early")).to_csv(path, index=False)
    fit = fitted(path, "--holdout", "phase == late", "--bootstrap", 50)
    assert fit["holdout"]["n"] == 12


def told(fit, code):
    return " ".join(each["message"] for each in fit["warnings"] if each["code"] == code)


@pytest.mark.medium
def test_rows_are_named_by_their_lines(csv, table, tmp_path):
    path = tmp_path / "wild.csv"
    loss = table["loss"].to_numpy().copy()
    loss[40] *= 1.5
    table.assign(loss=loss).to_csv(path, index=False)
    assert "line 42: " in told(fitted(path, "--where", "params > 1.1e5"), "weighted-down")
    fit = fitted(path, "--law", "chinchilla", "--where", "params > 1.1e5")
    said = [w["message"] for w in fit["warnings"] if w["code"] == "heavy-tails"]
    assert "the worst line 42: " in said[0]
    assert fit["residuals"]["worst"][0]["row"].startswith("line 42: ")


def test_odd_units_are_told(table, tmp_path):
    path = tmp_path / "odd.csv"
    table.assign(tokens=table["tokens"] / 1e4).to_csv(path, index=False)
    said = [
        w["message"] for w in fitted(path, "--bootstrap", 0)["warnings"] if w["code"] == "odd-units"
    ]
    assert "another unit" in said[0]


@pytest.mark.skipif(not BATCH_GRID.exists(), reason="shared data is not beside the repo")
def test_a_batch_law_takes_the_best_learning_rate():
    columns = ("--law", "power2", "--x", "N", "--z", "D", "--y", "bt", "--loss", "L")
    fit = fitted(BATCH_GRID, *columns, "--bootstrap", 50)
    assert fit["coefficients"]["c"] == pytest.approx(0.571, abs=0.02)
    (warning,) = [each for each in fit["warnings"] if each["code"] == "best-over"]
    assert warning["values"]["columns"] == ["lr"]
    named = fitted(BATCH_GRID, *columns, "--bootstrap", 50, "--over", "lr")
    assert named["coefficients"] == fit["coefficients"]
    assert "best-over" not in [each["code"] for each in named["warnings"]]
    averaged = fitted(BATCH_GRID, *columns, "--bootstrap", 50, "--over", "none")
    assert averaged["coefficients"]["c"] == pytest.approx(0.366, abs=0.01)


def test_an_axis_of_a_file_may_be_text_or_blank(tmp_path):
    rows = [
        {"N": n, "D": d, "b": b, "L": 2 + 0.1 * np.log(b / n**0.5) ** 2 + off, "opt": opt, "wd": wd}
        for n in (1e6, 4e6) for d in (1e8, 4e8) for b in np.geomspace(200, 8000, 9)
        for opt, wd, off in (("adamw", "", 0.2 * (b > 1000)), ("muon", 0.1, 0.2 * (b < 1000)))
    ]  # fmt: skip
    path = tmp_path / "grid.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    columns = ("--law", "power2", "--x", "N", "--z", "D", "--y", "b", "--loss", "L")
    over = fitted(path, *columns, "--bootstrap", 50, "--over", "opt")
    assert over["coefficients"]["b"] == pytest.approx(0.5, abs=0.01)
    blank = fitted(path, *columns, "--bootstrap", 50)
    assert blank["coefficients"] == pytest.approx(over["coefficients"])
    assert [each["values"]["columns"] for each in blank["warnings"] if each["code"] == "best-over"]
