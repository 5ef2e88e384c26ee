"""Files of a store that a hand has changed: one error with file, place and fix, or no harm."""

import dataclasses
import json
import os
import subprocess
import sys

import planted
import pytest

from windtunnel.config.study import BudgetConfig
from windtunnel.errors import ConfigError, StoreError
from windtunnel.runs.budget.budget import Account
from windtunnel.runs.budget.calibration import last_calibration
from windtunnel.runs.budget.utilisation import utilisation
from windtunnel.runs.files import (
    DamagedFile,
    is_torn,
    json_rows,
    read_json,
    read_lines,
    write_if_changed,
    write_json,
)
from windtunnel.runs.forecast import read_forecasts
from windtunnel.runs.progress import curve_tail
from windtunnel.runs.schemas import CURVE_ROW, RECORD
from windtunnel.runs.search.trial_log import (
    SuggestedTrial,
    TrialLog,
    read_suggested,
    write_suggested,
)
from windtunnel.runs.store import SegmentFolder
from windtunnel.runs.study import open_study
from windtunnel.runs.study_files import keep_check, read_checks, read_handoffs

ENDED = {"outcome": "finished", "reached": 10, "seconds": 1.5, "epochs": {"text": 0.5}}
SEARCH = """\
  - kind: search
    name: tune
    size: 32x2
    space: {recipe.lr: {low: 1e-3, high: 1e-1, log: true}, model.qk_norm: [true, false]}
    trials: 4
    horizon: 10N
"""


@pytest.fixture
def folder(tmp_path):
    return SegmentFolder(tmp_path / ("ab" * 8))


@pytest.mark.parametrize(
    ("change", "code", "place", "value"),
    [
        ({"reached": "10"}, "not-a-number", "finished.reached", "'10'"),
        ({"reached": -1}, "out-of-range", "finished.reached", "-1"),
        ({"reached": 10**30}, "out-of-range", "finished.reached", None),
        ({"reached": True}, "not-a-number", "finished.reached", "True"),
        ({"seconds": None}, "not-a-number", "finished.seconds", "None"),
        ({"epochs": {"text": []}}, "not-a-number", "finished.epochs.text", "[]"),
        ({"epochs": []}, "wrong-type", "finished.epochs", "[]"),
        ({"outcome": "done"}, "unknown-kind", "the document", None),
    ],
)
def test_a_record_is_checked_by_its_schema(folder, change, code, place, value):
    folder.finish(ENDED | {"more": [1]})
    assert folder.record == ENDED | {"more": [1]}
    folder.finish(ENDED | change)
    with pytest.raises(DamagedFile, match="run `windtunnel sweep` again") as refused:
        _ = folder.record
    assert refused.value.code == code
    values = refused.value.values
    assert (values["file"], values["place"]) == (folder.root / "record.json", place)
    assert value in {None, values["found"]}


def test_a_record_of_another_segment_is_refused(folder):
    folder.finish(ENDED | {"segment": "cd" * 8})
    with pytest.raises(StoreError) as refused:
        _ = folder.record
    assert refused.value.code == "edited"
    assert refused.value.values["segment"] == "cd" * 8
    assert refused.value.values["expected"] == folder.root.name


def test_what_failed_needs_no_more_than_its_outcome(folder):
    folder.finish({"outcome": "failed", "error": "disk", "written": 1.0})
    assert folder.record["outcome"] == "failed"
    folder.finish({"outcome": "failed", "reached": "far"})
    with pytest.raises(DamagedFile) as refused:
        _ = folder.record
    assert refused.value.values["place"] == "failed.reached"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "not-json"),
        (b"[]", "wrong-type"),
        (b"null", "wrong-type"),
        (b"{", "not-json"),
        (b'{"outcome": "finished"}', "missing-key"),
        (b"\xff", "not-json"),
        (b"[" * 100_000, "not-json"),
        (b"9" * 9999, "not-json"),
    ],
)
def test_what_is_no_record_is_damage(folder, content, code):
    folder.root.mkdir()
    (folder.root / "record.json").write_bytes(content)
    with pytest.raises(DamagedFile, match=r"record\.json: damaged: ") as refused:
        _ = folder.record
    assert refused.value.code == code


def test_other_encodings_of_json_are_read(folder):
    folder.root.mkdir()
    for encoding in ("utf-8-sig", "utf-16"):
        (folder.root / "record.json").write_text(json.dumps(ENDED), encoding=encoding)
        assert folder.record == ENDED


def test_measurements_are_by_update_and_set(folder):
    found = {"fingerprint": "f", "asked": 64, "tokens": 64, "nats_per_token": 2.5,
             "bits_per_byte": None}  # fmt: skip
    folder.add_measurement(7, {"docs": found})
    assert folder.measurements == {7: {"docs": found}}
    path = folder.root / "measurements.json"
    for content, code, place in (
        ({"seven": {}}, "bad-name", "seven.[key]"),
        (
            {"7": {"docs": found | {"nats_per_token": "2.5"}}},
            "not-a-number",
            "7.docs.nats_per_token",
        ),
        ({"7": {"docs": {"asked": 1}}}, "missing-key", "7.docs.fingerprint"),
        ({"7": []}, "wrong-type", "7"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(DamagedFile) as refused:
            _ = folder.measurements
        assert (refused.value.code, refused.value.values["place"]) == (code, place)
        assert refused.value.values["file"] == path


def test_a_changed_spec_is_another_segment(tmp_path):
    study = planted.make_study(tmp_path, sizes="32x2, 48x2")
    trunk = study.plan.trunks[0]
    of = study.store.segment(trunk.id)
    assert of.spec is None
    of.create(trunk.segment)
    assert of.spec == trunk.segment
    path = of.root / "spec.json"
    content = json.loads(path.read_text())
    del content["checksum"]
    content["recipe"]["warmup_steps"] += 1
    write_json(path, content)
    with pytest.raises(StoreError) as refused:
        _ = of.spec
    assert refused.value.code == "edited"
    assert refused.value.values["expected"] == trunk.id


def test_a_folder_in_place_of_a_file_is_no_damage(tmp_path):
    (tmp_path / "record.json").mkdir()
    path = tmp_path / "record.json"
    for read in (
        lambda: read_json(path, RECORD),
        lambda: read_lines(path),
        lambda: list(json_rows(path)),
    ):
        with pytest.raises(StoreError) as refused:
            read()
        assert not isinstance(refused.value, DamagedFile)
        assert (refused.value.code, refused.value.values) == ("not-a-file", {"file": path})


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="drops root's permissions")
@pytest.mark.medium
def test_a_missing_permission_is_not_called_damage(tmp_path):
    path = tmp_path / "record.json"
    path.write_text("{}")
    path.chmod(0)
    program = (
        "import os, pathlib, sys\n"
        "from windtunnel.runs.files import read_json\n"
        f"os.seteuid(65534)\ntry:\n    read_json(pathlib.Path({str(path)!r}))\n"
        "except Exception as refused:\n    print(type(refused).__name__, refused)\n"
    )
    for parent in path.parents:
        if parent.name.startswith(("pytest", "test_")) or parent == tmp_path:
            parent.chmod(0o755)
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith(f"StoreError {path}: cannot be read: Permission denied")
    assert "damaged" not in run.stdout


@pytest.mark.parametrize("line", ['{"a": [1, -2.5e', '{"a": "te', '{"a": tr', '{"a', "{", "\0\0\0"])
def test_the_first_part_of_a_line_is_torn(tmp_path, line):
    assert is_torn(line)
    path = tmp_path / "lines.jsonl"
    path.write_text(f'{{"a": 1}}\n{line}\n{{"a": 2}}\n{line}')
    assert [row["a"] for row in read_lines(path)] == [1, 2]


@pytest.mark.parametrize("line", ['{"a" 1}', '{"a": tru}', "{'a': 1}", '{"a": 1,}', "[1]", "x"])
def test_what_no_crash_leaves_is_damage_with_its_line(tmp_path, line):
    path = tmp_path / "lines.jsonl"
    path.write_text(f'{{"a": 1}}\n{line}\n{{"a": 2}}\n')
    with pytest.raises(DamagedFile, match="take the line out") as refused:
        read_lines(path)
    assert refused.value.code in {"not-json", "wrong-type"}
    assert (refused.value.values["file"], refused.value.values["line"]) == (path, 2)


def test_rows_of_a_curve_say_their_line(tmp_path):
    path = tmp_path / "curve.jsonl"
    good = '{"step":1,"tokens":64,"loss":null,"lr":0.1,"grad_norm":null,"seconds":0.5}\n'
    path.write_text(good + good.replace("64", '"64"'))
    rows = json_rows(path, CURVE_ROW)
    assert next(rows)["tokens"] == 64
    with pytest.raises(DamagedFile) as refused:
        next(rows)
    fault = {"file": path, "place": "tokens", "found": "'64'"}
    assert (refused.value.code, refused.value.values) == ("not-a-number", fault | {"line": 2})
    with pytest.raises(DamagedFile) as refused:
        curve_tail(path)
    assert refused.value.values == fault


def test_files_that_can_be_made_again_count_as_missing_with_a_note(tmp_path, caplog):
    study = planted.make_study(tmp_path, sizes="32x2, 48x2")
    study.folder.mkdir(parents=True, exist_ok=True)
    (study.folder / "calibration.json").write_text('{"written": 1}')
    assert last_calibration(study) is None
    assert f"{study.folder / 'calibration.json'}: damaged: conditions" in caplog.text
    path = keep_check(study.folder, planted.check_of("mup"))
    path.write_text("{")
    caplog.clear()
    assert read_checks(study.folder) == []
    assert f"{path}: damaged" in caplog.text
    keep_check(study.folder, planted.check_of("mup"))
    assert read_checks(study.folder) == [planted.check_of("mup")]
    before = path.stat().st_mtime_ns
    write_if_changed(path, planted.check_of("mup"))
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("name", "line", "read"),
    [
        ("forecasts.jsonl", {"written": 1.0}, read_forecasts),
        ("handoffs.jsonl", {"target": "json", "handoff": {}}, read_handoffs),
    ],
)
def test_logs_of_a_study_are_checked_line_by_line(tmp_path, name, line, read):
    (tmp_path / name).write_text(json.dumps(line) + "\n")
    with pytest.raises(DamagedFile, match="take the line out") as refused:
        read(tmp_path)
    assert refused.value.code == "missing-key"
    assert (refused.value.values["file"], refused.value.values["line"]) == (tmp_path / name, 1)


def test_what_was_spent_before_is_made_again_where_no_budget_rests_on_it(tmp_path, caplog):
    study = planted.make_study(tmp_path, sizes="32x2, 48x2")
    study.folder.mkdir(parents=True, exist_ok=True)
    path = study.folder / "spent_before.json"
    path.write_text("{")
    Account(study).save()
    assert f"{path}: damaged" in caplog.text
    assert set(read_json(path)) == set(study.plan.by_id())
    path.write_text("{")
    bounded = study.config.model_copy(update={"budget": BudgetConfig(flops=1e15)})
    with pytest.raises(DamagedFile) as refused:
        Account(dataclasses.replace(study, config=bounded))
    assert refused.value.values["file"] == path


def test_a_folder_in_place_of_a_derived_file_is_no_damage(tmp_path):
    study = planted.make_study(tmp_path, sizes="32x2, 48x2")
    (study.folder / "calibration.json").mkdir(parents=True)
    with pytest.raises(StoreError) as refused:
        last_calibration(study)
    assert refused.value.code == "not-a-file"


def test_a_damaged_line_of_the_log_of_sweeps_is_left_out_with_a_note(tmp_path, caplog):
    took = {"began": 1.0, "startup": 0.0, "seconds": 10.0, "slots": 2, "segments": 1, "busy": 15.0,
            "bound": 8.0}  # fmt: skip
    path = tmp_path / "sweeps.jsonl"
    path.write_text('{"began": 1.0, "slots": 0}\n' + json.dumps(took) + "\n{\x00\n")
    assert utilisation(tmp_path).sweeps == 1
    assert f"{path}, line 1: damaged" in caplog.text
    assert f"{path}, line 3: damaged" in caplog.text


def test_sweeps_that_took_no_time_say_nothing_of_slots(tmp_path):
    took = {"began": 1.0, "startup": 0.0, "seconds": 0.0, "slots": 2, "segments": 1, "busy": 0.0,
            "bound": 0.0, "newer": "key"}  # fmt: skip
    (tmp_path / "sweeps.jsonl").write_text(json.dumps(took) + "\n")
    assert utilisation(tmp_path) is None
    more = took | {"seconds": 10.0, "busy": 15.0, "bound": 8.0}
    (tmp_path / "sweeps.jsonl").write_text(json.dumps(more) + "\n")
    assert utilisation(tmp_path).reached == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("trial", "place"),
    [
        ({"number": 5}, "number"),
        ({"batch": 3}, "batch"),
        ({"admitted": 2}, "admitted"),
        ({"values": {"recipe.lr": 0.01}}, "values"),
        ({"values": {"recipe.lr": 0.5, "model.qk_norm": True}}, "values.recipe.lr"),
        ({"values": {"recipe.lr": True, "model.qk_norm": True}}, "values.recipe.lr"),
        ({"values": {"recipe.lr": 0.01, "model.qk_norm": 1}}, "values.model.qk_norm"),
    ],
)
def test_a_search_takes_back_only_what_it_can_have_suggested(tmp_path, trial, place):
    study = planted.make_study(tmp_path, experiments=SEARCH)
    (search,) = study.config.experiments
    values = {"recipe.lr": 0.01, "model.qk_norm": True}
    first = SuggestedTrial(number=0, batch=0, values=values)
    second = {"number": 1, "batch": 0, "values": values, "admitted": 1}
    good = TrialLog(trials=(first, SuggestedTrial(**second)), finalists=(1,))
    write_suggested(study.folder, search, good)
    assert read_suggested(study.folder, search) == good
    write_suggested(
        study.folder, search, TrialLog(trials=(first, SuggestedTrial(**second | trial)))
    )
    with pytest.raises(DamagedFile) as refused:
        open_study(study.file)
    assert refused.value.code == "out-of-range"
    file = study.folder / "search.tune.json"
    assert refused.value.values == {"file": file, "place": f"suggested.trials.1.{place}"}


def test_finalists_are_trials_and_what_was_asked_is_compared(tmp_path):
    study = planted.make_study(tmp_path, experiments=SEARCH)
    (search,) = study.config.experiments
    write_suggested(study.folder, search, TrialLog(finalists=(0,)))
    with pytest.raises(DamagedFile) as refused:
        read_suggested(study.folder, search)
    assert refused.value.values["place"] == "suggested.finalists"
    path = study.folder / "search.tune.json"
    written = json.loads(path.read_text())
    del written["checksum"]
    write_json(path, written | {"asked": written["asked"] | {"seed": 1}})
    with pytest.raises(ConfigError) as changed:
        read_suggested(study.folder, search)
    assert changed.value.code == "search-changed"
    assert changed.value.values == {"experiment": "tune", "changed": ["seed"], "file": path}
    path.write_text(json.dumps(written | {"asked": []}))
    with pytest.raises(DamagedFile, match="or remove the file") as refused:
        read_suggested(study.folder, search)
    assert (refused.value.code, refused.value.values["place"]) == ("wrong-type", "asked")
