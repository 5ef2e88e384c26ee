"""From MLflow back: a study's records by name, from real sqlite databases."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from windtunnel.cli.tracking import log_results, mirror_of
from windtunnel.engine.sweep import Sweep
from windtunnel.errors import TrackingError
from windtunnel.findings import load_records, records_of
from windtunnel.runs.study import open_study
from windtunnel.tracking import locate
from windtunnel.tracking.read import download_result


@pytest.fixture
def study(study_file, tmp_path, monkeypatch):
    """A finished study whose records are in MLflow, in a state folder of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    opened = open_study(study_file(sizes="[16x1]"), prepared=True)
    Sweep(opened, engine="local").run()
    log_results(mirror_of(opened))
    return opened


def artifacts_of(study):
    from mlflow import MlflowClient

    location = locate(study.store, study.config.tracking)
    client = MlflowClient(tracking_uri=location.uri)
    experiment = client.get_experiment_by_name(location.experiment)
    runs = client.search_runs([experiment.experiment_id], "tags.kind = 'records'")
    return [(run.info.run_id, run.info.start_time, run.info.end_time) for run in runs]


def test_records_come_back_by_name_and_a_repeated_sync_adds_nothing(study, tmp_path):
    want = records_of(study)
    found = load_records("small")
    assert found.study == "small"
    assert found.config == want.config
    assert [run.segment for run in found.runs] == [run.segment for run in want.runs]
    losses = [run.loss for run in want.runs]
    assert [run.loss for run in found.runs] == pytest.approx(losses, rel=1e-6)
    assert len(found.curves) == len(want.curves) == 3

    files = {path: path.stat().st_mtime_ns for path in (study.folder / "records").iterdir()}
    before = artifacts_of(study)
    assert len(before) == 1
    log_results(mirror_of(study))
    assert artifacts_of(study) == before
    assert {path: path.stat().st_mtime_ns for path in files} == files

    uri = locate(study.store, study.config.tracking).uri
    assert load_records("small", uri=uri).study == "small"


def test_an_unknown_name_lists_the_known_ones(study, tmp_path, monkeypatch):
    with pytest.raises(TrackingError, match=r"did you mean 'small'\?") as told:
        load_records("smal")
    assert told.value.code == "unknown-study"
    assert told.value.values == {"study": "smal", "kind": "records", "known": ["small"]}
    with pytest.raises(TrackingError) as told:
        load_records("small", uri=f"sqlite:///{tmp_path / 'gone.db'}")
    assert told.value.code == "missing-file"
    assert told.value.values["file"] == str(tmp_path / "gone.db")
    assert not (tmp_path / "gone.db").exists()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "empty"))
    with pytest.raises(TrackingError, match="`windtunnel sync") as told:
        load_records("small")
    assert told.value.values["known"] == []


@pytest.mark.medium
def test_two_stores_with_a_study_of_one_name_must_be_told_apart(study, tmp_path, monkeypatch):
    shutil.copytree(study.store.root, tmp_path / "other" / "store")
    file = tmp_path / "other" / "hparams.yaml"
    file.write_text(Path(study.file).read_text())
    other = open_study(file)
    log_results(mirror_of(other))
    names = [locate(each.store, each.config.tracking).experiment for each in (study, other)]
    assert len(set(names)) == 2
    with pytest.raises(TrackingError, match="choose one by experiment") as told:
        load_records("small")
    assert (told.value.code, told.value.values["known"]) == ("several-studies", sorted(names))
    assert load_records("small", experiment=names[1]).study == "small"
    with pytest.raises(TrackingError) as told:
        load_records("small", experiment="nope")
    assert (told.value.code, told.value.values["experiment"]) == ("unknown-experiment", "nope")


def test_a_server_cannot_write_outside_the_folder(tmp_path, monkeypatch):
    """Whatever names it gives its artifacts."""
    names = ["runs.csv", "../evil.csv", "/tmp/evil.csv", "sub/evil.csv", "..", "folder"]
    asked = []
    run = SimpleNamespace(
        info=SimpleNamespace(run_id="r", experiment_id="1", end_time=1, start_time=1),
        data=SimpleNamespace(tags={"study": "small", "kind": "records"}),
    )
    client = SimpleNamespace(
        search_experiments=lambda filter_string: [SimpleNamespace(experiment_id="1", name="e")],
        search_runs=lambda *_, **__: [run],
        list_artifacts=lambda _: [
            SimpleNamespace(path=name, is_dir=name == "folder") for name in names
        ],
        download_artifacts=lambda _, name, folder: asked.append((name, folder)),
    )
    monkeypatch.setattr("windtunnel.tracking.read.connect", lambda _: client)
    download_result("small", "records", tmp_path, uri="http://127.0.0.1:1")
    assert asked == [("runs.csv", str(tmp_path))]
