"""`windtunnel predict` and `optimum` say what the fit that they read has warned of."""

import json

import numpy as np
import pandas as pd
import pytest

from windtunnel.laws import Chinchilla

LAW = Chinchilla(1.69, 406.4, 410.7, 0.34, 0.28)
PREDICT = ("--params", 1e6, "--tokens", 2e7)
OPTIMUM = ("--flops", 1e15)


@pytest.fixture
def written(windtunnel, tmp_path):
    """Fit a planted law, of which one size may lie `off` it; the file, and its warnings' codes."""

    def write(*, off=0.0, seeds=2):
        rng = np.random.default_rng(1)
        sizes = np.geomspace(1e5, 3.2e6, 6)
        rows = [
            {"params": n, "tokens": ratio * n, "trunk": f"{n:.0f}-{seed}",
             "loss": float(LAW(n, ratio * n)) * np.exp(0.002 * rng.normal() + off * (n > 3e6))}
            for n in sizes for seed in range(seeds) for ratio in (5, 10, 20, 40, 80)
        ]  # fmt: skip
        pd.DataFrame(rows).to_csv(tmp_path / "runs.csv", index=False)
        out = tmp_path / "fit.json"
        code, _, err = windtunnel(
            "fit", tmp_path / "runs.csv", "--law", "chinchilla", "--out", out, "--bootstrap", 100
        )
        assert code == 0, err
        return out, [each["code"] for each in json.loads(out.read_text())["warnings"]]

    return write


@pytest.fixture
def a_fit(written):
    """A fit without warnings."""
    return written()[0]


def test_each_code_of_the_fit_is_told_once(windtunnel, written):
    fit, codes = written(off=0.05)
    assert {"under-tuned", "holdout-missed"} <= set(codes)
    assert len(codes) > len(set(codes))  # missed in two ways
    once = list(dict.fromkeys(codes))
    line = f"the fit itself warns: {', '.join(once)} (docs/fit.md)\n"
    for command in (("predict", fit, *PREDICT), ("optimum", fit, *OPTIMUM)):
        code, out, _ = windtunnel(*command)
        assert code == 0
        assert out.endswith(line)
        assert out.count("the fit itself warns") == 1
        found = json.loads(windtunnel(*command, "--json")[1])
        assert found["fit_warnings"] == once
        assert found["warnings"] == []  # of the answer itself, as before


def test_a_fit_without_warnings_says_nothing(windtunnel, written):
    fit, codes = written()
    assert codes == []
    for command in (("predict", fit, *PREDICT), ("optimum", fit, *OPTIMUM)):
        code, out, _ = windtunnel(*command)
        assert (code, "warns" in out) == (0, False)
        assert json.loads(windtunnel(*command, "--json")[1])["fit_warnings"] == []


@pytest.mark.parametrize(
    ("command", "words", "plain"),
    [
        ("predict", ("--params", "1M", "--tokens", "20N"), PREDICT),
        ("predict", ("--params", "1,000k", "--tokens", "0.02B"), PREDICT),
        ("optimum", ("--flops", "1000T"), OPTIMUM),
        ("optimum", ("--flops", "1000T", "--tokens", "25N"), (*OPTIMUM, "--tokens-per-param", 25)),
        ("optimum", ("--params", "0.5m"), ("--params", 5e5)),
    ],
)
def test_counts_as_people_write_them(windtunnel, a_fit, command, words, plain):
    answers = [windtunnel(command, a_fit, *each, "--json") for each in (words, plain)]
    assert answers[0][0] == 0, answers[0][2]
    assert json.loads(answers[0][1]) == json.loads(answers[1][1])


@pytest.mark.parametrize(
    ("command", "options", "code"),
    [
        ("predict", ("--tokens", "20N"), "missing-option"),
        ("predict", ("--params", "20N", "--tokens", "1B"), "not-a-number"),
        ("predict", ("--params", "-1M", "--tokens", "1B"), "out-of-range"),
        ("optimum", ("--tokens", "20N", "--tokens-per-param", "20"), "contradicting-options"),
    ],
)
def test_counts_that_cannot_be_used(windtunnel, a_fit, command, options, code):
    exit_code, out, _ = windtunnel(command, a_fit, *options, "--json")
    assert (exit_code, json.loads(out)["error"]["code"]) == (2, code)


def test_large_counts_are_printed_in_b_and_t(windtunnel, a_fit):
    out = windtunnel("predict", a_fit, "--params", "2.4B", "--tokens", "1T")[1]
    assert out.startswith("loss at params = 2.4B, tokens = 1T: ")
