"""One suite on both engines: what a sweep does, whoever runs it."""

import json
import shutil

import pytest

from windtunnel.engine.graph import Status
from windtunnel.engine.sweep import Sweep
from windtunnel.runs.forecast import read_forecasts
from windtunnel.runs.measured import gather
from windtunnel.runs.study import open_study

ONE_SLOT = ("concurrency: 2", "concurrency: 1")
"""Where one worker does all there is to do: a second takes Ray seconds to start."""

LOCAL = {"engine": "local"}
"""For what precedes the sweep that is tested: both engines give the same bits, by a test below."""

ENGINES = ["local", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.slow])]


@pytest.fixture(params=ENGINES)
def engine(request):
    """The engine's name and, for Ray, the address of a cluster that is already there."""
    if request.param == "local":
        return {"engine": "local"}
    return {"engine": "ray", "address": request.getfixturevalue("cluster")}


def sweep(path, engine):
    study = open_study(path, prepared=True)
    return study, Sweep(study, **engine).run()


def losses(study):
    return {run.segment: run.loss for run in gather(study.store, study.plan)}


def curve(study, planned):
    keys = ("step", "tokens", "loss", "lr", "grad_norm")
    rows = study.store.segment(planned.id).curve_rows()
    return [tuple(row[key] for key in keys) for row in rows]


def test_a_sweep_from_text_to_rows(study_file, engine):
    study, result = sweep(study_file(seeds="2"), engine)
    assert result.counts[Status.FINISHED] == 12
    assert not result.failed
    assert not result.interrupted
    runs = gather(study.store, study.plan)
    assert len(runs) == 12
    for planned, run in zip(study.plan.segments, runs, strict=True):
        steps = [step for step, *_ in curve(study, planned)]
        assert steps == list(range(planned.segment.fork_step + 1, planned.end + 1))
        assert run.tokens == planned.end * 128
        assert 1.0 < run.loss < 5.0
        assert run.bits_per_byte == pytest.approx(run.loss / 0.6931471805599453)
    assert [run.decayed for run in runs] == [run.kind == "branch" for run in runs]

    _, again = sweep(study.file, engine)
    assert again.counts == result.counts


def test_what_is_added_later_equals_what_is_planned_at_once(study_file, tmp_path, engine):
    """A longer horizon extends the trunk, one in between replays it: both exactly."""
    at_once, _ = sweep(
        study_file(sizes="[16x1]", horizons="[110 steps, 150 steps, 200 steps]"), LOCAL
    )
    expected = losses(at_once)
    expected_curve = curve(at_once, at_once.plan.trunks[0])
    shutil.move(tmp_path / "store", tmp_path / "first")

    sweep(study_file(sizes="[16x1]", horizons="[110 steps]"), LOCAL)
    sweep(study_file(sizes="[16x1]", horizons="[110 steps, 200 steps]"), engine)
    later, result = sweep(
        study_file(sizes="[16x1]", horizons="[110 steps, 150 steps, 200 steps]"), engine
    )
    assert not result.failed
    assert losses(later) == expected
    assert curve(later, later.plan.trunks[0]) == expected_curve


@pytest.mark.medium
def test_the_forecast_is_written_before_the_held_out_size_starts(study_file, engine):
    study, result = sweep(
        study_file(
            sizes="[16x1, 16x2, 32x1, 32x2]",
            horizons="[110 steps, 140 steps, 180 steps]",
            hold_out="largest",
        ),
        engine,
    )
    assert result.forecast_problems == {}
    (forecast,) = read_forecasts(study.folder)
    assert not forecast["held_out_trained_before"]
    assert forecast["rows"] == 9
    held_out = [p for p in study.plan.segments if p.held_out]
    for planned in held_out:
        folder = study.store.segment(planned.id)
        assert min(row["time"] for row in folder.curve_rows()) > forecast["written"]
    sweep(study.file, engine)
    assert len(read_forecasts(study.folder)) == 1  # the same inputs, the same forecast


def test_a_diverged_trunk_is_a_row_and_blocks_only_its_branches(study_file, engine):
    grid = (
        "kind: grid\n    axes: {recipe.lr: [1e-2, 1e4], size: [16x1]}\n"
        "    horizons: [110 steps, 140 steps]\n  - kind: scaling"
    )
    path = study_file(sizes="[32x1]", replace=("kind: scaling", grid))
    path.write_text(path.read_text().replace("warmup_steps: 10", "warmup_steps: 10\n  clip: 1e9"))
    study, result = sweep(path, engine)
    diverged = [run for run in gather(study.store, study.plan) if run.diverged]
    assert len(diverged) == 1
    assert diverged[0].lr == 1e4
    assert diverged[0].loss is None
    assert result.counts[Status.BLOCKED] == 2
    assert result.counts[Status.FINISHED] == len(study.plan.segments) - 3
    _, again = sweep(path, engine)  # diverged is never tried again
    assert again.counts == result.counts


def test_a_new_validation_set_retrains_nothing(study_file, tmp_path, engine):
    path = study_file(sizes="[16x1]", replace=ONE_SLOT)
    study, _ = sweep(path, LOCAL)
    records = {p.id: study.store.segment(p.id).record for p in study.plan.segments}
    (tmp_path / "other.txt").write_text("the quick brown fox jumps over the lazy dog. " * 200)
    path.write_text(
        path.read_text().replace(
            "fork_tokens: 512}", "fork_tokens: 512, extra: [{path: other.txt}]}"
        )
    )
    study, result = sweep(path, engine)
    assert not result.failed
    assert {p.id: study.store.segment(p.id).record for p in study.plan.segments} == records
    for run in gather(study.store, study.plan):
        assert run.losses["other"] > 0
        assert run.loss == pytest.approx((run.losses["other"] + run.losses["words"]) / 2)


def test_a_damaged_fork_checkpoint_is_replayed(study_file, tmp_path, engine):
    path = study_file(sizes="[16x1]", replace=ONE_SLOT)
    study, _ = sweep(path, LOCAL)
    expected = losses(study)
    branch = study.plan.branches[0]
    shutil.rmtree(study.store.segment(branch.id).root)
    fork = study.store.segment(study.plan.trunks[0].id).checkpoint(branch.segment.fork_step)
    weights = fork / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"oops")
    _, result = sweep(path, engine)
    assert result.counts[Status.FINISHED] == len(study.plan.segments)
    assert not result.errors
    assert losses(study) == expected
    note = study.store.segment(branch.id).last_note()
    assert note.endswith("does not match its checksum; removed, its parent makes it again")


def test_a_failed_segment_is_recorded_and_tried_again(study_file, engine):
    path = study_file(sizes="[16x1]", replace=ONE_SLOT)
    study = open_study(path, prepared=True)
    trunk = study.plan.trunks[0]
    curve_file = study.store.segment(trunk.id).curve
    curve_file.mkdir(parents=True)  # where the curve should be: writing it fails
    _, result = sweep(path, engine)
    assert result.counts[Status.FAILED] == 1
    assert result.counts[Status.BLOCKED] == 2
    record = study.store.segment(trunk.id).record
    assert record["outcome"] == "failed"
    assert "Is a directory" in record["error"]
    curve_file.rmdir()
    _, result = sweep(path, engine)
    assert result.counts[Status.FINISHED] == 3


@pytest.mark.ray
@pytest.mark.slow
def test_local_and_ray_give_the_same_bits(study_file, tmp_path, cluster):
    path = study_file(sizes="[16x1, 32x1]")
    local, _ = sweep(path, {"engine": "local"})
    expected = losses(local)
    shutil.move(tmp_path / "store", tmp_path / "first")
    through_ray, _ = sweep(path, {"engine": "ray", "address": cluster})
    assert losses(through_ray) == expected


def test_records_hold_plain_json(study_file):
    study, _ = sweep(study_file(sizes="[16x1]"), {"engine": "local"})
    for planned in study.plan.segments:
        text = (study.store.segment(planned.id).root / "record.json").read_text()
        assert json.loads(text)["execution"]["device"] == "cpu"
