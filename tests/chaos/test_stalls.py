"""A worker that stands still is seen, and replaced; its attempt counts, and no result differs."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from sweeps import RunningSweep, assert_recorded_once, results, undisturbed, until

from windtunnel.runs.study import open_study

STALL_SECONDS = 20


@pytest.mark.ray
@pytest.mark.chaos
def test_a_suspended_worker_is_shown_and_replaced(chaos_study):
    chaos_study.write_text(
        chaos_study.read_text().replace("retries: 9", f"retries: 9, stall_seconds: {STALL_SECONDS}")
    )
    expected = undisturbed(chaos_study)
    sweep = RunningSweep(chaos_study)
    segment, pid = until(lambda: held(chaos_study), "a segment under a lease", seconds=120)
    began = time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    stalled = until(lambda: warned(chaos_study), "the warning of status", seconds=90)
    assert segment in stalled["message"]
    code, output = sweep.finish()
    assert code == 0, output
    assert time.monotonic() - began > STALL_SECONDS
    assert f"process {pid} on" in notes(chaos_study, segment)
    assert results(chaos_study) == expected
    assert_recorded_once(chaos_study)


def held(file):
    """A segment that has begun to train, and the process that does."""
    study = open_study(file)
    for path in (study.store.root / "segments").glob("*/lease.json"):
        if (path.parent / "curve.jsonl").exists():
            return path.parent.name, json.loads(path.read_text())["pid"]
    return None


def warned(file):
    answer = subprocess.run(
        [sys.executable, "-c", "from windtunnel.cli import main; main()", "status", file, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(answer.stdout)["warnings"]
    return next((each for each in found if each["code"] == "stalled"), None)


def notes(file, segment):
    return " ".join(each["note"] for each in open_study(file).store.segment(segment).notes())
