"""Copy gains of a small study: where they stand, old measurements, and what fills them in."""

import json
import shutil

import numpy as np
import planted
import pytest
from unrun import made_run

from windtunnel.engine.graph import Status
from windtunnel.engine.sweep import Sweep
from windtunnel.findings import read_records, records_of, write_records
from windtunnel.laws.table import COPYING
from windtunnel.laws.transition import AFTER, BEFORE
from windtunnel.runs.files import write_json
from windtunnel.runs.forecast import as_table, write_forecasts
from windtunnel.runs.measured import gather
from windtunnel.runs.probe import fill_copy_gains
from windtunnel.runs.store import Store
from windtunnel.runs.study import open_study
from windtunnel.runs.table import as_row, as_run
from windtunnel.runs.transition import ladder_warnings, transition_of
from windtunnel.train.copying import CHUNKS

TWO = "[110 steps, 150 steps]"


def sweep(path):
    study = open_study(path, prepared=True)
    result = Sweep(study, engine="local").run()
    assert not result.failed
    return study, result


def measured(study):
    return {p.id: study.store.segment(p.id).measurements for p in study.plan.segments}


def forget_copy_gains(study):
    """The measurements as an earlier version wrote them."""
    for planned in study.plan.segments:
        folder = study.store.segment(planned.id)
        plain = {
            str(step): {name: {k: v for k, v in of_set.items() if k != "copy_gain"}
                        for name, of_set in sets.items()}
            for step, sets in folder.measurements.items()
        }  # fmt: skip
        write_json(folder.root / "measurements.json", plain)


def runs_of(study):
    return {run.segment: run for run in gather(study.store, study.plan)}


@pytest.fixture(scope="module")
def swept(tmp_path_factory, write_study):
    return sweep(write_study(tmp_path_factory.mktemp("copying"), sizes="[16x1]", horizons=TWO))[0]


@pytest.fixture
def study(swept, tmp_path):
    """A copy of the swept study, with its store."""
    folder = tmp_path / "copy"
    shutil.copytree(swept.file.parent, folder)
    return open_study(folder / swept.file.name, prepared=True)


def test_every_run_has_a_copy_gain_at_its_end_and_nowhere_else(swept):
    for planned in swept.plan.segments:
        of_steps = swept.store.segment(planned.id).measurements
        told = {step: "copy_gain" in sets["words"] for step, sets in of_steps.items()}
        assert told == {step: step == planned.end for step in of_steps}
        found = of_steps[planned.end]["words"]["copy_gain"]
        assert found["chunks"] == CHUNKS
        assert 0 < found["standard_error"] < 0.1
        run = runs_of(swept)[planned.id]
        assert (run.copy_gain, run.copy_gain_se) == (found["gain"], found["standard_error"])


def test_old_measurements_are_complete_and_filled_in_to_the_same_bits(study):
    before = measured(study)
    forget_copy_gains(study)
    assert {run.copy_gain for run in runs_of(study).values()} == {None}
    assert all(not set(as_row(run)) & set(COPYING) for run in runs_of(study).values())
    curves = {p.id: study.store.segment(p.id).curve.stat().st_mtime_ns for p in study.plan.segments}
    _, result = sweep(study.file)
    assert result.counts[Status.FINISHED] == 3
    assert {run.copy_gain for run in runs_of(study).values()} == {None}
    for planned in study.plan.segments:
        assert study.store.segment(planned.id).curve.stat().st_mtime_ns == curves[planned.id]
    steps = []
    filled = fill_copy_gains(study, lambda done, total: steps.append((done, total)))
    assert sorted(filled["measured"]) == sorted(before)
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert measured(study) == before
    again = fill_copy_gains(study)
    assert sorted(again.pop("known")) == sorted(before)
    assert not any(again.values())


def test_what_cannot_be_measured_is_told_apart(study):
    forget_copy_gains(study)
    freed, damaged = study.plan.branches
    store = study.store
    store.segment(freed.id).release(freed.end, why="gc")
    (store.segment(damaged.id).checkpoint(damaged.end) / "model.safetensors").write_bytes(b"no")
    (trunk,) = study.plan.trunks
    with Store(store.root).segment(trunk.id).lease():
        filled = fill_copy_gains(study)
    assert {name: ids for name, ids in filled.items() if ids} == {
        "freed": [freed.id], "damaged": [damaged.id], "in_use": [trunk.id],
    }  # fmt: skip
    assert fill_copy_gains(study)["measured"] == [trunk.id]


def test_a_context_without_a_middle_is_told(write_study, tmp_path):
    file = write_study(tmp_path, sizes="[16x1]", horizons="[110 steps]")
    file.write_text(file.read_text().replace("context: 32", "context: 16"))
    study, _ = sweep(file)
    assert not any(name in as_row(run) for run in runs_of(study).values() for name in COPYING)
    filled = fill_copy_gains(study)
    assert len(filled["impossible"]) == 2


def test_rows_and_records_keep_a_copy_gain(swept, tmp_path):
    run = made_run(copy_gain=0.031, copy_gain_se=0.002)
    assert as_run(as_row(run)) == run
    write_records(records_of(swept), tmp_path)
    found = {run.segment: run.copy_gain for run in read_records(tmp_path).runs}
    assert found == {
        run.segment: pytest.approx(run.copy_gain, rel=1e-6) for run in runs_of(swept).values()
    }


def test_a_table_of_runs_has_the_gains_that_are_known():
    runs = [made_run("a", copy_gain=0.02, copy_gain_se=0.001), made_run("b")]
    assert as_table(runs).copying[0].tolist() == [0.02, 0.001]
    assert np.isnan(as_table(runs).copying[1]).all()
    assert as_table(runs[1:]).copying is None


# A transition between a ladder and its target


def ladder(gain, *, held_out=False, sizes=(1, 2, 4)):
    return [
        made_run(f"{size}-{tokens}", params=size * 100_000, tokens=tokens * 1_000_000,
                 held_out=held_out, copy_gain=gain, copy_gain_se=0.001)
        for size in sizes for tokens in (1, 2)
    ]  # fmt: skip


def test_the_measured_target_decides_and_not_the_trend():
    small, large = ladder(0.01), ladder(0.1, held_out=True, sizes=(8,))
    found = transition_of(small, large, [(8e5, 2e6)])
    assert found.code == "transition"
    assert found.values == {
        "where": "target", "before": 6, "after": 2, "rows": 6, "highest": 0.01, "target": 0.1,
    }  # fmt: skip
    assert transition_of(small, ladder(0.012, held_out=True, sizes=(8,)), [(8e5, 1e12)]) is None
    assert transition_of(ladder(0.1), large) is None
    assert transition_of(small + large, []).values["where"] == "ladder"
    assert transition_of([], large) is None
    assert transition_of([made_run()], large) is None


def test_a_trend_is_asked_where_nothing_was_measured():
    rising = [
        made_run(f"{n}-{d}", params=n * 100_000, tokens=d * 1_000_000,
                 copy_gain=0.01 * d**0.5, copy_gain_se=0.001)
        for n in (1, 2) for d in (1, 2, 4)
    ]  # fmt: skip
    assert transition_of(rising, [], [(4e5, 8e6)]) is None
    found = transition_of(rising, [], [(4e5, 8e6), (4e5, 30e6)])
    assert found.values["where"] == "trend"
    assert found.values["crossing"] == pytest.approx(25e6)
    assert transition_of(rising, []) is None


@pytest.mark.medium
def test_a_plan_and_a_forecast_tell_of_a_planted_transition(tmp_path):
    study = planted.make_study(tmp_path)
    planted.fill(study, skip=lambda planned: planned.held_out,
                 copying=lambda p: 0.02 * (p.tokens_at_end / 1e6) ** 0.5)  # fmt: skip
    runs = gather(study.store, study.plan)
    (told,) = ladder_warnings(study.config.experiments, study.plan, runs)
    assert (told.code, told.values["where"]) == ("transition", "ladder")
    longest = max(run.tokens for run in runs if run.decayed and run.copy_gain < BEFORE)
    assert told.values["last_before"] == longest
    first = min(run.tokens for run in runs if run.decayed and run.copy_gain > AFTER)
    assert told.values["first_after"] == first
    assert told.values["experiment"] == "scaling"
    (forecast,), problems = write_forecasts(study.folder, study.store, study.plan, runs)
    assert problems == {}
    held = [point for point in forecast["points"] if "transition" in point]
    assert held
    for point in held:
        assert point["low"] == pytest.approx(point["transition"]["low"] * 0.97)
    assert (
        json.loads((study.folder / "forecasts.jsonl").read_text())["points"] == forecast["points"]
    )
