"""Two drivers on one store: side by side where they can be, one after the other where they must."""

import json
import shutil

import pytest
from sweeps import RunningSweep, assert_recorded_once, results, undisturbed, until

from windtunnel.trials.study import open_study

LONG = "[2500 steps, 5000 steps]"


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


def owners(store):
    """Process -> segments whose lease it holds."""
    found = {}
    for lease in store.segments.glob("*/lease.json"):
        try:
            owner = json.loads(lease.read_text())["pid"]
        except FileNotFoundError:
            continue
        found.setdefault(owner, []).append(lease.parent.name)
    return found


def test_different_segments_are_trained_at_once(two):
    paths = two({"sizes": "[16x2]", "horizons": LONG}, {"sizes": "[32x1]", "horizons": LONG})
    expected = [undisturbed(path) for path in paths]
    store = open_study(paths[0]).store
    sweeps = [RunningSweep(path, "--engine", "local") for path in paths]
    until(lambda: len(owners(store)) == 2, "two processes to train side by side", seconds=90)
    for path, sweep, wanted in zip(paths, sweeps, expected, strict=True):
        code, output = sweep.finish()
        assert code == 0, output
        assert results(path) == wanted
        assert_recorded_once(path)


def test_the_same_trunk_is_trained_once_for_both(two):
    """The second study waits for the trunk, extends it, and takes its own branches from it."""
    paths = two(
        {"sizes": "[16x2]", "horizons": "[2500 steps, 5000 steps]"},
        {"sizes": "[16x2]", "horizons": "[5000 steps, 6000 steps]"},
    )
    expected = []
    for path in paths:
        expected.append(undisturbed(path))
    first, second = (open_study(path) for path in paths)
    (trunk,) = first.plan.trunks
    assert [p.id for p in second.plan.trunks] == [trunk.id]

    lease = first.store.segment(trunk.id).root / "lease.json"
    one = RunningSweep(paths[0], "--engine", "local")
    until(lease.exists, "the first driver to begin the trunk", seconds=90)
    other = RunningSweep(paths[1], "--engine", "local")
    until((second.folder / "lease.json").exists, "the second driver to begin", seconds=90)
    until(lambda: owners(first.store).get(one.pid) == [trunk.id], "the first at work", seconds=30)
    for sweep in (one, other):
        code, output = sweep.finish()
        assert code == 0, output
    # Where both ask for a trunk, the record tells of the longer one.
    for path, wanted in zip(paths, expected, strict=True):
        found = results(path)
        for planned in open_study(path).plan.branches:
            assert found[planned.id] == wanted[planned.id]
    reached = {p.id: p.end for p in second.plan.segments}
    assert first.store.segment(trunk.id).record["reached"] == reached[trunk.id]
    rows = [row["step"] for row in first.store.segment(trunk.id).curve_rows()]
    assert rows == list(range(1, reached[trunk.id] + 1))
    assert not list(first.store.root.glob("**/lease.json"))
    shutil.rmtree(first.store.root)


@pytest.mark.ray
@pytest.mark.slow
def test_a_study_that_is_running_refuses_a_second_sweep(study_file):
    path = study_file(sizes="[16x2]", horizons=LONG)
    study = open_study(path, prepared=True)
    first = RunningSweep(path)
    lease = study.folder / "lease.json"
    until(lease.exists, "the first sweep's lease", seconds=60)
    owner = json.loads(lease.read_text())
    assert owner["pid"] == first.pid
    second = RunningSweep(path.rename(path.with_name("again.yaml")))
    code, output = second.finish(seconds=60)
    assert code == 2, output
    assert f"is in use by process {owner['pid']} on {owner['host']}" in output
    assert "Traceback" not in output
    code, output = first.finish()
    assert code == 0, output
