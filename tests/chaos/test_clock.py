"""A wall clock that jumps by hours decides nothing: who holds what, when to save, what is found."""

import json
import os
import subprocess
import sys

import pytest
from sweeps import RunningSweep, assert_recorded_once, results, undisturbed

from windtunnel.runs.lease import Lease, LeaseHeld

JUMPS = """\
import time
real = time.time
time.time = lambda: real() + (10_000.0 if int(time.monotonic() * 5) % 2 else -10_000.0)
"""
"""Hours to and fro, five times a second."""

SETTINGS = {"sizes": "[16x1, 16x2]", "horizons": "[400 steps, 600 steps]"}

ENGINES = ["local", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.chaos])]


@pytest.fixture
def jumping(tmp_path):
    folder = tmp_path / "jumps"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(JUMPS)
    return folder


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.slow
def test_a_sweep_by_a_jumping_clock(study_file, known, jumping, engine):
    path = study_file(**SETTINGS)
    if "clock" not in known:
        known["clock"] = undisturbed(path)
    sweep = RunningSweep(path, "--engine", engine, python_path=[jumping])
    code, output = sweep.finish()
    assert code == 0, output
    assert results(path) == known["clock"]
    assert_recorded_once(path)


@pytest.mark.medium
def test_a_holder_lives_whatever_the_clock_says(tmp_path, jumping):
    """Linux, and psutil with it, derives a process's start from a clock that somebody may set."""
    path = tmp_path / "lease.json"
    script = (
        "import sys; from pathlib import Path; from windtunnel.runs.lease import Lease\n"
        "import psutil._pslinux as p; p.boot_time = lambda: 1e9\n"  # before the clock was set
        f"with Lease(Path({str(path)!r}), what='x'):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    paths = [str(jumping), *filter(None, [os.environ.get("PYTHONPATH")])]
    holder = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    assert holder.stdout.readline() == b"held\n"
    pid = json.loads(path.read_text())["pid"]
    for hours in (0, 3, -3):
        at = path.stat().st_mtime + hours * 3600
        os.utime(path, (at, at))
        with pytest.raises(LeaseHeld, match=f"process {pid} on "), Lease(path, what="x"):
            pass
    holder.communicate()
    with Lease(path, what="x"):
        pass
