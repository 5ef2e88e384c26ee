"""Ctrl-C and SIGTERM: everything is saved, exit code 130, and the same command goes on."""

import signal

import psutil
import pytest
from sweeps import RunningSweep, assert_recorded_once, results, swept, undisturbed, until

from windtunnel.runs.study import open_study

SETTINGS = {"sizes": "[16x2, 32x2]", "horizons": "[2500 steps, 3000 steps]"}

ENGINES = [
    pytest.param("local", marks=pytest.mark.chaos),
    pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.slow]),
]


@pytest.mark.parametrize("engine", ENGINES)
def test_ctrl_c_and_sigterm_save_everything_and_exit_130(study_file, known, engine):
    path = study_file(**SETTINGS)
    if "interrupt" not in known:
        known["interrupt"] = undisturbed(path)
    study = open_study(path, prepared=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # Ray installs a SIGTERM handler of its own
        before = _rows(study)
        sweep = RunningSweep(path, "--engine", engine)
        until(lambda: _rows(study) > before + 200, "updates to interrupt", seconds=120)  # noqa: B023
        tree = sweep.tree()
        sweep.signal(number)
        code, output = sweep.finish(seconds=60)
        assert code == 130, output
        assert "everything is saved" in output
        _, left = psutil.wait_procs(tree, timeout=30)
        assert not left
    for segment_id in study.store.segment_ids():
        folder = study.store.segment(segment_id)
        assert not (folder.root / "lease.json").exists()
        rows = list(folder.curve_rows())
        if folder.record is None and rows:  # what was trained was saved to the last update
            assert int(folder.resumable(10**9)[0].name) == rows[-1]["step"]
    swept(path, "--engine", engine)
    assert results(path) == known["interrupt"]
    assert_recorded_once(path)


def _rows(study):
    """Updates in all curves."""
    curves = (study.store.segment(i).curve for i in study.store.segment_ids())
    return sum(curve.read_bytes().count(b"\n") for curve in curves if curve.exists())
