"""What MLflow does not take, or not twice: long names, many measurements, deleted experiments."""

import json
import string
from dataclasses import replace
from pathlib import Path

import pytest

from windtunnel.engine.sweep import Sweep
from windtunnel.errors import TrackingError
from windtunnel.runs.study import open_study
from windtunnel.tracking import Mirror, locate
from windtunnel.tracking import mirror as measured
from windtunnel.tracking.mirror import LONGEST_VALUE, legal_name, legal_value
from windtunnel.tracking.mlflow import connect, database_of, kind_of, sqlite_uri


@pytest.fixture(autouse=True)
def state_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def swept(path):
    study = open_study(path, prepared=True)
    assert not Sweep(study, engine="local").run().failed
    return study


def mirror_of(study):
    return Mirror(study, locate(study.store, study.config.tracking))


def experiment_of(mirror):
    return connect(mirror.location.uri).get_experiment_by_name(mirror.location.experiment)


def runs_of(mirror):
    client = connect(mirror.location.uri)
    return client.search_runs([experiment_of(mirror).experiment_id], max_results=1000)


@pytest.mark.medium
def test_names_beyond_mlflows_limits_are_mirrored_once(study_file):
    study = swept(study_file(sizes="[16x1]"))
    name, file = "s" * 240, study.folder / "plan.json"
    study = replace(study, config=study.config.model_copy(update={"study": name}))
    mirror = mirror_of(study)
    assert mirror.sync().runs == 3
    mirror.log_result("records", [file], {}, {"of": "x" * 9000})
    tag = legal_name(f"experiment.{name}")
    assert len(tag) <= 250
    segments = [each for each in runs_of(mirror) if "windtunnel.segment" in each.data.tags]
    assert [each.data.tags[tag] for each in segments] == ["law"] * 3

    again, set_again = mirror_of(study), []
    real = again._tag
    again._tag = lambda key, tag, value: (set_again.append(tag), real(key, tag, value))
    done = again.sync()
    again.log_result("records", [file], {}, {"of": "x" * 9000})
    assert (done.runs, done.metrics, set_again) == (0, 0, [])


@pytest.mark.medium
def test_measurements_too_many_for_a_tag_are_logged_once(study_file):
    study = swept(study_file(sizes="[16x1]"))
    trunk = study.plan.trunks[0]
    folder = study.store.segment(trunk.id)
    step = min(folder.measurements)
    like = folder.measurements[step]["words"]
    folder.add_measurement(step, {f"a-longer-name-of-a-set-{n}": like for n in range(1200)})
    first = mirror_of(study)
    assert first.sync().metrics > 3600
    assert (first.sync().metrics, mirror_of(study).sync().metrics) == (0, 0)
    (run,) = (each for each in runs_of(first) if each.data.tags["windtunnel.segment"] == trunk.id)
    assert "val/loss_a-longer-name-of-a-set-1199" in run.data.metrics
    tags = {k: v for k, v in run.data.tags.items() if k.startswith(measured.TAG)}
    assert len(tags) > 3
    assert max(map(len, tags.values())) <= LONGEST_VALUE


def test_a_tag_of_an_older_version_is_read():
    old = {measured.TAG: "100:a,100:b,2"}  # cut by MLflow
    assert {"100:a", "100:b"} <= measured.known_measurements(old)
    assert measured.with_more(old, ["200:a"]) == {measured.TAG: "100:a,100:b,2,200:a"}
    full = {measured.TAG: "1:" + "x" * 7998}
    assert measured.with_more(full, ["2:a", "3:a"]) == {f"{measured.TAG}.1": "2:a,3:a"}


@pytest.mark.parametrize(
    "text",
    ["val/loss_a", "plain", "a b:c", "é/ü"],
)
def test_a_legal_name_stays(text):
    assert legal_name(text) == text


@pytest.mark.parametrize("text", ["a+b", "a,b", "/a", "../a", "a//b", "a/", "", "x" * 251, "ü\n"])
def test_an_illegal_name_becomes_one_that_mlflow_takes(text):
    from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH, _validate_metric_name

    name = legal_name(text)
    _validate_metric_name(name)
    assert len(name) <= MAX_ENTITY_KEY_LENGTH
    assert name != legal_name(f"{text}+")
    assert legal_name(text) == name


def test_a_value_is_cut_and_holds_no_password():
    assert legal_value("short") == "short"
    assert len(legal_value("x" * 9000)) == LONGEST_VALUE
    assert "s3cretpw" not in legal_value("http://alice:s3cretpw@host")


@pytest.mark.medium
def test_a_deleted_experiment_says_how_it_comes_back(study_file):
    study = swept(study_file(sizes="[16x1]"))
    mirror = mirror_of(study)
    mirror.sync()
    client, number = connect(mirror.location.uri), experiment_of(mirror).experiment_id
    client.delete_experiment(number)
    with pytest.raises(TrackingError) as told:
        mirror_of(study).sync()
    assert told.value.code == "experiment-deleted"
    assert told.value.values["experiment_id"] == number
    assert f"mlflow experiments restore --experiment-id {number}" in str(told.value)
    client.restore_experiment(number)
    assert mirror_of(study).sync().runs == 0


ODD = ["p%25c", "a%20b", "a b", "a#b", "a?b", 'it\'s "so"', "ünï", "100%"]


@pytest.mark.parametrize("name", ODD)
def test_a_path_survives_its_uri(tmp_path, name):
    from sqlalchemy.engine import make_url

    path = tmp_path / name / "mlflow.db"
    assert make_url(sqlite_uri(path)).database == str(path)
    assert database_of(sqlite_uri(path)) == str(path)


def test_an_ordinary_path_has_the_uri_that_it_always_had(tmp_path):
    plain = f"/{string.ascii_letters}/{string.digits} -_.~+@/mlflow.db"
    assert sqlite_uri(Path(plain)) == f"sqlite:///{plain}"


@pytest.mark.parametrize("name", ["p%25c", "a%20b ?#'ü"])
@pytest.mark.medium
def test_a_store_of_any_name_is_mirrored_with_its_files(study_file, tmp_path, name):
    path = study_file(sizes="[16x1]", replace=("store: store", f"store: {json.dumps(name)}"))
    study = swept(path)
    mirror = mirror_of(study)
    assert mirror.sync().runs == 3
    assert mirror_of(study).sync().runs == 0
    run = next(each for each in runs_of(mirror) if each.data.tags["kind"] == "trunk")
    (tmp_path / "back").mkdir()
    client = connect(mirror.location.uri)
    client.download_artifacts(run.info.run_id, "curve.jsonl", str(tmp_path / "back"))
    want = study.store.segment(run.data.tags["windtunnel.segment"]).curve.read_bytes()
    assert (tmp_path / "back" / "curve.jsonl").read_bytes() == want
    assert list((tmp_path / "state" / "windtunnel").iterdir()) == [mirror.location.folder]


def test_a_database_that_cannot_be_made_is_said_at_once(study_file, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/file/runs.db")
    with pytest.raises(TrackingError) as refused:
        mirror_of(open_study(study_file(), prepared=True)).sync()
    assert refused.value.code == "cannot-write"
    assert refused.value.values["file"] == f"{tmp_path}/file/runs.db"


@pytest.mark.medium
def test_files_lie_beside_the_users_database(study_file, tmp_path, monkeypatch):
    study = swept(study_file(sizes="[16x1]"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/db/runs.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    mirror_of(study).sync()
    assert not list((tmp_path / "elsewhere").iterdir())
    assert list((tmp_path / "db" / "mlartifacts").rglob("curve.jsonl"))


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("http://127.0.0.1:1", "http"),
        ("https://u:p@host/x", "http"),
        ("sqlite:///x.db", "database"),
        ("postgresql+psycopg://u:p@h/x", "database"),
        ("mlruns", "folder"),
        ("file:///x", "folder"),
        ("databricks", "other"),
        ("databricks://profile", "other"),
    ],
)
def test_who_shows_the_pages(uri, kind):
    assert kind_of(uri) == kind


def test_a_home_is_not_read_in_a_uri(study_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///~/runs.db")
    with pytest.raises(TrackingError) as refused:
        mirror_of(open_study(study_file(), prepared=True)).sync()
    assert refused.value.code == "home-in-uri"
    assert not (tmp_path / "~").exists()
