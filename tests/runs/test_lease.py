"""One writer at a time, whatever clocks do and whoever is killed."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from windtunnel.errors import StoreError
from windtunnel.runs import lease as lease_module
from windtunnel.runs.lease import Lease, LeaseHeld, end_holder, holder, pulse_of


def holding(path):
    """A process of its own that holds a lease, and whose work stands still."""
    script = (
        "import time; from pathlib import Path; from windtunnel.runs.lease import Lease\n"
        f"Lease(Path({str(path)!r}), what='x', work=int).__enter__(); print('held', flush=True)\n"
        "time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    with process.stdout as said:
        assert said.readline() == b"held\n"
    return process


def test_a_second_holder_is_refused_by_process_and_host(tmp_path):
    with Lease(tmp_path / "lease.json", what="study 'x'"):
        with (
            pytest.raises(LeaseHeld) as held,
            Lease(tmp_path / "lease.json", what="study 'x'"),
        ):
            pass
        assert held.value.code == "in-use"
        assert (held.value.values["what"], held.value.values["process"]) == (
            "study 'x'",
            os.getpid(),
        )
        assert holder(tmp_path / "lease.json") is not None
    assert holder(tmp_path / "lease.json") is None
    assert list(tmp_path.iterdir()) == []


def test_a_killed_holder_is_no_holder(tmp_path):
    path = tmp_path / "lease.json"
    process = holding(path)
    assert holder(path) is not None
    process.kill()
    process.wait()
    assert holder(path) is None
    with Lease(path, what="x"):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_the_pulse_moves_as_long_as_the_work_does(tmp_path, monkeypatch):
    monkeypatch.setattr(lease_module, "HEARTBEAT_SECONDS", 0.02)
    path, done = tmp_path / "lease.json", 0
    with Lease(path, what="x", work=lambda: done):
        first = pulse_of(path)
        heartbeat = path.stat().st_mtime_ns
        while path.stat().st_mtime_ns == heartbeat:
            time.sleep(0.01)
        assert pulse_of(path) == first
        done += 1
        deadline = time.monotonic() + 10
        while pulse_of(path) == first:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert pulse_of(path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_killed_holders_pulse_goes_with_the_next(tmp_path):
    path = tmp_path / "lease.json"
    (tmp_path / ".lease.json.pulse").touch()
    with Lease(path, what="x"):
        assert pulse_of(path) is None


def test_the_holder_is_ended_on_its_own_machine_only(tmp_path):
    path = tmp_path / "lease.json"
    process = holding(path)
    owner = json.loads(path.read_text())
    pulse = pulse_of(path)
    path.write_text(json.dumps(owner | {"machine": "other"}))
    assert end_holder(path, pulse) is None
    path.write_text(json.dumps(owner | {"process_started": "1"}))
    assert end_holder(path, pulse) is None
    path.write_text(json.dumps(owner))
    assert end_holder(path, pulse - 1.0) is None  # it has moved since
    assert process.poll() is None
    assert end_holder(path, pulse).startswith(f"process {process.pid} on ")
    assert process.wait(timeout=10) == -9
    assert end_holder(path, pulse) is None


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A lease of another machine, and a watch for its heartbeat that is over in no time."""
    monkeypatch.setattr(lease_module, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(lease_module, "WATCH_SECONDS", 0.5)
    path = tmp_path / "lease.json"
    path.write_text(json.dumps({"token": "t", "host": "elsewhere", "pid": 1, "machine": "other"}))
    return path


@pytest.mark.parametrize("silence", [lease_module.STALE_SECONDS + 1, -3600.0])
def test_another_hosts_lease_ends_with_its_heartbeat(elsewhere, silence):
    """Silent for two minutes, or of a time to come after its clock was set back by an hour."""
    with pytest.raises(LeaseHeld) as held, Lease(elsewhere, what="x"):
        pass
    assert held.value.values["host"] == "elsewhere"
    at = time.time() - silence
    os.utime(elsewhere, (at, at))
    with Lease(elsewhere, what="x"):
        assert json.loads(elsewhere.read_text())["pid"] == os.getpid()


NAMELESS = {
    "empty": b"",
    "torn": b'{"token": "t", "ho',
    "zeroed": bytes(120),
    "not UTF-8": b"\xff\xfe",
    "foreign": b'{"owner": "somebody"}',
    "a list": b"[1, 2]",
    "a pid that is none": b'{"token": "t", "host": "h", "pid": "1", "machine": "other"}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("name", NAMELESS)
def test_a_lease_that_names_nobody_is_taken_away_and_told(elsewhere, name):
    elsewhere.write_bytes(NAMELESS[name])
    assert holder(elsewhere) is None
    began = time.monotonic()
    with Lease(elsewhere, what="x") as lease:
        assert json.loads(elsewhere.read_text())["pid"] == os.getpid()
        assert str(elsewhere) in lease.note
    assert time.monotonic() - began < 5


def test_a_lease_of_this_machine_without_its_fields_is_taken_away(elsewhere):
    with Lease(elsewhere.with_name("other.json"), what="x"):
        mine = json.loads(elsewhere.with_name("other.json").read_text())
    del mine["process_started"]
    elsewhere.write_text(json.dumps(mine))
    with Lease(elsewhere, what="x") as lease:
        assert lease.note


def test_a_lease_that_names_nobody_and_beats_is_held(elsewhere):
    elsewhere.write_text("")
    ended = threading.Event()

    def beat():
        while not ended.wait(0.05):
            os.utime(elsewhere)

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        with pytest.raises(LeaseHeld), Lease(elsewhere, what="x"):
            pass
    finally:
        ended.set()
        beating.join()


def test_a_lease_that_is_a_folder_is_an_error_with_its_name(tmp_path):
    (tmp_path / "lease.json").mkdir()
    with (
        pytest.raises(StoreError) as refused,
        Lease(tmp_path / "lease.json", what="x"),
    ):
        pass
    assert refused.value.code == "unreadable"
    assert refused.value.values["file"] == tmp_path / "lease.json"


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_another_hosts_heartbeat_counts_whatever_its_clock_says(elsewhere, jump):
    def beat():
        for count in range(20):
            at = time.time() + jump + count
            os.utime(elsewhere, (at, at))
            time.sleep(0.05)

    beating = threading.Thread(target=beat)
    beating.start()
    time.sleep(0.1)
    with pytest.raises(LeaseHeld) as held, Lease(elsewhere, what="x"):
        pass
    assert held.value.values["host"] == "elsewhere"
    beating.join()


def test_a_lease_that_was_taken_away_is_noticed_and_left_alone(tmp_path):
    path = tmp_path / "lease.json"
    with Lease(path, what="segment x") as lease:
        lease.check()
        path.write_text(json.dumps({"token": "another"}))
        with pytest.raises(LeaseHeld) as lost:
            lease.check()
        assert (lost.value.code, lost.value.values) == ("lease-lost", {"what": "segment x"})
    assert json.loads(path.read_text()) == {"token": "another"}


@pytest.mark.medium
def test_of_many_that_find_a_lease_abandoned_one_gets_it(tmp_path):
    """Six processes at once, over and over: never two holders."""
    script = (
        "import json, os, random, sys, time; from pathlib import Path\n"
        "from windtunnel.runs.lease import Lease, LeaseHeld\n"
        "path = Path(sys.argv[1]); inside = path.with_name('inside'); held = 0\n"
        "dead = json.dumps({'token': 'dead', 'host': 'h', 'pid': 1, 'machine': None})\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "from windtunnel.runs import lease as module\n"
        "module._beats = lambda owner, path: False\n"
        "def is_alive(owner, path):\n"
        "    time.sleep(random.uniform(0, 0.002))\n"  # between the look and the removal
        "    return owner['token'] != 'dead'\n"
        "module._is_alive = is_alive\n"
        "for _ in range(300):\n"
        "    try:\n"
        "        with Lease(path, what='x') as lease:\n"
        "            inside.open('x').close(); held += 1; inside.unlink()\n"
        "            scratch = path.with_name(f'dead{os.getpid()}'); scratch.write_text(dead)\n"
        "            scratch.replace(path)\n"  # as if killed: the next ones find it abandoned
        "    except LeaseHeld:\n"
        "        pass\n"
        "print(held)\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "lease.json")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    found = []
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        found.append(int(output))
    assert sum(found) > 20
