"""Curves of finished segments that are gone, cut or broken: said, and trained again."""

import json
import shutil
import sys

import pytest

from windtunnel.cli import main
from windtunnel.engine.sweep import Sweep
from windtunnel.report import write_report
from windtunnel.runs.completion import is_complete
from windtunnel.runs.curves import curve_diagnostics, is_broken, reaches, read_curve
from windtunnel.runs.measured import gather
from windtunnel.runs.progress import study_progress
from windtunnel.runs.store import SegmentFolder
from windtunnel.runs.study import open_study


def results(study):
    found = {}
    for planned in study.plan.segments:
        folder = study.store.segment(planned.id)
        found[planned.id] = (
            folder.measurements,
            [(row["step"], row["tokens"], row["loss"]) for row in folder.curve_rows()],
        )
    return found


@pytest.fixture(scope="module")
def original(tmp_path_factory, write_study):
    """The folder of a finished study, which stays as it is."""
    folder = tmp_path_factory.mktemp("original")
    file = write_study(folder, sizes="[16x1]")
    assert not Sweep(open_study(file, prepared=True), engine="local").run().failed
    return folder


@pytest.fixture
def swept(original, tmp_path):
    """A copy of it, and its results."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    study = open_study(tmp_path / "hparams.yaml", prepared=True)
    return study, results(study)


def remove(curve):
    curve.unlink()


def empty(curve):
    curve.write_bytes(b"")


def cut(curve):
    data = curve.read_bytes()
    curve.write_bytes(data[: len(data) // 2])


def zero(curve):
    data = curve.read_bytes()
    curve.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


def cut_by_rows(curve):
    lines = curve.read_bytes().splitlines(keepends=True)
    curve.write_bytes(b"".join(lines[: len(lines) // 2]))


def replaced(line):
    def damage(curve):
        lines = curve.read_bytes().splitlines(keepends=True)
        lines[len(lines) // 2] = line
        curve.write_bytes(b"".join(lines))

    damage.__name__ = f"replaced by {line!r}"
    return damage


def flip_a_bit(curve):
    data = bytearray(curve.read_bytes())
    data[data.index(b'"loss"', len(data) // 2) + 2] ^= 0x80
    curve.write_bytes(data)


def break_the_last_row(curve):
    curve.write_bytes(curve.read_bytes()[:-20] + b"\n")


def drop_a_row(curve):
    lines = curve.read_bytes().splitlines(keepends=True)
    del lines[len(lines) // 2]
    curve.write_bytes(b"".join(lines))


def change_a_digit(curve):
    """A row that looks well, and says another loss."""
    data = bytearray(curve.read_bytes())
    data[data.index(b'"loss":', len(data) // 2) + 9] ^= 1
    curve.write_bytes(data)


def shorten_a_number(curve):
    data = curve.read_bytes()
    at = data.index(b'"loss":', len(data) // 2) + 8
    curve.write_bytes(data[:at] + data[at + 2 :])


def change_a_digit_and_tear_the_end(curve):
    change_a_digit(curve)
    with curve.open("ab") as file:
        file.write(b'{"step":9')


DAMAGE = [
    remove,
    empty,
    cut,
    zero,
    cut_by_rows,
    replaced(b"\n"),
    replaced(b"{\x00\n"),
    replaced(b"[1]\n"),
    replaced(b'{"step":60,"tokens":"many","loss":2.0}\n'),
    flip_a_bit,
    break_the_last_row,
    drop_a_row,
    change_a_digit,
    shorten_a_number,
    change_a_digit_and_tear_the_end,
]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("kind", ["trunk", "branch"])
@pytest.mark.parametrize("damage", DAMAGE, ids=lambda each: each.__name__)
def test_a_damaged_curve_is_said_and_trained_again(swept, damage, kind):
    study, expected = swept
    planned = next(each for each in study.plan.segments if each.segment.kind == kind)
    folder = study.store.segment(planned.id)
    rows, record = gather(study.store, study.plan), folder.record
    damage(folder.curve)

    opened = open_study(study.file)
    assert [each.code for each in opened.diagnostics if each.code == "curve-damaged"] == [
        "curve-damaged"
    ]
    (warning,) = (each for each in opened.diagnostics if each.code == "curve-damaged")
    assert warning.values["segments"] == [folder.root.name]
    assert str(folder.curve) in warning.message
    write_report(opened)
    assert gather(study.store, study.plan) == rows
    study_progress(opened)

    again = open_study(study.file, prepared=True)
    assert not is_complete(study.store, planned, study.wanted)
    result = Sweep(again, engine="local").run()
    assert result.errors == {}
    assert not result.failed
    assert results(study) == expected
    assert {**folder.record, "curve": record["curve"]} == record  # rows have other times of day
    assert gather(study.store, study.plan) == rows
    assert "curve-damaged" not in [each.code for each in open_study(study.file).diagnostics]


def test_what_is_whole_is_left_alone(swept):
    study, _ = swept
    curves = [study.store.segment(planned.id).curve for planned in study.plan.segments]
    before = [path.stat().st_mtime_ns for path in curves]
    assert not Sweep(open_study(study.file, prepared=True), engine="local").run().failed
    assert [path.stat().st_mtime_ns for path in curves] == before


def test_a_damaged_curve_of_a_diverged_segment_keeps_what_it_has(swept):
    study, _ = swept
    planned = study.plan.segments[-1]
    folder = study.store.segment(planned.id)
    folder.finish(folder.record | {"outcome": "diverged"})
    replaced(b"{\n")(folder.curve)
    content = folder.curve.read_bytes()
    assert not Sweep(open_study(study.file, prepared=True), engine="local").run().failed
    assert folder.curve.read_bytes() == content
    assert read_curve(study.store, planned).tokens.size == content.count(b"\n") - 1


def test_status_shows_a_segment_whose_curve_is_cut_as_waiting(swept, capsys, monkeypatch):
    study, _ = swept
    cut(study.store.segment(study.plan.segments[-1].id).curve)
    monkeypatch.setattr(sys, "argv", ["windtunnel", "status", str(study.file), "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["counts"]["waiting"] == 1


def test_rows_of_other_spellings_are_whole(tmp_path):
    folder = SegmentFolder(tmp_path)
    curve = folder.curve
    rows = [{"step": 1, "tokens": 8, "loss": None}, {"step": 2, "tokens": 16, "loss": 1e-7}]
    curve.write_text("".join(json.dumps(row | {"more": {"a": [1]}}) + "\n" for row in rows))
    assert not is_broken(folder)
    assert reaches(curve, 2)
    assert not reaches(curve, 3)
    with curve.open("a") as file:
        file.write('{"step": 3, "tok')
    assert not is_broken(folder)
    assert not reaches(curve, 3)


def test_nothing_is_said_of_what_is_not_finished(swept):
    study, _ = swept
    planned = study.plan.segments[-1]
    folder = study.store.segment(planned.id)
    (folder.root / "record.json").unlink()
    cut(folder.curve)
    assert curve_diagnostics(study.store, study.plan.segments) == ()
