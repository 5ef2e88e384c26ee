"""Two drivers on one store: side by side where they can be, one after the other where they must.

The first is stopped in the midst of its trunk (as a process, not by Ctrl-C), so that it is at work
all the time that the second has.
"""

import json
import signal
import time

import pytest
from sweeps import RunningSweep, assert_recorded_once, results, undisturbed, until

from windtunnel.engine.graph import BUSY_SECONDS
from windtunnel.runs.study import open_study


@pytest.fixture
def two(study_file):
    """Write two study files over one store; keyword arguments for each."""

    def write(first, second):
        paths = []
        for name, settings in (("first", first), ("second", second)):
            written = study_file(name=name, **settings)
            paths.append(written.rename(written.with_name(f"{name}.yaml")))
        return paths

    return write


def stopped_at_work(path):
    """A sweep that holds its first trunk, and stands still; the trunk's id."""
    trunk = open_study(path).plan.trunks[0]
    folder = open_study(path).store.segment(trunk.id)
    sweep = RunningSweep(path, "--engine", "local")
    until(folder.curve.exists, "the first driver to train its trunk", seconds=90)
    sweep.signal(signal.SIGSTOP)
    assert json.loads((folder.root / "lease.json").read_text())["pid"] == sweep.pid
    assert folder.record is None
    return sweep, trunk.id


def go_on(sweep):
    sweep.signal(signal.SIGCONT)
    code, output = sweep.finish()
    assert code == 0, output


def held(store):
    return {lease.parent.name for lease in store.segments.glob("*/lease.json")}


@pytest.mark.slow
def test_different_segments_do_not_wait_for_each_other(two):
    horizons = "[600 steps, 800 steps]"
    paths = two(
        {"sizes": "[32x2]", "horizons": horizons}, {"sizes": "[16x1]", "horizons": horizons}
    )
    expected = [undisturbed(path) for path in paths]
    first, _ = stopped_at_work(paths[0])
    code, output = RunningSweep(paths[1], "--engine", "local").finish()
    assert code == 0, output
    go_on(first)
    for path, wanted in zip(paths, expected, strict=True):
        assert results(path) == wanted
        assert_recorded_once(path)


@pytest.mark.slow
def test_a_trunk_that_two_studies_need_is_trained_once(two):
    """The second waits for it, extends it, and takes its own branches from it."""
    paths = two(
        {"sizes": "[32x2]", "horizons": "[600 steps, 800 steps]"},
        {"sizes": "[32x2]", "horizons": "[800 steps, 1000 steps]"},
    )
    expected = [undisturbed(path) for path in paths]
    first, trunk = stopped_at_work(paths[0])
    study = open_study(paths[1])
    second = RunningSweep(paths[1], "--engine", "local")
    until((study.folder / "lease.json").exists, "the second driver to begin", seconds=90)
    time.sleep(2 * BUSY_SECONDS)
    assert not second.over, second.output
    assert held(study.store) == {trunk}
    go_on(first)
    code, output = second.finish()
    assert code == 0, output
    for path, wanted in zip(paths, expected, strict=True):
        found = results(path)
        for planned in open_study(path).plan.branches:
            assert found[planned.id] == wanted[planned.id]
    end = study.plan.trunks[0].end
    assert study.store.segment(trunk).record["reached"] == end
    assert results(paths[1])[trunk][2] == expected[1][trunk][2]
    assert len(expected[1][trunk][2]) == end
    assert held(study.store) == set()


@pytest.mark.slow
def test_a_study_that_is_running_refuses_a_second_sweep(study_file):
    path = study_file(sizes="[32x2]", horizons="[600 steps, 800 steps]")
    open_study(path, prepared=True)
    first, _ = stopped_at_work(path)
    owner = json.loads((open_study(path).folder / "lease.json").read_text())
    assert owner["pid"] == first.pid
    again = path.with_name("again.yaml")
    again.write_text(path.read_text())
    code, output = RunningSweep(again, "--engine", "local").finish()
    assert code == 2, output
    assert f"is in use by process {owner['pid']} on {owner['host']}" in output
    assert "Traceback" not in output
    go_on(first)
