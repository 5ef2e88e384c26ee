"""The mixture law on the command line: a table in, a file and pictures out, forecasts from it."""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from windtunnel.cli.app import app
from windtunnel.errors import WindtunnelError
from windtunnel.laws.mixture.models import KINDS

SOURCES = ("docs", "code", "math")


def run(*arguments):
    """Standard output of a command that works."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def refused(*arguments):
    """The message and the code of a command that fails."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert isinstance(result.exception, WindtunnelError), result.exception
    return f"{result.exception} [{result.exception.code}]"


@pytest.fixture(autouse=True)
def without_trees(monkeypatch):
    """Trees take seconds."""
    kinds = {name: kind for name, kind in KINDS.items() if name != "boosting"}
    monkeypatch.setattr("windtunnel.laws.mixture.selection.KINDS", kinds)


def rows_of(sources=SOURCES, mixtures=14, **more):
    """Two trunks, a bowl with its lowest loss near 0.5 docs, the rest in equal parts."""
    rng = np.random.default_rng(4)
    count = len(sources)
    centre = np.array([0.5, *[0.5 / (count - 1)] * (count - 1)])
    shares = np.concatenate([np.eye(count), rng.dirichlet(np.ones(count), mixtures - count)])
    return [
        {
            "variant": f"mix{number:02}",
            "trunk": trunk,
            "params": 1e5,
            "tokens": 1e7,
            # A share of 0 is left empty, as a table of variants has it.
            **{f"weight_{s}": w or "" for s, w in zip(sources, mixture, strict=True)},
            **{
                f"loss_{on}": 2.5 + 0.2 * trunk + np.sum((mixture - centre) ** 2)
                + 0.003 * rng.standard_normal()
                for on in ("docs", "code")
            },
            **more,
        }
        for trunk in (0, 1)
        for number, mixture in enumerate(shares)
    ]  # fmt: skip


def written(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, dict.fromkeys(name for row in rows for name in row))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def table(tmp_path):
    return written(tmp_path / "anneals.csv", rows_of())


@pytest.mark.medium
def test_from_a_table_to_the_best_mixture_and_forecasts(table, tmp_path):
    out, asked = tmp_path / "mixture.json", ("--law", "mixture", "--bootstrap", 200)
    text = run("fit", table, *asked, "--default", "docs=1", "--out", out)
    assert "14 mixtures, 28 runs of 2 trunks" in text
    assert "* quadratic" in text
    assert "lower than at the default, by" in text
    assert "target: mean loss on docs and code\nthe mixture of lowest target:" in text
    found = json.loads(run("fit", table, *asked, "--default", "docs=1", "--json"))
    assert found == json.loads(out.read_text())
    assert found["best"]["mixture"] == pytest.approx(
        {"docs": 0.5, "code": 0.25, "math": 0.25}, abs=0.03
    )
    default = found["best"]["gains"][1]
    # Of docs alone the distance is (0.5, -0.25, -0.25): 0.375 nats.
    assert default["nats_interval"][0] < 0.375 < default["nats_interval"][1]
    shares = ("--weight", "docs=0.5", "--weight", "code=0.5")
    forecast = json.loads(run("predict", out, *shares, "--json"))
    low, high = forecast["losses"]["code"]["loss_interval"]
    assert low < 2.6 + 0.125 < high
    mean = sum(forecast["losses"][name]["loss"] for name in ("docs", "code")) / 2
    assert forecast["target"]["loss"] == pytest.approx(mean)
    assert "target: mean loss on docs and code" in run("predict", out, *shares)
    far = forecast["losses"]["code"]["another_trunk_interval"]
    assert far[0] < low < high < far[1]
    assert forecast["fit_warnings"] == [each["code"] for each in found["warnings"]]
    assert "few-trunks (docs/fit.md)" in run("predict", out, *shares)


def test_a_target_of_one_set_and_conditions(table):
    found = json.loads(
        run("fit", table, "--law", "mixture", "--target", "code", "--where", "variant != mix05",
            "--bootstrap", 0, "--json")
    )  # fmt: skip
    assert (found["target"], found["n"], found["n_mixtures"]) == ({"code": 1.0}, 26, 13)
    assert found["filters"] == ["variant != mix05"]
    assert found["best"]["intervals"]["docs"] == [None, None]
    assert found["same"] == {"params": 1e5, "tokens": 1e7}


@pytest.mark.parametrize("sources", [SOURCES, ("docs", "code"), (*SOURCES, "web")])
@pytest.mark.medium
def test_pictures_of_two_sources_and_more(tmp_path, sources):
    table = written(tmp_path / "anneals.csv", rows_of(sources, mixtures=16))
    text = run("fit", table, "--law", "mixture", "--bootstrap", 60, "--figures", tmp_path / "out")
    for name in ("mixture.png", "mixture-left-out.png"):
        assert (tmp_path / "out" / name).stat().st_size > 20_000
        assert name in text


def test_a_weighted_target_is_written_out(table):
    asked = ("--target", "docs=1", "--target", "code=2", "--bootstrap", 0)
    text = run("fit", table, "--law", "mixture", *asked)
    assert "target: 0.33 x loss on docs + 0.67 x loss on code\n" in text


def test_holdout_is_said_to_be_of_no_use(table):
    asked = ("--law", "mixture", "--bootstrap", 0)
    assert "--holdout none is not followed" in run("fit", table, *asked, "--holdout", "none")
    assert "is not followed" not in run("fit", table, *asked)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--fix", "E=1"), "[contradicting-options]"),
        (("--drop-highest", 2), "[contradicting-options]"),
        (("--over", "lr"), "[contradicting-options]"),
        (("--intervals", "profile"), "[unknown-value]"),
        (("--target", "cod"), "no such validation set; there are docs, code; did you mean 'code'"),
        (("--default", "docs"), "[not-a-pair]"),
        (("--target", "docs=much"), "[not-a-number]"),
        (("--default", "docs=0.4"), "the shares sum to 0.4"),
        (("--where", "weight_docs <= 0.05"), "the law needs"),
    ],
)
def test_options_that_cannot_be_followed(table, options, said):
    assert said in refused("fit", table, "--law", "mixture", *options)


def test_tables_that_hold_no_mixture_law(table, tmp_path):
    two = written(tmp_path / "two.csv", [*rows_of(), *rows_of(tokens=2e7)])
    assert "--where 'tokens == 10000000'" in refused("fit", two, "--law", "mixture")
    run("fit", two, "--law", "mixture", "--where", "tokens == 10000000", "--bootstrap", 0)
    plain = written(tmp_path / "plain.csv", [{"params": 1e6, "tokens": 1e8, "loss": 3.0}])
    assert "[missing-column]" in refused("fit", plain, "--law", "mixture")
    assert "[contradicting-options]" in refused("fit", table, "--target", "docs")


def test_other_commands_say_what_the_file_is(table, tmp_path):
    out = tmp_path / "mixture.json"
    run("fit", table, "--law", "mixture", "--bootstrap", 0, "--out", out)
    assert "[no-optimum]" in refused("optimum", out, "--flops", "1e20")
    assert "[unknown-input]" in refused("predict", out, "--params", "1e6")
    assert "[missing-input]" in refused("predict", out)
    assert "the shares sum to 0.5" in refused("predict", out, "--weight", "docs=0.5")
    curve = tmp_path / "curve.csv"
    written(curve, [{"x": x, "y": 2 * x**-0.5} for x in (1, 2, 4, 8, 16, 32, 64)])
    power = tmp_path / "power.json"
    run("fit", curve, "--law", "power", "--bootstrap", 0, "--holdout", "none", "--out", power)
    assert "[unknown-input]" in refused("predict", power, "--weight", "docs=1")


@pytest.mark.medium
def test_a_table_of_mixtures_is_predicted_at_once(table, tmp_path):
    out = tmp_path / "mixture.json"
    run("fit", table, "--law", "mixture", "--bootstrap", 50, "--out", out)
    rows = [{"docs": 0.5, "code": 0.5, "math": ""}, {"docs": 0.2, "code": 0.3, "math": 0.5}]
    asked = written(tmp_path / "asked.csv", rows)
    found = json.loads(run("predict", out, "--weights-from", asked, "--json"))
    assert [each["row"] for each in found] == ["line 2", "line 3"]
    for row, each in zip(rows, found, strict=True):
        shares = [f"--weight={name}={share}" for name, share in row.items() if share]
        one = json.loads(run("predict", out, *shares, "--json"))
        assert each["losses"] == one["losses"]
        assert each["target"] == one["target"]
    text = run("predict", out, "--weights-from", asked)
    assert f"{found[1]['target']['loss']:.4f}" in text
    prefixed = [{f"weight_{name}": share for name, share in row.items()} for row in rows]
    again = written(tmp_path / "prefixed.csv", prefixed)
    assert json.loads(run("predict", out, "--weights-from", again, "--json")) == found

    short = written(tmp_path / "short.csv", [rows[0], {"docs": 0.5}])
    assert "line 3: mixture: the shares sum to 0.5" in refused(
        "predict", out, "--weights-from", short
    )
    other = written(tmp_path / "other.csv", [{"weight_docs": 0.5, "weight_web": 0.5}])
    assert "[unknown-source]" in refused("predict", out, "--weights-from", other)
    assert "[missing-column]" in refused("predict", out, "--weights-from", written(
        tmp_path / "none.csv", [{"a": 1}]))  # fmt: skip
    both = ("--weight", "docs=1", "--weights-from", asked)
    assert "[contradicting-options]" in refused("predict", out, *both)
