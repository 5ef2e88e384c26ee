"""Two mirrors of one store leave one run a segment, and what earlier ones doubled is healed."""

import subprocess
import sys
import threading

import pytest
from test_tracking import everything, state_home  # noqa: F401

from windtunnel.engine.sweep import Sweep
from windtunnel.errors import TrackingError
from windtunnel.runs.study import open_study
from windtunnel.tracking import Mirror, locate
from windtunnel.tracking import mirror as turn


@pytest.fixture
def swept(study_file, state_home):  # noqa: F811
    study = open_study(study_file(sizes="[16x1]"), prepared=True)
    Sweep(study, engine="local").run()
    return study, locate(study.store, study.config.tracking)


def segments_of(location):
    points, runs = everything(location)
    assert len(points) == len(set(points))
    return sorted(run.data.tags["windtunnel.segment"] for run in runs)


@pytest.mark.medium
def test_two_that_connect_before_either_writes(swept):
    study, location = swept
    one, two = Mirror(study, location), Mirror(study, location)
    one.experiment_id()
    two.experiment_id()
    assert two.sync().runs == 3
    assert one.sync().runs == 0
    assert segments_of(location) == sorted(study.plan.by_id())
    assert not (study.store.root / "tracking" / "lease.json").exists()


@pytest.mark.medium
def test_two_at_the_same_time(swept):
    study, location = swept
    Mirror(study, location).experiment_id()  # MLflow makes its tables one at a time
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(Mirror(study, location).sync().runs))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 3]
    assert segments_of(location) == sorted(study.plan.by_id())


@pytest.mark.medium
def test_runs_that_were_doubled_are_healed(swept, caplog):
    from mlflow import MlflowClient

    study, location = swept
    mirror = Mirror(study, location)
    mirror.sync()
    client = MlflowClient(tracking_uri=location.uri)
    trunk, branch = study.plan.trunks[0].id, study.plan.branches[0].id
    _, runs = everything(location)
    of = {run.data.tags["windtunnel.segment"]: run for run in runs}
    whole = of[trunk].data.tags
    begun = {**whole, "windtunnel.synced_step": "0"}
    del begun["windtunnel.outcome"]
    double = client.create_run(mirror.experiment_id(), tags=begun).info.run_id
    client.set_tag(of[branch].info.run_id, "mlflow.parentRunId", double)

    again = Mirror(study, location)
    assert again.sync().runs == 0
    assert "1 runs stood there twice" in caplog.text
    assert segments_of(location) == sorted(study.plan.by_id())
    assert client.get_run(double).info.lifecycle_stage == "deleted"
    parent = client.get_run(of[branch].info.run_id).data.tags["mlflow.parentRunId"]
    assert parent == of[trunk].info.run_id


@pytest.mark.medium
def test_a_mirror_that_goes_on_is_named(swept, monkeypatch):
    study, location = swept
    monkeypatch.setattr(turn, "WAIT_SECONDS", 0.3)
    lease = study.store.root / "tracking" / "lease.json"
    script = (
        "import time; from pathlib import Path; from windtunnel.runs.lease import Lease\n"
        f"Lease(Path({str(lease)!r}), what='x').__enter__()\n"
        "print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(TrackingError, match="sync") as held:
            Mirror(study, location).sync()
        assert (held.value.code, held.value.values["process"]) == ("in-use", other.pid)
        other.kill()
    assert Mirror(study, location).sync().runs == 3
