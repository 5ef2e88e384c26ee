"""What MLflow's pages show of a store: the run list, the report, and whose runs they are."""

import hashlib
import json
import os
import shutil

import pytest
from test_tracking import state_home  # noqa: F401

from windtunnel.engine.sweep import Sweep
from windtunnel.runs.measured import gather
from windtunnel.runs.study import open_study
from windtunnel.tracking import Mirror, locate
from windtunnel.tracking.experiment_page import COLUMNS, NOTE, REPORT_RUN, VIEW, note_tags
from windtunnel.tracking.server import link


def tags_of(location):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=location.uri)
    return client.get_experiment_by_name(location.experiment).tags


@pytest.mark.medium
def test_the_run_list_has_its_columns_and_the_report_is_one_click_away(study_file, state_home):  # noqa: F811
    study = open_study(study_file(sizes="[16x1]"), prepared=True)
    Sweep(study, engine="local").run()
    location = locate(study.store, study.config.tracking)
    mirror = Mirror(study, location)
    mirror.sync()
    page = study.folder / "report.html"
    page.write_text("<p>report</p>")
    mirror.log_result("report", [page], {})

    runs = runs_of(location)
    by_segment = {run.data.tags["windtunnel.segment"]: run.data for run in runs}
    for run in gather(study.store, study.plan):
        data = by_segment[run.segment]
        found = [data.metrics[name] for name in ("loss", "tokens", "gflops")]
        assert found == pytest.approx([run.loss, run.tokens, run.flops / 1e9], rel=1e-3)
        known = {"metrics": data.metrics, "params": data.params, "tags": data.tags}
        for column in COLUMNS:
            kind, name = column.split(".", 1)
            if run.kind == "branch":
                assert name.strip("`") in known[kind], column
    tags = tags_of(location)
    state = json.loads(tags[f"{VIEW}small"])
    assert state["selectedColumns"] == list(COLUMNS)
    assert 'tags."study.small" = "yes"' in state["searchFilter"]
    address = link("http://127.0.0.1:1", "1", "small")
    assert "viewStateShareKey=small&" in address
    assert "searchFilter" not in address  # MLflow would ignore the view
    report = tags[f"{REPORT_RUN}small"]
    assert f"/runs/{report}/artifacts/report.html" in tags[NOTE]

    again = Mirror(study, location).sync()
    assert (again.runs, again.metrics) == (0, 0)


def runs_of(location):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=location.uri)
    experiment = client.get_experiment_by_name(location.experiment)
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    return [run for run in runs if "windtunnel.segment" in run.data.tags]


def test_a_description_that_a_user_has_edited_stays():
    tags = note_tags({}, "1", "one", "a" * 32)
    assert "a" * 32 in tags[NOTE]
    both = tags | note_tags(tags, "1", "two", "b" * 32)
    assert all(run * 32 in both[NOTE] for run in "ab")
    edited = both | {NOTE: "my own words"}
    assert NOTE not in note_tags(edited, "1", "two", "c" * 32)


def test_a_store_made_anew_at_an_old_path_is_another_one(study_file, state_home):  # noqa: F811
    study = open_study(study_file(sizes="[16x1]"), prepared=True)
    first = locate(study.store, study.config.tracking)
    moved = study.store.root.rename(study.store.root.with_name("moved"))
    anew = open_study(study.file, prepared=True)
    assert locate(anew.store, anew.config.tracking).experiment != first.experiment
    shutil.rmtree(anew.store.root)
    moved.rename(anew.store.root)
    assert locate(anew.store, anew.config.tracking) == first


def test_a_store_of_an_earlier_version_keeps_its_experiment(study_file, state_home):  # noqa: F811
    study = open_study(study_file(sizes="[16x1]"), prepared=True)
    (study.store.root / "store.json").write_text('{"format": 2, "windtunnel": "0.1.0"}')
    digest = hashlib.sha256(os.fsencode(study.store.root)).hexdigest()[:8]
    assert study.store.id is None
    assert locate(study.store, study.config.tracking).experiment.endswith(f"-{digest}")
    study.store.open_for_writing()
    assert study.store.id is None
