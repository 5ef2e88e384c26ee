"""`windtunnel fit --evaluate FIT.json`, and --fix of every coefficient."""

import json

import numpy as np
import pandas as pd
import pytest

from windtunnel.laws import Chinchilla

LAW = Chinchilla(1.69, 406.4, 410.7, 0.34, 0.28)
STATED = [f"{name}={value}" for name, value in LAW.coefficients.items()]


def write(path, *, seed=1, trend=0.0):
    rng = np.random.default_rng(seed)
    rows = [
        {"params": n, "tokens": ratio * n, "trunk": f"{n:.0f}-{copy}",
         "loss": float(LAW(n, ratio * n)) * (n * n * ratio / 1e13) ** trend
         * np.exp(0.002 * rng.normal())}
        for n in np.geomspace(1e5, 3.2e6, 6) for copy in range(2) for ratio in (5, 10, 20, 40, 80)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


@pytest.fixture
def fitted(windtunnel, tmp_path):
    out = tmp_path / "fit.json"
    table = write(tmp_path / "runs.csv")
    options = ("--law", "chinchilla", "--bootstrap", 100, "--holdout", "none", "--out", out)
    assert windtunnel("fit", table, *options)[0] == 0
    return out


def test_last_months_law_on_a_new_table(windtunnel, tmp_path, fitted):
    new = write(tmp_path / "new.csv", seed=2)
    code, out, _ = windtunnel("fit", new, "--evaluate", fitted, "--json")
    found = json.loads(out)
    assert (code, found["law"], found["given"]) == (0, "chinchilla", str(fitted))
    assert found["coefficients"] == json.loads(fitted.read_text())["coefficients"]
    assert found["holdout"]["covered"] > 0.7
    assert found["warnings"] == []
    drifting = write(tmp_path / "drift.csv", seed=2, trend=0.004)
    file = tmp_path / "evaluated.json"
    code, out, _ = windtunnel("fit", drifting, "--evaluate", fitted, "--out", file)
    assert code == 0
    assert "[law-drifted]" in out
    assert "law-drifted" in [each["code"] for each in json.loads(file.read_text())["warnings"]]


def test_every_coefficient_fixed_is_an_evaluation(windtunnel, tmp_path):
    table = write(tmp_path / "runs.csv")
    stated = [part for each in STATED for part in ("--fix", each)]
    code, out, _ = windtunnel("fit", table, *stated, "--json", "--objective", "mse-log")
    found = json.loads(out)
    assert (code, found["given"], found["coefficients"]) == (0, "coefficients", LAW.coefficients)
    assert found["objective"]["value"] == pytest.approx(0.002**2 * 60 / 2, rel=0.5)
    k = json.loads(
        windtunnel("fit", table, "--law", "coupled", *stated, "--fix", "k=1", "--json")[1]
    )
    assert k["holdout"]["error"] == pytest.approx(found["holdout"]["error"])


@pytest.mark.parametrize("option", [("--fix", "E=1"), ("--law", "coupled"), ("--holdout", "none"),
                                    ("--figures", "out"), ("--level", "0.8")])  # fmt: skip
def test_options_of_a_fit_are_refused(windtunnel, tmp_path, fitted, option):
    code, _, err = windtunnel("fit", tmp_path / "runs.csv", "--evaluate", fitted, *option)
    assert code == 2
    assert "[contradicting-options]" in err


def test_a_band_is_printed_and_written(windtunnel, tmp_path):
    table = write(tmp_path / "runs.csv")
    options = ("--fix", "E=1.4..1.9", "--bootstrap", 0, "--holdout", "none")
    band = json.loads(windtunnel("fit", table, *options, "--json")[1])["details"]["band"]
    assert [law["E"] for law in band["laws"]] == pytest.approx([1.4, 1.65, 1.9])
    code, out, _ = windtunnel("fit", table, *options)
    assert code == 0
    for law in band["laws"]:
        assert f"{law['ratio']:.4g}" in out
    assert windtunnel("fit", table, "--fix", "E=1.4..x")[0] == 2


@pytest.mark.parametrize("noise", ["0.2%", "0.002"])
def test_a_known_noise_in_both_forms(windtunnel, tmp_path, noise):
    table = write(tmp_path / "runs.csv")
    one = pd.read_csv(table)
    one[one["trunk"].str.endswith("-0")].to_csv(table, index=False)
    code, out, _ = windtunnel(
        "fit", table, "--noise", noise, "--bootstrap", 20, "--holdout", "none", "--json"
    )
    found = json.loads(out)
    assert (code, found["law"], found["noise"]["seed"]) == (0, "chinchilla", 0.002)
    assert found["objective"]["delta"] == pytest.approx(1.345 * 0.002)
    assert "[not-a-number]" in windtunnel("fit", table, "--noise", "much")[2]
