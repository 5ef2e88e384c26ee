"""`windtunnel import-runs`: what is written, when it is not, and what it says of it."""

import json

import pytest
from large_runs import TABLE, TAKE, taken

from windtunnel.runs.imported import imported_file
from windtunnel.runs.study import open_study


def test_a_second_import_adds_nothing_and_other_numbers_are_refused(
    study_file, windtunnel, table
):  # fmt: skip
    study = study_file()
    assert windtunnel("import-runs", study, table, *TAKE)[0] == 0
    file = imported_file(open_study(study).folder)
    first = file.read_bytes()
    code, out, _ = windtunnel("import-runs", study, table, *TAKE)
    assert (code, "0 new, 3 known already; nothing was added" in out) == (0, True)
    assert file.read_bytes() == first

    table.write_text(TABLE.replace("2.41", "2.40") + "big-3,2.4e9,9.6e10,2.25,2e-4,true\n")
    code, _, err = windtunnel("import-runs", study, table, *TAKE)
    assert code == 2
    assert "'big-1' (of csv large.csv): loss 2.41 -> 2.4\n" in err
    assert "--replace" in err
    assert file.read_bytes() == first
    code, out, _ = windtunnel("import-runs", study, table, *TAKE, "--replace")
    assert (code, "1 new, 1 replaced, 2 known already" in out) == (0, True)
    assert taken(study)["big-1"].loss == 2.4
    assert file.read_bytes().startswith(first)  # nothing is lost

    code, out, _ = windtunnel("import-runs", study, "--list", "--json")
    runs = json.loads(out)["runs"]
    assert [each["label"] for each in runs] == ["big-0", "big-1", "big-2", "big-3"]
    origin = runs[0]["origin"]
    assert len(origin["sha256"]) == 64
    assert origin["columns"] == {
        "params": "N", "tokens": "D", "loss": "val_loss", "lr": "lr", "decayed": "--decayed",
        "run": "name",
    }  # fmt: skip
    code, out, _ = windtunnel("import-runs", study, "--list")
    assert out.count("csv large.csv, ") == 4


def test_a_dry_run_writes_nothing(study_file, windtunnel, table):
    study = study_file()
    code, out, _ = windtunnel("import-runs", study, table, *TAKE, "--dry-run")
    assert code == 0
    assert out.count(" new") == 4  # rows, and the sum
    assert "a dry run, nothing was written" in out
    assert not open_study(study).folder.exists()


def test_the_same_rows_as_jsonl_and_parquet_are_known(study_file, windtunnel, table, tmp_path):
    import pandas as pd

    study = study_file()
    frame = pd.read_csv(table)
    frame.to_json(tmp_path / "large.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "large.parquet")
    windtunnel("import-runs", study, table, *TAKE)
    for name in ("large.jsonl", "large.parquet"):
        code, out, _ = windtunnel("import-runs", study, tmp_path / name, *TAKE)
        assert (code, "0 new, 3 known already" in out) == (0, True)


def test_the_only_scaling_experiment_or_the_one_named(study_file, windtunnel, table):
    two = study_file(replace=("experiments:\n", (
        "experiments:\n  - {kind: scaling, name: other, horizons: [110 steps], seeds: 1}\n"
    )))  # fmt: skip
    code, _, err = windtunnel("import-runs", two, table, *TAKE)
    assert (code, "several (other, law): choose one with --experiment" in err) == (2, True)
    assert windtunnel("import-runs", two, table, *TAKE, "--experiment", "other")[0] == 0
    assert {each.experiment for each in taken(two).values()} == {"other"}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ((b"2.41", b"1.41"), "line 2: damaged"),
        ((b'"big-1"', b'"big-1'), "line 2: damaged"),
        ((b"big-2", b"gro\xdf-2"), "line 3: damaged"),
    ],
)
def test_a_damaged_file_of_imports_is_an_error_of_the_store(
    study_file, windtunnel, table, damage, said
):
    study = study_file()
    windtunnel("import-runs", study, table, *TAKE)
    file = imported_file(open_study(study).folder)
    file.write_bytes(file.read_bytes().replace(*damage))
    before = file.read_bytes()
    import_again = ("import-runs", study, table, *TAKE)
    for command in (("runs", study), ("import-runs", study, "--list"), ("fit", study),
                    import_again):  # fmt: skip
        code, _, err = windtunnel(*command)
        assert (code, f"imported.jsonl, {said}" in err) == (2, True), err
        assert "take the line out" in err
    assert file.read_bytes() == before
    lines = before.splitlines(keepends=True)
    file.write_bytes(b"".join(line for line in lines if damage[1] not in line))
    code, out, _ = windtunnel(*import_again)
    assert (code, "1 new, 2 known already" in out) == (0, True)
