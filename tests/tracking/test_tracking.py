"""The mirror: idempotent, live, and never in the way."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from windtunnel.engine.sweep import Sweep
from windtunnel.errors import TrackingError
from windtunnel.runs.study import open_study
from windtunnel.tracking import Mirror, locate


@pytest.fixture
def state_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "state"


def everything(location):
    """(segment, key, step, value) of every metric point, and the runs, by MLflow's own client."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=location.uri)
    experiment = client.get_experiment_by_name(location.experiment)
    points, runs = [], client.search_runs([experiment.experiment_id], max_results=1000)
    for run in runs:
        for key in run.data.metrics:
            points += [
                (run.data.tags["windtunnel.segment"], key, m.step, m.value)
                for m in client.get_metric_history(run.info.run_id, key)
            ]
    return sorted(points), runs


@pytest.mark.medium
def test_the_mirror_holds_the_store_once(study_file, state_home):
    study = open_study(study_file(sizes="[16x1]"), prepared=True)
    Sweep(study, engine="local").run()
    location = locate(study.store, study.config.tracking)
    assert str(state_home) in location.uri
    done = Mirror(study, location).sync()
    assert done.runs == 3
    points, runs = everything(location)
    assert len(points) == len(set(points)) == done.metrics

    trunk = study.plan.trunks[0]
    curve = {row["tokens"]: row["loss"] for row in study.store.segment(trunk.id).curve_rows()}
    mirrored = {s: v for t, key, s, v in points if (t, key) == (trunk.id, "train/loss")}
    assert len(mirrored) >= 100
    assert all(curve[step] == value for step, value in mirrored.items())
    branch = study.plan.branches[0]
    measured = study.store.segment(branch.id).measurements[branch.end]["words"]
    assert (
        branch.id, "val/loss_words", branch.end * 128, measured["nats_per_token"],
    ) in points  # fmt: skip

    of = {run.data.tags["windtunnel.segment"]: run for run in runs}
    assert of[branch.id].data.tags["mlflow.parentRunId"] == of[trunk.id].info.run_id
    assert of[branch.id].data.tags["parent"] == trunk.id
    assert of[branch.id].data.tags["study.small"] == "yes"
    assert of[branch.id].data.params["recipe.lr"] == "0.01"
    assert of[branch.id].data.params["schedule.shape"] == "exponential"
    assert of[branch.id].data.tags["experiment.small"] == "law"
    assert {run.info.status for run in runs} == {"FINISHED"}

    again = Mirror(study, location).sync()
    assert (again.runs, again.metrics) == (0, 0)


@pytest.mark.medium
def test_a_branch_tells_what_it_changes_and_what_each_study_calls_it(study_file, state_home):
    for study_name, variant in (("one", "soft"), ("two", "gentle")):
        stage = "{warmup: 5 steps, rate: 0.5, shape: linear, decay: 20 steps}"
        branch = f"forks: [50 steps], variants: {{{variant}: {stage}}}"
        file = study_file(name=study_name)
        head, rest = file.read_text().split("experiments:")
        experiment = f"[{{kind: branch, name: b, sizes: [16x1], seeds: 1, {branch}}}]"
        file.write_text(f"{head}experiments: {experiment}\nresources:{rest.split('resources:')[1]}")
        study = open_study(file, prepared=True)
        Sweep(study, engine="local").run()
        location = locate(study.store, study.config.tracking)
        Mirror(study, location).sync()
    _, runs = everything(location)
    (run,) = (run for run in runs if run.data.tags["kind"] == "branch")
    assert run.data.tags["variant.one.b"] == "soft"
    assert run.data.tags["variant.two.b"] == "gentle"
    told = {"shape": "linear", "rate": "0.5", "warmup": "5", "final_factor": "0.05"}
    assert {key: run.data.params[f"schedule.{key}"] for key in told} == told
    assert "schedule.kind" not in run.data.params


@pytest.mark.medium
def test_a_pass_cut_short_is_filled_without_duplicates(study_file, state_home, monkeypatch):
    study = open_study(study_file(sizes="[16x1]"), prepared=True)
    Sweep(study, engine="local").run()
    location = locate(study.store, study.config.tracking)
    mirror = Mirror(study, location)
    real, calls = Mirror._tag, []

    def dies_after_logging(self, key, name, value):
        calls.append(name)
        if name == "windtunnel.synced_step" and len(calls) > 1:
            raise ConnectionError("the server went away")
        real(self, key, name, value)

    monkeypatch.setattr(Mirror, "_tag", dies_after_logging)
    with pytest.raises(TrackingError, match="windtunnel sync") as refused:
        mirror.sync()
    assert refused.value.code == "no-answer"
    assert refused.value.values["cause"] == "the server went away"
    monkeypatch.setattr(Mirror, "_tag", real)
    Mirror(study, location).sync()
    points, runs = everything(location)
    assert len(runs) == 3
    assert len(points) == len(set(points))
    steps = [step for _, key, step, _ in points if key == "train/loss"]
    assert len(steps) == 126 + 11 + 14


@pytest.mark.slow
def test_a_server_that_stops_mid_sweep(study_file, tmp_path, state_home):
    """Training finishes; `sync` fills the gap, and a second one adds nothing."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    path = study_file(sizes="[32x2]", horizons="[9000 steps, 10000 steps]")
    path.write_text(path.read_text().replace("{enabled: false}", f"{{uri: '{uri}'}}"))
    command = [sys.executable, "-c", "from windtunnel.cli import main; main()"]
    every_second = "import windtunnel.cli.tracking as m; m.MIRROR_SECONDS = 1.0; "
    often = [sys.executable, "-c", every_second + "from windtunnel.cli import main; main()"]
    server = serve(tmp_path, port)
    sweep = subprocess.Popen(
        [*often, "sweep", str(path), "--engine", "local"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    study = None
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:  # until a first pass has been mirrored
        if study is None and (tmp_path / "store" / "studies" / "small" / "orders.json").exists():
            study = open_study(path)
        if study is not None and _mirrored(uri, study) > 0:
            break
        time.sleep(0.5)
    running = sweep.poll() is None
    stop(server)
    output, _ = sweep.communicate(timeout=120)
    assert running, "the sweep was over before the server was stopped"
    assert sweep.returncode == 0, output
    assert "3 finished" in output
    assert "windtunnel sync" in output

    server = serve(tmp_path, port)
    try:
        first = subprocess.run(
            [*command, "sync", str(path)], capture_output=True, text=True, check=True
        )
        assert " 0 new metrics" not in first.stdout
        points, runs = everything(locate(study.store, study.config.tracking))
        second = subprocess.run(
            [*command, "sync", str(path)], capture_output=True, text=True, check=True
        )
        assert "0 new runs, 0 new metrics" in second.stdout
        assert len(points) == len(set(points))
        assert {run.info.status for run in runs} == {"FINISHED"}
    finally:
        stop(server)


def stop(server):
    """Kill the server and its workers at once."""
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _mirrored(uri, study):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(
        locate(study.store, study.config.tracking).experiment
    )
    if experiment is None:
        return 0
    runs = client.search_runs([experiment.experiment_id])
    return sum(int(run.data.tags.get("windtunnel.synced_step", 0)) for run in runs)


def serve(folder, port):
    """MLflow's server on loopback over a database of its own."""
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'server.db'}"),
        *("--default-artifact-root", (folder / "artifacts").as_uri()),
    ]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    for _ in range(120):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
        except OSError:
            time.sleep(0.5)
        else:
            return process
    stop(process)
    raise AssertionError("the MLflow server did not start in 60 s")
