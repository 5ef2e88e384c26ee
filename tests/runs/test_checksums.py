"""A digit that changes in a file of the store is told, wherever it stands; files of before open."""

import json

import pytest

from windtunnel.engine.sweep import Sweep
from windtunnel.report import write_report
from windtunnel.runs.files import DamagedFile, append_line, read_json, read_lines, write_json
from windtunnel.runs.json_schema import sealed, unsealed
from windtunnel.runs.study import open_study


@pytest.mark.parametrize("value", [{}, {"a": 1.5}, {"a": {"checksum": "0" * 16}}, {"ü": None}])
@pytest.mark.parametrize("indent", [None, 1])
def test_what_is_sealed_is_a_json_object_with_one_key_more(value, indent):
    text = json.dumps(value, indent=indent)
    found = json.loads(sealed(text))
    assert found.pop("checksum")
    assert found == value
    assert unsealed(sealed(text).encode()) == (text.encode(), True)
    assert unsealed(text.encode()) == (text.encode(), True)


@pytest.mark.parametrize("indent", [None, 2, 4])
def test_a_file_that_was_laid_out_anew_is_told(tmp_path, indent):
    path = tmp_path / "file.json"
    write_json(path, {"loss": 2.5})
    path.write_text(json.dumps(json.loads(path.read_text()), indent=indent) + "\n")
    with pytest.raises(DamagedFile) as refused:
        read_json(path)
    assert (refused.value.code, refused.value.values) == ("wrong-checksum", {"file": path})


def test_every_changed_byte_is_told_or_leaves_the_value_as_it_was(tmp_path):
    path, value = tmp_path / "file.json", {"loss": 2.0625, "name": "docs", "many": [1, 2, 3]}
    write_json(path, value)
    content = path.read_bytes()
    told = 0
    for place in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            try:
                found = read_json(path)
            except DamagedFile:
                told += 1
                continue
            assert {key: found[key] for key in value} == value  # the key of the checksum itself
    assert told > 6 * len(content)


def test_a_changed_line_is_told_with_its_number(tmp_path):
    path = tmp_path / "lines.jsonl"
    append_line(path, {"loss": 2.5})
    append_line(path, {"loss": 3.5})
    assert read_lines(path) == [{"loss": 2.5}, {"loss": 3.5}]
    path.write_text(path.read_text().replace("3.5", "3.4"))
    with pytest.raises(DamagedFile) as refused:
        read_lines(path)
    assert refused.value.code == "wrong-checksum"
    assert refused.value.values == {"file": path, "line": 2}


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("record.json", '"reached": 1', '"reached": 2'),
        ("measurements.json", '"nats_per_token": ', '"nats_per_token": 1'),
        ("execution.json", '"threads": 1', '"threads": 2'),
    ],
)
def test_a_changed_number_of_a_segment_is_told_with_what_to_do(study_file, name, before, after):
    study = open_study(study_file(sizes="[16x1]"), prepared=True)
    assert not Sweep(study, engine="local").run().failed
    path = study.store.segment(study.plan.trunks[0].id).root / name
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(DamagedFile) as refused:
        write_report(open_study(study.file))
    assert (refused.value.code, refused.value.values) == ("wrong-checksum", {"file": path})
    path.write_text(text)
    assert not Sweep(open_study(study.file, prepared=True), engine="local").run().failed
