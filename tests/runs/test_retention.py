"""Freeing checkpoints loses no result, and what is wanted again comes back to the same bits."""

import json
import os
import shutil
import time

import pytest

from windtunnel.data.artifacts import build_once
from windtunnel.engine.graph import Status
from windtunnel.engine.sweep import Sweep
from windtunnel.errors import StoreError
from windtunnel.runs.gc import find_garbage, free, needs_of_others
from windtunnel.runs.measured import gather
from windtunnel.runs.study import open_study

THREE = "[110 steps, 150 steps, 200 steps]"
RETAIN_LAST = ("store: store", "store: store\nretain: last")


def sweep(path):
    study = open_study(path, prepared=True)
    result = Sweep(study, engine="local").run()
    assert not result.failed
    return study, result


def losses(study):
    return {run.segment: run.loss for run in gather(study.store, study.plan)}


def curve(study, planned):
    keys = ("step", "tokens", "loss", "lr", "grad_norm")
    rows = study.store.segment(planned.id).curve_rows()
    return [tuple(row[key] for key in keys) for row in rows]


def weights(study, planned, step):
    folder = study.store.segment(planned.id).checkpoint(step)
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def kinds(study):
    found, _ = find_garbage(study)
    names = {each.kind for each in found}
    return {name: sorted(each.step for each in found if each.kind == name) for name in names}


def gc(study, *names):
    found, _ = find_garbage(study)
    return free(study.store, [each for each in found if each.kind in names])


def test_what_is_added_after_gc_equals_what_is_planned_at_once(study_file, tmp_path):
    at_once, _ = sweep(study_file(sizes="[16x1]", horizons=THREE))
    (trunk,) = at_once.plan.trunks
    expected, expected_curve = losses(at_once), curve(at_once, trunk)
    forks = {step: weights(at_once, trunk, step) for step in trunk.forks}
    shutil.move(tmp_path / "store", tmp_path / "first")

    study, _ = sweep(study_file(sizes="[16x1]", horizons="[110 steps, 200 steps]"))
    folder = study.store.segment(trunk.id)
    assert kinds(study)["forks"] == [99]
    freed, in_use = gc(study, "forks")
    assert (freed > 80_000, in_use) == (True, [])
    assert folder.saved_steps() == [180]
    _, result = sweep(study.file)  # nothing is missed
    assert result.counts[Status.FINISHED] == 3
    assert folder.saved_steps() == [180]

    later, _ = sweep(study_file(sizes="[16x1]", horizons=THREE))
    assert losses(later) == expected
    assert curve(later, trunk) == expected_curve
    assert folder.saved_steps() == [135, 180]  # the one in between, and no more than that
    assert weights(later, trunk, 135) == forks[135]


def test_a_freed_fork_comes_back_when_a_new_branch_needs_it(study_file):
    study, _ = sweep(study_file(sizes="[16x1]", horizons=THREE))
    (trunk,) = study.plan.trunks
    fork = weights(study, trunk, 99)
    before = losses(study)
    gc(study, "forks")
    cosine = ("experiments:", "schedule: {final_factor: 0.3}\nexperiments:")  # leaves at 99, too
    other = study_file(sizes="[16x1]", horizons="[110 steps]", name="other", replace=cosine)
    second, result = sweep(other)
    assert result.counts[Status.FINISHED] == 2
    assert second.plan.trunks[0].id == trunk.id
    assert weights(second, trunk, 99) == fork
    first = open_study(study_file(sizes="[16x1]", horizons=THREE))
    assert losses(first) == before


def test_ends_and_last_forks_go_only_by_name_and_a_new_set_makes_ends_again(study_file, tmp_path):
    study, _ = sweep(study_file(sizes="[16x1]", horizons="[110 steps, 140 steps]"))
    (trunk,) = study.plan.trunks
    before = losses(study)
    assert kinds(study) == {"forks": [99], "last forks": [126], "ends": [110, 140]}
    gc(study, "forks", "last forks", "ends")
    assert kinds(study) == {}
    _, result = sweep(study.file)
    assert result.counts[Status.FINISHED] == 3
    assert losses(study) == before
    assert study.store.segment(trunk.id).saved_steps() == []  # complete without any

    text = tmp_path / "extra.txt"
    text.write_text("a few other words, many times over. " * 400)
    extra = (
        "fork_tokens: 512}",
        f"fork_tokens: 512, extra: [{{path: {text}, name: extra}}]}}",
    )
    later, _ = sweep(study_file(sizes="[16x1]", horizons="[110 steps, 140 steps]", replace=extra))
    runs = {run.segment: run for run in gather(later.store, later.plan)}
    for branch in later.plan.branches:
        assert runs[branch.id].losses["words"] == before[branch.id]
        assert runs[branch.id].losses["extra"] > 0


@pytest.mark.medium
def test_retain_last_frees_forks_as_branches_end(study_file, tmp_path):
    every, _ = sweep(study_file(sizes="[16x1, 32x1]", horizons=THREE))
    expected = losses(every)
    shutil.move(tmp_path / "store", tmp_path / "all")
    last, _ = sweep(study_file(sizes="[16x1, 32x1]", horizons=THREE, replace=RETAIN_LAST))
    assert losses(last) == expected
    for trunk in last.plan.trunks:
        folder = last.store.segment(trunk.id)
        assert folder.saved_steps() == [180]
        assert [step for step in trunk.forks if folder.is_released(step)] == [99, 135]
        assert set(folder.measurements) == {99, 135, 180}
    longer, _ = sweep(
        study_file(
            sizes="[16x1, 32x1]",
            horizons="[110 steps, 150 steps, 200 steps, 250 steps]",
            replace=RETAIN_LAST,
        )
    )
    rows = losses(longer)
    for branch in last.plan.branches:
        assert rows[branch.id] == expected[branch.id]
    assert longer.store.segment(longer.plan.trunks[0].id).saved_steps() == [225]


def test_a_fork_that_another_study_waits_for_stays(study_file):
    study, _ = sweep(study_file(sizes="[16x1]", horizons=THREE))
    waiting = open_study(
        study_file(
            sizes="[16x1]",
            horizons="[110 steps]",
            name="waiting",
            replace=("experiments:", "schedule: {final_factor: 0.3}\nexperiments:"),
        ),
        prepared=True,
    )
    assert waiting.plan.branches[0].segment.fork_step == 99
    waiting.folder.mkdir(parents=True, exist_ok=True)
    (waiting.folder / "orders.json").write_text("{}")
    study = open_study(study_file(sizes="[16x1]", horizons=THREE))
    with pytest.raises(StoreError) as refused:
        find_garbage(study)
    assert refused.value.code == "missing-file"
    assert refused.value.values["study"] == "waiting"
    (waiting.folder / "plan.json").write_text(json.dumps(waiting.plan.model_dump(mode="json")))
    assert kinds(study)["forks"] == [135]
    assert needs_of_others(study.store, "small").ends


def test_what_is_in_use_is_left_alone(study_file):
    study, _ = sweep(study_file(sizes="[16x1]", horizons=THREE))
    (trunk,) = study.plan.trunks
    folder = study.store.segment(trunk.id)
    everything, _ = find_garbage(study)
    with folder.lease():
        found, in_use = find_garbage(study)
        assert in_use == [trunk.id]
        assert trunk.id not in {each.segment for each in found}
        _, left = free(study.store, everything)  # it has come into use since they were found
        assert left == [trunk.id]
    assert folder.saved_steps() == [99, 135, 180]


def test_what_killed_processes_left_behind_goes(study_file):
    study, _ = sweep(study_file(sizes="[16x1]", horizons="[110 steps]"))
    (trunk,) = study.plan.trunks
    folder = study.store.segment(trunk.id)
    shutil.copytree(folder.checkpoint(99), folder.resume / "000000050")
    shutil.copytree(folder.checkpoint(99), folder.checkpoints / ".000000099.0123abcd")
    old = time.time() - 3600
    os.utime(folder.checkpoints / ".000000099.0123abcd", (old, old))
    assert {"resume", "scratch"} <= set(kinds(study))
    gc(study, "resume", "scratch")
    assert not {"resume", "scratch"} & set(kinds(study))
    assert folder.saved_steps() == [99]


def test_what_killed_preparations_left_is_freed_and_what_one_fills_is_not(study_file):
    study = open_study(study_file(), prepared=True)
    left = study.store.data / ".0123456789abcdef-k3x_9q2a"
    left.mkdir()
    (left / "train.bin").write_bytes(bytes(1000))
    scratch = study.folder / ".calibration.x7_k2m"
    scratch.mkdir()
    os.utime(scratch, (0, 0))
    young = study.folder / ".plan.json.0123abcd"
    young.write_text("{")
    filled = []

    def fill(unfinished):
        found, _ = find_garbage(study)
        filled.append(unfinished)
        assert {each.path for each in found if each.kind == "unfinished"} == {left, scratch}
        assert sum(each.bytes for each in found) == 1000
        free(study.store, found)
        return {"kind": "source"}

    build_once(study.store.data / "fedcba9876543210", fill)
    assert len(filled) == 1
    assert (study.store.data / "fedcba9876543210" / "manifest.json").exists()
    assert not left.exists()
    assert not scratch.exists()
    assert young.exists()
    assert open_study(study.file).plan == study.plan
