"""Sweeps by the command line from folders and under user ids as clusters have them."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import pytest

NOT_OURS = ("windtunnel/__init__", "numpy", "random", "json", "types", "torch", "ray", "uvicorn")
A_USER = 12345


def command(*arguments):
    """The command line of a process that finds no module in its working folder."""
    run = "from windtunnel.cli import main; main()"
    return [sys.executable, "-P", "-c", run, *map(str, arguments)]


def windtunnel(*arguments, cwd, env=None):
    done = subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=cwd,
        env=os.environ | (env or {}),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def losses(store):
    found = {
        path.parent.name: json.loads(path.read_text())
        for path in store.glob("segments/*/measurements.json")
    }
    assert found
    return found


@pytest.fixture
def elsewhere(tmp_path):
    """A working folder full of modules that are not those we run."""
    folder = tmp_path / "elsewhere"
    for name in NOT_OURS:
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"raise ImportError('another {path.stem}')\n")
    return folder


@pytest.mark.ray
@pytest.mark.slow
def test_workers_run_the_drivers_code_wherever_it_starts(study_file, tmp_path, elsewhere):
    """Also in a job whose temporary folder is too long for a socket's path."""
    path = study_file(sizes="[16x1]")
    windtunnel("sweep", path, "--engine", "local", cwd=tmp_path)
    want = losses(tmp_path / "store")
    shutil.move(tmp_path / "store", tmp_path / "first")
    temporary = tmp_path / ("t" * 80)
    temporary.mkdir()
    windtunnel("sweep", path, cwd=elsewhere, env={"TMPDIR": str(temporary)})
    assert losses(tmp_path / "store") == want
    assert not list(temporary.iterdir())


@pytest.mark.slow
def test_timing_and_the_server_run_our_code_too(study_file, tmp_path, elsewhere):
    path = study_file(sizes="[16x1]")
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    windtunnel("plan", path, "--calibrate", cwd=elsewhere, env=state)
    windtunnel("sweep", path, "--engine", "local", cwd=elsewhere, env=state)
    (tmp_path / "run").mkdir()
    uri = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/run/mine.db"}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen(
        command("ui", path, "--port", port),
        cwd=elsewhere,
        env=os.environ | state | uri,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline().startswith(f"http://127.0.0.1:{port}/#/experiments/")
            address = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=9"
            with urllib.request.urlopen(address, timeout=20) as answer:
                assert "windtunnel/store-" in answer.read().decode()
        finally:
            process.terminate()
            assert process.wait(timeout=30) == 0
    names = {Path(name).with_suffix("").parts[0] for name in NOT_OURS}
    assert {each.stem for each in elsewhere.iterdir()} - {"__pycache__"} == names


AS_NOBODY = {"user": A_USER, "group": A_USER, "extra_groups": []}


@pytest.fixture
def nobodys(study_file, words):
    """A study in a folder that everybody can write, for a user id that has no home."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    probe = [sys.executable, "-P", "-c", "import windtunnel, torch, ray"]
    if subprocess.run(probe, capture_output=True, check=False, cwd="/", **AS_NOBODY).returncode:
        pytest.skip("other users cannot run this Python")
    folder = Path(tempfile.mkdtemp(prefix="homeless-", dir="/tmp"))
    text = study_file(sizes="[16x1]").read_text()
    text = text.replace(str(words), "words.jsonl").replace("{enabled: false}", "{enabled: true}")
    (folder / "study.yaml").write_text(text)
    shutil.copy(words, folder / "words.jsonl")
    (folder / "tmp").mkdir()
    for each in (folder, *folder.iterdir()):
        each.chmod(0o777)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("home", [None, "/"], ids=["no home", "a home of others"])
def test_a_user_id_without_a_home(nobodys, home):
    kept = ("PATH", "PYTHONPATH", "OMP_NUM_THREADS", "LD_LIBRARY_PATH")
    env = {name: os.environ[name] for name in kept if name in os.environ}
    env |= {"TMPDIR": str(nobodys / "tmp")} | ({"HOME": home} if home else {})

    def run(name, *options):
        done = subprocess.run(
            command(name, "study.yaml", *options),
            cwd=nobodys,
            env=env,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            **AS_NOBODY,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("plan")
    assert "3 finished" in run("sweep", "--engine", "local" if home else "ray")
    assert "0 new runs, 0 new metrics" in run("sync")  # the sweep has mirrored everything
    (own,) = (nobodys / "tmp").glob(f"windtunnel-{A_USER}")
    assert own.stat().st_mode & 0o777 == 0o700
