"""What `plan` and `sweep` print of a study's data, and what `plan --json` holds of it."""

import json

import pytest

from windtunnel.cli.plan import print_plan
from windtunnel.cli.sweep import run_sweep
from windtunnel.runs.study import open_study


@pytest.fixture
def file(study_file, words, tmp_path):
    """A study of text of which a sixth is left out."""
    lines = words.read_text().splitlines(keepends=True)
    path = tmp_path / "text.jsonl"
    path.write_text("".join([*lines, *lines[:60], '{"text": null}\n' * 20]))
    return study_file(text=path, sizes="[16x1]", horizons="[110 steps]")


@pytest.mark.medium
def test_the_sweep_says_what_was_kept_and_left_out(file, capsys):
    run_sweep(file, engine="local", address=None, accept_execution_change=False)
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("data: words: 1 file")]
    assert "400 documents" in line
    assert "60 near-duplicates (12.9%), 20 nulls (4.2%)" in line
    warned = [line for line in out.splitlines() if line.startswith("warning (data-left-out):")]
    assert len(warned) == 1
    assert "60 near-duplicates" in warned[0]


def test_the_plan_holds_accounts_and_codes(file, capsys):
    print_plan(open_study(file), calibrates=False, as_json=True)
    found = json.loads(capsys.readouterr().out)["data"]
    assert [(each["name"], each["files"]) for each in found["sources"]] == [("words", 1)]
    assert found["warnings"] == []
    study = open_study(file, prepared=True)
    print_plan(study, calibrates=False, as_json=True)
    found = json.loads(capsys.readouterr().out)
    (source,) = found["data"]["sources"]
    assert (source["name"], source["files"], source["documents"]) == ("words", 1, 400)
    assert source["tokens"] == source["bytes"] > 100_000
    assert source["left_out"]["null"] == {
        "count": 20, "bytes": None, "examples": [], "share": 20 / 480
    }  # fmt: skip
    codes = [warning["code"] for warning in found["data"]["warnings"]]
    assert codes.count("data-left-out") == 1
    assert found["warnings"] == [diagnostic.message for diagnostic in study.diagnostics]
    print_plan(study, calibrates=False, as_json=False)
    assert "warning (data-left-out):" in capsys.readouterr().out


def test_a_missing_source_has_a_code(file, tmp_path, capsys):
    (tmp_path / "text.jsonl").unlink()
    print_plan(open_study(file), calibrates=False, as_json=False)
    assert "warning (missing-source):" in capsys.readouterr().out
