"""The Optuna journal is derived: damaged, torn, locked or taken, it never stops a search."""

import os
import time

import optuna
import pytest

from windtunnel.engine import journal
from windtunnel.engine.sweep import Sweep
from windtunnel.runs.study import open_study

SEARCH = """\
  - kind: search
    name: tune
    space: {recipe.lr: {low: 1e-3, high: 1e-1, log: true}}
    sampler: random
    trials: 4
    batch: 2
    horizon: 110 steps
    top: 0
"""


@pytest.fixture
def search_file(study_file):
    path = study_file(sizes="[16x1]")
    text = path.read_text()
    path.write_text(text[: text.index("  - kind:")] + SEARCH + text[text.index("resources:") :])
    return path


@pytest.fixture
def searched(search_file):
    study = open_study(search_file, prepared=True)
    assert not Sweep(study, engine="local").run().failed
    return study


def trials_of(study):
    backend = optuna.storages.journal.JournalFileBackend(str(study.folder / journal.NAME))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.load_study(study_name="small/tune", storage=storage).get_trials()


def torn(path):
    path.write_bytes(path.read_bytes()[:-7])


def foreign(path):
    path.write_bytes(b"\x00\xff not JSON\n{}\n")


def other_json(path):
    path.write_text('[1, 2]\n{"op_code": 99}\n' + path.read_text())


def nested(path):
    path.write_text("[" * 100_000 + "\n" + path.read_text())


def pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [torn, foreign, other_json, nested, pipe])
def test_a_damaged_journal_is_made_again_and_said(searched, caplog, damage):
    path = searched.folder / journal.NAME
    before = [(trial.params, trial.value) for trial in trials_of(searched)]
    assert len(before) == 4
    damage(path)
    result = Sweep(open_study(searched.file, prepared=True), engine="local").run()
    assert not result.failed
    assert result.stopped is None
    assert [(trial.params, trial.value) for trial in trials_of(searched)] == before
    (note,) = caplog.records
    assert str(path) in note.getMessage()
    assert {each.name for each in searched.folder.iterdir() if "journal" in each.name} == {
        journal.NAME
    }


def test_a_lock_of_a_dead_process_is_not_waited_for(search_file):
    study = open_study(search_file, prepared=True)
    study.folder.mkdir(parents=True, exist_ok=True)
    lock = study.folder / f"{journal.NAME}.lock"
    lock.symlink_to("gone")  # Optuna looks at such a one for ever
    began = time.monotonic()
    assert not Sweep(study, engine="local").run().failed
    assert time.monotonic() - began < 25
    lock.unlink()
    assert len(trials_of(study)) == 4


def test_a_folder_in_the_journals_place_is_said_and_stops_nothing(search_file, caplog):
    study = open_study(search_file, prepared=True)
    (study.folder / journal.NAME / "in the way").mkdir(parents=True)
    result = Sweep(study, engine="local").run()
    assert not result.failed
    assert result.stopped is None
    assert all(str(study.folder / journal.NAME) in each.getMessage() for each in caplog.records)
    assert caplog.records
