"""Rows of the dynamics lie beside the curve, once each, whatever happened on the way."""

import json

import numpy as np
import pytest

from windtunnel.engine.sweep import Sweep
from windtunnel.findings import records_of
from windtunnel.runs.dynamics import FEWEST_BINS, read_dynamics
from windtunnel.runs.measured import gather
from windtunnel.runs.study import open_study

ON = ("tracking:", "dynamics: {window: 20}\ntracking:")


def sweep(path):
    study = open_study(path, prepared=True)
    assert not Sweep(study, engine="local").run().failed
    return study


def rows_of(study, planned):
    """Rows without their times."""
    rows = list(study.store.segment(planned.id).dynamics_rows())
    assert all(row.pop("time") > 0 for row in rows)
    return rows


@pytest.fixture
def small(study_file):
    def write(*, horizons="[110 steps]", replace=ON):
        return study_file(sizes="[16x1]", horizons=horizons, replace=replace)

    return write


def test_every_segment_has_its_rows_and_the_losses_it_had_without(small, tmp_path):
    plain = sweep(small(replace=("", "")))
    losses = [run.loss for run in gather(plain.store, plain.plan)]
    assert not any(plain.store.segment(each.id).dynamics.exists() for each in plain.plan.segments)
    (tmp_path / "store").rename(tmp_path / "plain")

    study = sweep(small())
    assert [run.loss for run in gather(study.store, study.plan)] == losses
    for planned in study.plan.segments:
        begin = planned.segment.fork_step
        rows = rows_of(study, planned)
        assert [row["step"] for row in rows] == [*range(begin + 1, planned.end + 1)]
        assert [row["step"] for row in rows if row["cosine"] is None] == [begin + 1]
        ends = [row["step"] - begin for row in rows if row["max_change"]]
        assert ends == [*range(20, planned.steps + 1, 20)]
        assert set(rows[-1]) == {
            "step", "cosine", "d1", "d2", "curvature", "grad_norm", "max_change",
        }  # fmt: skip


def test_what_was_finished_without_is_not_run_again(small):
    plain = sweep(small(replace=("", "")))
    records = {p.id: plain.store.segment(p.id).record for p in plain.plan.segments}
    study = sweep(small())
    assert records == {p.id: study.store.segment(p.id).record for p in study.plan.segments}
    assert not any(rows_of(study, each) for each in study.plan.segments)
    longer = sweep(small(horizons="[110 steps, 150 steps]"))
    (trunk,) = longer.plan.trunks
    assert [row["step"] for row in rows_of(longer, trunk)] == [*range(100, trunk.end + 1)]


@pytest.mark.parametrize("torn", ['{"step":101,"cos', ""])
def test_a_killed_run_goes_on_without_a_row_twice(small, torn):
    """Both files reach beyond the checkpoint, the dynamics with a torn row, as kill -9 leaves."""
    study = sweep(small(horizons="[110 steps, 150 steps]"))
    (trunk,) = study.plan.trunks
    folder = study.store.segment(trunk.id)
    expected = rows_of(study, trunk)
    (folder.root / "record.json").unlink()
    last = folder.saved_steps()[-1]
    assert (last, trunk.end) == (135, 135)
    folder.checkpoint(last).rename(folder.root / "gone")
    folder.truncate_curve(120)
    assert [row["step"] for row in rows_of(study, trunk)] == [*range(1, 121)]
    with folder.dynamics.open("a") as file:
        file.write(torn)
    sweep(study.file)
    found = rows_of(study, trunk)
    assert [row["step"] for row in found] == [*range(1, 136)]
    first = folder.saved_steps()[0] + 1  # of the resume: the update before was not seen
    assert found[first - 1]["cosine"] is None
    assert [row for row in found if row["step"] not in {first, 100}] == [
        row for row in expected if row["step"] not in {first, 100}
    ]


def test_a_replay_writes_no_row_twice(small):
    """A checkpoint that is made again passes updates whose rows are there already."""
    study = sweep(small(horizons="[110 steps, 150 steps]"))
    (trunk,) = study.plan.trunks
    before = study.store.segment(trunk.id).dynamics.read_bytes()
    again = sweep(small(horizons="[110 steps, 130 steps, 150 steps]"))
    assert again.plan.trunks[0].id == trunk.id
    assert study.store.segment(trunk.id).dynamics.read_bytes() == before
    assert all(json.loads(line) for line in before.splitlines())


def test_a_study_without_dynamics_keeps_the_rows_of_one_with(small):
    """It needs an earlier and a later fork of the same trunk, which is trained again from 0."""
    study = sweep(small(horizons="[150 steps]"))
    (trunk,) = study.plan.trunks
    before = study.store.segment(trunk.id).dynamics.read_bytes()
    assert before
    other = sweep(small(horizons="[110 steps, 200 steps]", replace=("", "")))
    (longer,) = other.plan.trunks
    assert (longer.id, longer.end) == (trunk.id, 180)
    assert study.store.segment(trunk.id).dynamics.read_bytes() == before


def test_records_hold_means_of_the_rows(small):
    """From the store, and never of trunk and branch together."""
    study = sweep(small())
    (found,) = [each for each in records_of(study).dynamics if each.kind == "branch"]
    (branch,) = study.plan.branches
    assert (found.after[0], found.step[-1]) == (branch.segment.fork_step, branch.end)
    assert found.after.size == branch.steps  # few updates: a bin each

    (trunk, coarse) = read_dynamics(study.store, study.plan.segments, most_bytes=1)
    assert trunk.after.size == FEWEST_BINS
    rows = rows_of(study, branch)
    losses = [row["loss"] for row in study.store.segment(branch.id).curve_rows()]
    steps = np.array([row["step"] for row in rows])
    for place, (after, step) in enumerate(zip(coarse.after, coarse.step, strict=True)):
        inside = np.flatnonzero((steps > after) & (steps <= step))
        assert inside.size in {1, 2}  # 11 updates in 8 bins
        d1 = [rows[i]["d1"] for i in inside if rows[i]["d1"] is not None]
        if d1:  # the first update has none
            assert coarse.series["d1"][place] == pytest.approx(np.mean(d1))
            assert coarse.series["d1_size"][place] == pytest.approx(np.mean(np.abs(d1)))
        assert coarse.series["loss"][place] == pytest.approx(np.mean([losses[i] for i in inside]))
    decayed = 1e-2 * 0.1 ** (10 / 11)
    assert found.series["lr"][-1] == pytest.approx(decayed)
    assert coarse.changes == {}  # no window of 20 ends within them
    ended = [row for row in rows_of(study, study.plan.trunks[0]) if row["max_change"]]
    for name, changes in trunk.changes.items():
        expected = [row["max_change"][name] for row in ended]
        assert changes[np.isfinite(changes)] == pytest.approx(expected)
