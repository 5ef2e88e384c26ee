"""`windtunnel break-even` over three fits that `windtunnel fit` wrote."""

import json

import numpy as np
import pandas as pd
import pytest

from windtunnel.laws import Chinchilla, Upcycling

# Liew et al. 2025, table 2.
LAWS = {
    "upcycling": Upcycling(0.165, 16.3, 8.53, 0.043, 0.085, 7.98e-4, 0.112),
    "dense": Chinchilla(E=0.165, A=12.3, B=8.83, alpha=0.116, beta=0.088),
    "scratch": Chinchilla(E=0.165, A=7.05, B=32.0, alpha=0.080, beta=0.161),
}
AT = ("--params", "1B", "--sunk-tokens", "100N")


@pytest.fixture
def files(windtunnel, tmp_path):
    """The three fits, made by the command line with a column of another name."""
    rng = np.random.default_rng(0)
    found = {}
    for name, law in LAWS.items():
        axes = np.geomspace(1e8, 4e9, 4), *[np.geomspace(5e9, 4e11, 4)] * (len(law.inputs) - 1)
        inputs = [each.ravel() for each in np.meshgrid(*axes)]
        loss = law(*inputs) * np.exp(1e-3 * rng.standard_normal(inputs[0].size))
        columns = dict(zip((*law.inputs, "loss"), (*inputs, loss), strict=True))
        table = pd.DataFrame(columns).rename(columns={"sunk_tokens": "D1", "tokens": "D2"})
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        found[name] = tmp_path / f"{name}.json"
        sunk = ("--sunk-tokens", "D1") if name == "upcycling" else ()
        code, _, error = windtunnel(
            "fit", tmp_path / f"{name}.csv", "--law", law.name, "--tokens", "D2", *sunk,
            "--bootstrap", 60, "--holdout", "none", "--out", found[name],
        )  # fmt: skip
        assert code == 0, error
    return found


@pytest.mark.medium
def test_break_even(windtunnel, files):
    rivals = ("--dense", files["dense"], "--scratch", files["scratch"])
    code, output, _ = windtunnel("break-even", files["upcycling"], *rivals, *AT, "--json")
    assert code == 0
    found = json.loads(output)
    assert found["inputs"] == {
        "params": 1e9, "dense_params": 1e9, "sunk_tokens": 1e11, "experts": None,
        "scratch_tokens": "new",
    }  # fmt: skip
    low, high = found["dense"]["start_interval"]
    assert low < 1.277e10 < high
    assert low < found["dense"]["start"] < high
    assert found["dense"]["end"] == "inf"
    assert found["scratch"]["start"] == 0
    low, high = found["scratch"]["end_interval"]
    assert low < 5.064e10 < high
    assert (found["level"], found["pairs"], found["compared"]) == (0.9, 60, [5e8, 4e12])
    assert [each["code"] for each in found["warnings"]] == ["always-ahead"]
    assert set(found["fit_warnings"]) == {"upcycling", "dense", "scratch"}
    code, output, _ = windtunnel("break-even", files["upcycling"], *rivals, *AT)
    assert code == 0
    assert "beyond 4T" in output
    assert "[always-ahead]" in output
    total = (*rivals[2:], *AT, "--scratch-tokens", "total")
    code, output, _ = windtunnel("break-even", files["upcycling"], *total)
    assert "[never-ahead]" in output


@pytest.mark.medium
def test_what_is_refused(windtunnel, files):
    def refused(*arguments):
        code, output, _ = windtunnel("break-even", *arguments, "--json")
        assert code == 2
        return json.loads(output)["error"]["code"]

    mine, dense = files["upcycling"], ("--dense", files["dense"])
    assert refused(mine, *AT) == "missing-input"
    assert refused(files["dense"], *dense, *AT) == "wrong-law"
    assert refused(mine, *dense, *AT, "--experts", 8) == "unknown-input"
    assert refused(mine, *dense, *AT, "--scratch-tokens", "old") == "unknown-value"
    assert refused(mine, *dense, "--params", "1B", "--sunk-tokens", "0") == "out-of-range"
    assert refused(mine, *dense, "--params", "much", "--sunk-tokens", "1B") == "not-a-number"
    code, _, error = windtunnel("break-even", mine, *AT)
    assert (code, "--dense dense.json" in error) == (2, True)
