"""Warnings about the tokens of a study in what is derived from its runs."""

import json

import pytest

from windtunnel.runs.study import open_study


@pytest.fixture
def fit_file(finished, tmp_path, windtunnel):
    """The fit of a study whose held-out text is small; its two-level draws are few."""
    path = tmp_path / "fit.json"
    code, _, _ = windtunnel("fit", finished, "--bootstrap", "20", "--out", path)
    assert code == 0
    return path


def test_a_fit_has_the_warnings_of_its_data(fit_file, finished):
    codes = [each["code"] for each in json.loads(fit_file.read_text())["warnings"]]
    assert codes.count("small-validation") == 1
    assert "small-validation" in [each.code for each in open_study(finished).token_diagnostics]
    assert "runs-to-come" not in codes


def test_a_prediction_names_them(fit_file, windtunnel):
    _, out, _ = windtunnel("predict", fit_file, "--params", "1e6", "--tokens", "1e7", "--json")
    assert "small-validation" in json.loads(out)["fit_warnings"]


def test_a_fit_of_a_half_finished_study_counts_the_runs_to_come(finished, windtunnel):
    text = finished.read_text().replace("240 steps]", "240 steps, 300 steps, 350 steps]")
    finished.write_text(text)
    _, out, _ = windtunnel("fit", finished, "--bootstrap", "0", "--json")
    (warning,) = [each for each in json.loads(out)["warnings"] if each["code"] == "runs-to-come"]
    assert warning["values"] == {"missing": 8, "planned": 24, "experiments": ["law"]}
