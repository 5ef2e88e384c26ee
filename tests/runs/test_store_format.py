"""The format of a store, stores that go away, and fits and handoffs that were edited."""

import json
import sys

import pytest
from handed import planted_handoff

from windtunnel.cli import main
from windtunnel.engine.sweep import Sweep
from windtunnel.errors import StoreError
from windtunnel.export.check import check_forecast
from windtunnel.export.handoff import EDITED, Handoff
from windtunnel.laws import Fit, fit
from windtunnel.laws.fit_document import write
from windtunnel.runs.files import append_line, write_json
from windtunnel.runs.lease import Lease
from windtunnel.runs.store import FORMAT
from windtunnel.runs.study import open_study


def test_a_store_says_its_format_once_it_is_written(study_file):
    study = open_study(study_file(), prepared=True)
    path = study.store.root / "store.json"
    assert json.loads(path.read_text())["format"] == FORMAT == 2
    path.unlink()  # as those of before
    assert open_study(study.file).plan == study.plan


@pytest.mark.parametrize("name", ["plan", "sweep", "status", "runs", "report", "gc", "winner"])
def test_a_later_format_is_refused_with_both_named(study_file, capsys, monkeypatch, name):
    study = open_study(study_file(), prepared=True)
    path = study.store.root / "store.json"
    path.write_text('{"format": 7, "later": {}}')
    monkeypatch.setattr(sys, "argv", ["windtunnel", name, str(study.file)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert str(path) in said
    assert "format 7" in said
    assert "reads 2" in said
    assert study.store.begun() == set()


def test_a_store_of_the_format_before_is_read_and_written_as_this_one(study_file):
    study = open_study(study_file(), prepared=True)
    path = study.store.root / "store.json"
    path.write_text('{\n "format": 1,\n "windtunnel": "0.1.0"\n}')
    assert open_study(study.file).plan == study.plan
    assert json.loads(path.read_text())["format"] == 1
    assert not Sweep(open_study(study.file, prepared=True), engine="local").run().failed
    assert json.loads(path.read_text())["format"] == FORMAT


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "1"}', '{"format": 0}', "\0"])
def test_a_damaged_format_is_refused_with_what_to_do(study_file, content):
    study = open_study(study_file(), prepared=True)
    path = study.store.root / "store.json"
    path.write_text(content)
    with pytest.raises(StoreError, match=r"store\.json: damaged: .*remove the file"):
        open_study(study.file)


def test_a_store_that_has_gone_is_not_made_anew(study_file):
    study = open_study(study_file(), prepared=True)
    planned = study.plan.segments[0]
    folder = study.store.segment(planned.id)
    moved = study.store.root.rename(study.store.root.with_name("moved"))
    writes = [
        lambda: folder.create(planned.segment),
        lambda: folder.finish({"outcome": "failed"}),
        lambda: folder.note("noticed"),
        lambda: folder.release(3, why="gc"),
        lambda: folder.lease().__enter__(),
        lambda: write_json(study.folder / "orders.json", {}),
        lambda: append_line(study.folder / "sweeps.jsonl", {}),
        lambda: Lease(study.folder / "lease.json", what="x").__enter__(),
    ]
    for each in writes:
        with pytest.raises(StoreError):
            each()
    assert not study.store.root.exists()
    moved.rename(study.store.root)
    folder.create(planned.segment)
    assert folder.spec == planned.segment


@pytest.fixture(scope="module")
def fitted():
    rows = [
        {"params": n, "tokens": d, "loss": 1.7 + 400 / n**0.34 + 410 / d**0.28}
        for n in (1e6, 2e6, 4e6, 8e6)
        for d in (2e7, 5e7, 1e8)
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return fit(columns, bootstrap=8)


def codes(found):
    return [warning.code for warning in found.warnings]


@pytest.mark.parametrize(
    "place", [("coefficients", "E"), ("intervals", "E", 0), ("domain", "params", 1)]
)
def test_an_edited_fit_is_told(fitted, tmp_path, place):
    path = tmp_path / "fit.json"
    path.write_text(fitted.to_json())
    assert "edited-fit" not in codes(Fit.read(path))
    content = json.loads(path.read_text())
    at = content
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] *= 1 + 1e-9 if place[-1] != 0 else 1 - 1e-9
    path.write_text(json.dumps(content))
    assert codes(Fit.read(path))[0] == "edited-fit"


def test_a_fit_of_before_and_one_that_was_only_laid_out_anew_are_not_edited(fitted, tmp_path):
    path = tmp_path / "fit.json"
    path.write_text(write(fitted, with_digest=False))
    assert "digest" not in json.loads(path.read_text())
    assert "edited-fit" not in codes(Fit.read(path))
    path.write_text(json.dumps(json.loads(fitted.to_json()), indent=4, sort_keys=True))
    assert "edited-fit" not in codes(Fit.read(path))


def test_an_edited_handoff_is_told(tmp_path):
    handoff = planted_handoff()
    path = tmp_path / "handoff.json"
    path.write_text(handoff.to_json())
    assert Handoff.read(path) == handoff
    content = json.loads(path.read_text())
    name = next(iter(content["forecast"]))
    content["forecast"][name]["value"] *= 1 + 1e-9
    path.write_text(json.dumps(content))
    assert Handoff.read(path).warnings[0].code == EDITED
    found = check_forecast(path, {name: content["forecast"][name]["value"]})
    assert found.warnings[0].code == EDITED
    del content["digest"]  # as those of before, which tell nothing
    path.write_text(json.dumps(content))
    assert Handoff.read(path).warnings == handoff.warnings
