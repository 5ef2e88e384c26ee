"""kill -9 of workers and of the driver at random moments: the same command again, the same bits."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from windtunnel.trials.gather import gather
from windtunnel.trials.study import open_study

pytestmark = [pytest.mark.ray, pytest.mark.slow]

COMMAND = [sys.executable, "-c", "from windtunnel.cli import main; main()", "sweep"]


def start(path):
    return subprocess.Popen(
        [*COMMAND, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process):
    output, _ = process.communicate(timeout=240)
    return process.returncode, output


def workers_of(process):
    """Ray's worker processes in the tree of one driver."""
    try:
        tree = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    found = []
    for child in tree:
        try:
            if child.name().startswith("ray::") and "Trainable" in child.name():
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def cluster_of(process):
    """The raylet and the control server of one driver. (Ray's agents take minutes to notice.)"""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if child.name() in {"raylet", "gcs_server"}]


def results(path):
    """Losses and whole curves by segment, without the times of day."""
    study = open_study(path)
    rows = gather(study.store, study.plan)
    losses = {row["segment"]: row["loss"] for row in rows}
    assert len(losses) == len(rows) == len(study.plan.segments)
    keys = ("step", "loss", "lr", "grad_norm")
    curves = {
        planned.id: [
            tuple(row[key] for key in keys) for row in study.store.segment(planned.id).curve_rows()
        ]
        for planned in study.plan.segments
    }
    return losses, curves


def undisturbed(path, tmp_path):
    """Results of a run that nothing disturbs; its store is moved aside."""
    code, output = finish(start(path))
    assert code == 0, output
    found = results(path)
    shutil.move(tmp_path / "store", tmp_path / "undisturbed")
    return found


def settings():
    return {"sizes": "[16x2, 32x2]", "horizons": "[5000 steps, 6500 steps]", "seeds": "1"}


def test_killed_workers_and_drivers_leave_no_trace_in_the_results(study_file, tmp_path):
    path = study_file(**settings())
    expected = undisturbed(path, tmp_path)

    rng = random.Random(time.time_ns())
    killed = {"worker": 0, "driver": 0}
    while killed["worker"] < 2 or killed["driver"] < 2:
        assert sum(killed.values()) < 12
        process = start(path)
        deadline = time.monotonic() + 60
        while not workers_of(process) and time.monotonic() < deadline:
            if process.poll() is not None:
                break
            time.sleep(0.05)
        time.sleep(rng.uniform(0.5, 2.5))
        victims = workers_of(process)
        if process.poll() is None and victims and killed["worker"] < 2:
            rng.choice(victims).kill()
            killed["worker"] += 1
            time.sleep(rng.uniform(0.2, 1.5))
        if process.poll() is None and killed["driver"] < 2:
            tree = [*workers_of(process), *cluster_of(process)]
            os.kill(process.pid, signal.SIGKILL)
            killed["driver"] += 1
            _, left = psutil.wait_procs(tree, timeout=60)
            assert not left, "processes of a killed driver live on"
        finish(process)
        if killed["driver"] < 2 and not _unfinished(path):
            shutil.rmtree(tmp_path / "store")
    code, output = finish(start(path))
    assert code == 0, output
    assert results(path) == expected


def _unfinished(path):
    study = open_study(path)
    return len(gather(study.store, study.plan)) < len(study.plan.segments)


def test_ctrl_c_and_sigterm_save_everything_and_exit_130(study_file, tmp_path):
    path = study_file(**settings())
    expected = undisturbed(path, tmp_path)

    for number in (signal.SIGINT, signal.SIGTERM):  # Ray installs a SIGTERM handler of its own
        process = start(path)
        while not workers_of(process):
            time.sleep(0.05)
        time.sleep(2)
        os.kill(process.pid, number)
        code, output = finish(process)
        assert code == 130, output
        assert "everything is saved" in output
    store = open_study(path).store
    for segment in store.segment_ids():
        folder = store.segment(segment)
        assert not (folder.root / "lease.json").exists()
        rows = list(folder.curve_rows())
        if folder.record is None and rows:  # what was trained was saved to the last update
            saved = max(int(p.name) for p in folder.resumable(10**9))
            assert saved == rows[-1]["step"]
    code, output = finish(start(path))
    assert code == 0, output
    assert results(path) == expected


def test_a_study_that_is_running_refuses_a_second_sweep(study_file):
    path = study_file(**settings())
    first = start(path)
    lease = open_study(path).folder / "lease.json"
    while not lease.exists():
        time.sleep(0.05)
    owner = json.loads(lease.read_text())
    code, output = finish(start(path))
    assert code == 2
    assert f"is in use by process {owner['pid']} on {owner['host']}" in output
    assert "Traceback" not in output
    code, output = finish(first)
    assert code == 0, output
