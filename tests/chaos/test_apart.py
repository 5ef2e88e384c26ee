"""A Ray of our own: on loopback, with a fresh token, out of reach of signals; a lost server."""

import os
import signal

import psutil
import pytest
from sweeps import RunningSweep, until

from windtunnel.engine.ray.isolation import is_loopback, own_token, read_token_again
from windtunnel.runs.study import open_study

SETTINGS = {"sizes": "[16x2, 32x2]", "horizons": "[2500 steps, 3000 steps]"}

SETTLE_SECONDS = 60
"""For agents and workers of a Ray to listen on what they will."""

END_SECONDS = 15
"""Within which a sweep must end (measured: 5 s), on a machine that does much else."""


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("::ffff:10.0.0.1", False),
    ],
)
def test_what_only_this_machine_reaches(address, expected):
    assert is_loopback(address) is expected


@pytest.fixture
def tokens_of_now():
    """Ray keeps mode and token for the process: the tests that follow need theirs again."""
    with pytest.MonkeyPatch.context() as theirs:
        yield theirs
    read_token_again()


def test_each_cluster_has_a_token_of_its_own_and_leaves_the_users_alone(tokens_of_now, tmp_path):
    tokens_of_now.setenv("HOME", str(tmp_path))
    tokens_of_now.setenv("RAY_AUTH_TOKEN", "the user's")
    tokens_of_now.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    tokens_of_now.setenv("RAY_AUTH_MODE", "disabled")
    found = set()
    for _ in range(2):
        with own_token():
            found.add(os.environ["RAY_AUTH_TOKEN"])
            assert os.environ["RAY_AUTH_MODE"] == "token"
            assert "RAY_AUTH_TOKEN_PATH" not in os.environ
        assert os.environ["RAY_AUTH_TOKEN"] == "the user's"
        assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(tmp_path / "token")
        assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert len(found) == 2
    assert all(len(token) == 64 for token in found)
    assert not list(tmp_path.iterdir())


@pytest.mark.ray
@pytest.mark.slow
def test_a_running_sweep_listens_on_loopback_and_stops_in_order_with_its_group(
    study_file, tmp_path
):
    path = study_file(**SETTINGS)
    home = tmp_path / "home"
    home.mkdir()
    theirs = {"HOME": str(home), "RAY_AUTH_TOKEN": "0" * 64, "RAY_AUTH_MODE": "disabled"}
    sweep = RunningSweep(path, env=theirs)
    study = open_study(path)
    until(lambda: updates(study) or sweep.over, "the first update", seconds=120)
    until(lambda: len(listeners(sweep)) >= 6, "Ray's ports", seconds=SETTLE_SECONDS)
    found = listeners(sweep)
    assert [port for port in found if not is_loopback(port.ip)] == []
    tokens = {p.environ().get("RAY_AUTH_TOKEN") for p in sweep.workers()}
    assert len(tokens) == 1
    (token,) = tokens
    assert len(token) == 64
    assert token != "0" * 64
    assert not any(token in word for p in sweep.tree() for word in p.cmdline())

    tree = sweep.tree()
    sweep.signal(signal.SIGTERM)  # as `timeout` does it: twice
    os.killpg(sweep.pid, signal.SIGTERM)
    code, output = sweep.finish(seconds=END_SECONDS)
    assert code == 130, output
    assert "raylet" not in output
    _, left = psutil.wait_procs(tree, timeout=5)
    assert not left
    assert not list(study.store.root.rglob("lease.json"))
    assert not list(home.rglob("auth_token"))
    for segment_id in study.store.segment_ids():
        folder = study.store.segment(segment_id)
        rows = list(folder.curve_rows())
        if folder.record is None and rows:  # what was trained was saved to the last update
            assert int(folder.resumable(10**9)[0].name) == rows[-1]["step"]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("victim", ["gcs_server", "raylet"])
def test_a_lost_server_ends_the_sweep_in_our_words(study_file, victim):
    path = study_file(**SETTINGS)
    sweep = RunningSweep(path)
    study = open_study(path)
    until(lambda: updates(study) or sweep.over, "the first update", seconds=120)
    tree = sweep.tree()
    next(p for p in tree if p.name() == victim).kill()
    code, output = sweep.finish(seconds=END_SECONDS)
    assert code == 3
    (told,) = (line for line in output.splitlines() if victim in line)
    assert told.startswith("error: ")
    assert output.splitlines()[-1] == told
    _, left = psutil.wait_procs(tree, timeout=5)
    assert not left


def listeners(sweep):
    """Addresses that processes of a sweep listen on."""
    found = []
    for process in [psutil.Process(sweep.pid), *sweep.tree()]:
        try:
            connections = process.net_connections(kind="inet")
        except psutil.NoSuchProcess:
            continue
        found += [c.laddr for c in connections if c.status == psutil.CONN_LISTEN]
    return found


def updates(study):
    """Updates in all curves."""
    curves = (study.store.segment(i).curve for i in study.store.segment_ids())
    return sum(curve.read_bytes().count(b"\n") for curve in curves if curve.exists())
