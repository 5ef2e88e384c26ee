import json

import pytest

from windtunnel.config import load_study
from windtunnel.errors import StoreError, StoreFull
from windtunnel.runs.completion import outcome_of
from windtunnel.runs.files import DamagedFile, append_line, read_json, read_lines, write_json
from windtunnel.runs.plan import make_plan
from windtunnel.runs.points import StudyContext
from windtunnel.runs.store import SegmentFolder, Store


def test_paths_stay_in_the_store(tmp_path):
    store = Store(tmp_path)
    for name in ("../../etc", "a/b", "", "G" * 16):
        with pytest.raises(StoreError) as refused:
            store.segment(name)
        assert (refused.value.code, refused.value.values) == ("bad-id", {"segment": name})
    with pytest.raises(StoreError) as refused:
        store.study("../x")
    assert (refused.value.code, refused.value.values) == ("bad-name", {"study": "../x"})


def test_a_curve_is_cut_at_a_step_and_a_torn_line_goes(tmp_path):
    folder = SegmentFolder(tmp_path)
    rows = [{"step": step, "tokens": 64 * step, "loss": 1.0} for step in range(1, 11)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    folder.curve.write_text(text + '{"step": 11, "lo')
    assert [row["step"] for row in folder.curve_rows()] == list(range(1, 11))
    folder.truncate_curve(7)
    assert [row["step"] for row in folder.curve_rows()] == list(range(1, 8))
    folder.truncate_curve(20)
    assert folder.curve.read_text().endswith("\n")


def test_half_written_json_is_never_seen(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1})
    assert read_json(tmp_path / "a.json") == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    (tmp_path / "a.json").write_text('{"x": ')
    with pytest.raises(DamagedFile) as refused:
        read_json(tmp_path / "a.json")
    assert refused.value.code == "not-json"


def test_a_torn_line_is_ended_and_left_out(tmp_path):
    path = tmp_path / "lines.jsonl"
    append_line(path, {"n": 1})
    with path.open("a") as file:
        file.write('{"n": 2, "half')
    append_line(path, {"n": 3})
    append_line(path, {"n": 4})
    assert [line["n"] for line in read_lines(path)] == [1, 3, 4]


def test_lines_that_are_no_utf8_are_an_error_of_the_store(tmp_path):
    path = tmp_path / "lines.jsonl"
    append_line(path, {"n": 1})
    path.write_bytes(path.read_bytes() + b'{"n": "\xff"}\n')
    with pytest.raises(DamagedFile) as refused:
        read_lines(path)
    assert refused.value.code == "not-utf8"
    assert refused.value.values == {"file": path, "line": 2, "byte": 7}


def test_a_full_disk_is_an_error_that_teaches(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("windtunnel.runs.store.os.fsync", full)
    with pytest.raises(StoreFull, match="finished segments are kept") as refused:
        write_json(tmp_path / "a.json", {"x": 1})
    assert refused.value.code == "store-full"
    assert refused.value.values["cause"] == "No space left on device"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("outcome", "reached", "expected"),
    [
        ("finished", 126, "finished"),
        ("finished", 125, None),
        ("finished", 900, "finished"),
        ("diverged", 126, "diverged"),
        ("diverged", 60, "diverged"),
        ("diverged", 127, "finished"),
        ("failed", 126, "failed"),
    ],
)
def test_how_a_record_stands_towards_a_plan(study_file, outcome, reached, expected):
    plan = make_plan(
        StudyContext(config=load_study(study_file(sizes="[16x1]")), vocab_size=256, stream="s")
    )
    assert plan.trunks[0].end == 126
    record = {"outcome": outcome, "reached": reached}
    assert outcome_of(record, plan.trunks[0]) == expected
