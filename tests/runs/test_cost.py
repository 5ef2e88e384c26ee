"""What a plan costs, what is left of it, and the budget that a sweep keeps within."""

import shutil

import pytest

from windtunnel.config.units import DiskSize
from windtunnel.engine.graph import Status
from windtunnel.engine.simulate import estimate_sweep
from windtunnel.engine.sweep import Sweep
from windtunnel.errors import ConfigError
from windtunnel.runs.budget.budget import Account, disk_use
from windtunnel.runs.budget.calibration import calibrate, read_calibration
from windtunnel.runs.budget.cost import cost_of, remaining_work, slots_here
from windtunnel.runs.budget.throughput import shape_of, throughput_of
from windtunnel.runs.budget.utilisation import compared, utilisation
from windtunnel.runs.files import write_json
from windtunnel.runs.gc import find_garbage, free
from windtunnel.runs.measured import gather
from windtunnel.runs.study import open_study

THREE = "[110 steps, 150 steps, 200 steps]"


def budget(limits, *, retain="all"):
    return ("store: store", f"store: store\nretain: {retain}\nbudget: {{{limits}}}")


def sweep(path):
    study = open_study(path, prepared=True)
    running = Sweep(study, engine="local")
    return study, running.run()


def flops(study, planned, updates):
    model = planned.segment.model
    return updates * planned.segment.recipe.batch_tokens * model.flops_exact_per_token


def test_what_is_left_is_counted_from_the_last_checkpoint_before_what_is_missing(study_file):
    study, _ = sweep(study_file(sizes="[16x1]", horizons=THREE))
    (trunk,) = study.plan.trunks
    assert remaining_work(study).updates == {}
    longer = open_study(study_file(sizes="[16x1]", horizons="[110 steps, 150 steps, 260 steps]"))
    branch = max(longer.plan.branches, key=lambda each: each.end)
    remaining = remaining_work(longer)
    assert remaining.updates == {trunk.id: 234 - 180, branch.id: 26}
    assert remaining.flops(longer) == flops(study, trunk, 80)
    assert set(remaining.ended.values()) == {"finished"}


def test_a_replay_of_freed_forks_is_left_to_do(study_file):
    study, _ = sweep(study_file(sizes="[16x1]", horizons=THREE))
    (trunk,) = study.plan.trunks
    found, _ = find_garbage(study)
    free(study.store, [each for each in found if each.kind == "forks"])
    assert remaining_work(study).updates == {}
    branch = min(study.plan.branches, key=lambda each: each.end)
    shutil.rmtree(study.store.segment(branch.id).root)
    assert remaining_work(study).updates == {trunk.id: 99, branch.id: 11}
    _, result = sweep(study.file)
    assert result.counts[Status.FINISHED] == 4
    assert study.store.segment(trunk.id).saved_steps() == [99, 180]


@pytest.mark.parametrize("retain", ["all", "last"])
@pytest.mark.medium
def test_the_need_on_disk_is_what_a_sweep_takes(study_file, retain):
    path = study_file(
        sizes="[16x1, 32x2]", horizons=THREE, seeds="2", replace=budget("", retain=retain)
    )
    study = open_study(path)
    expected = estimate_sweep(study, throughput_of(study), remaining_work(study), slots=1)
    study, _ = sweep(path)
    assert disk_use(study) == pytest.approx(expected.disk_end, rel=0.1)
    assert expected.disk_peak > expected.disk_end
    if retain == "last":
        assert expected.disk_end < 0.6 * _kept_whole(study)


def _kept_whole(study):
    every = study.config.replace(retain="all")
    study = type(study)(**(vars(study) | {"config": every}))
    return estimate_sweep(study, throughput_of(study), remaining_work(study), slots=1).disk_end


@pytest.mark.parametrize(
    ("limits", "need"),
    [
        ("flops: 1e6", r"budget.flops is 1e\+06, and [0-9.e+]+ FLOPs are needed; plan fewer"),
        ("device_hours: 1e-9", r"budget.device_hours is 1e-09.*FLOP/s \(assumed\)"),
        ("disk: 10 kB", r"budget.disk is 1e\+04, and .* bytes at the peak .* `retain: last`"),
    ],
)
def test_a_sweep_above_its_budget_is_refused_before_anything_runs(study_file, limits, need):
    study = open_study(study_file(replace=budget(limits)), prepared=True)
    with pytest.raises(ConfigError, match=need):
        Sweep(study, engine="local").run()
    assert study.store.begun() == set()


def test_a_budget_that_is_just_enough_runs_all(study_file):
    path = study_file(sizes="[16x1]")
    need = cost_of(open_study(path)).flops
    study, result = sweep(study_file(sizes="[16x1]", replace=budget(f"flops: {need}")))
    assert result.stopped is None
    assert result.counts[Status.FINISHED] == 3
    assert Account(study).total().flops == pytest.approx(need)
    _, again = sweep(study.file)
    assert again.counts == result.counts


def test_retraining_is_a_run_for_each_point_and_none_for_a_stage_on_the_way(study_file):
    branch = """  - kind: branch
    name: turn
    sizes: [16x1]
    forks: [100 steps]
    seeds: 1
    variants:
      plain: {decay: 20 steps}
      on: [{decay: 20 steps}, {warmup: 5 steps, decay: 30 steps}]
      longer: [{stable: 40 steps}, {decay: 10 steps}]
resources:"""
    study = open_study(study_file(sizes="[16x1]", replace=("resources:", branch)))
    cost = cost_of(study)
    trunk = study.plan.trunks[0]
    assert cost.branches == 2 + 2 + 2
    # Two horizons; plain, which `on` leaves again, 120; on and longer, 150 each.
    assert cost.flops_retraining == flops(study, trunk, 110 + 140 + 120 + 150 + 150)


@pytest.mark.medium
def test_what_is_spent_stops_new_segments_and_a_larger_budget_goes_on(study_file):
    """The speed was thought a thousand times higher than it is, so that the sweep was let begin."""
    path = study_file(sizes="[16x1, 32x1]", replace=budget("device_hours: 1e-5"))  # 36 ms
    study = open_study(path, prepared=True)
    calibration = calibrate(study, slots=slots_here(study.config))
    shapes = [
        each.replace(
            timing=each.timing.replace(
                **{n: getattr(each.timing, n) / 1e3 for n in ("update", "evaluation", "prepare")},
                fork=0.0,
                end=0.0,
            )
        )
        for each in calibration.shapes
    ]
    written = calibration.replace(shapes=tuple(shapes)).model_dump(mode="json")
    write_json(study.folder / "calibration.json", written)
    study, result = sweep(path)
    assert result.stopped is not None
    assert result.stopped.startswith("budget.device_hours is spent: ")
    assert not result.interrupted
    assert 0 < result.counts[Status.FINISHED] < 6  # what ran was brought to its end
    assert result.counts[Status.WAITING] == 6 - result.counts[Status.FINISHED]
    with pytest.raises(ConfigError, match=r"spent, .* left\); plan fewer"):
        sweep(path)
    _, result = sweep(study_file(sizes="[16x1, 32x1]", replace=budget("device_hours: 1")))
    assert result.counts[Status.FINISHED] == 6


def test_what_another_study_has_left_is_not_spent_by_this_one(study_file):
    study, _ = sweep(study_file(sizes="[16x1]", horizons=THREE))
    need = cost_of(study).flops
    limit = budget(f"flops: {0.5 * need}")
    longer = "[110 steps, 150 steps, 200 steps, 220 steps]"
    other, result = sweep(study_file(sizes="[16x1]", horizons=longer, name="other", replace=limit))
    assert result.counts[Status.FINISHED] == 5
    (trunk,) = other.plan.trunks
    assert Account(other).total().flops == pytest.approx(flops(other, trunk, 18 + 22))


@pytest.mark.medium
def test_a_calibration_is_of_every_shape_and_holds_while_nothing_changes(study_file):
    study = open_study(study_file(sizes="[16x1, 32x1]"))  # its data is not prepared yet
    found = calibrate(study, slots=2)
    assert {each.model.size for each in found.shapes} == {"16x1", "32x1"}
    for each in found.shapes:
        timing = each.timing
        assert min(timing.update, timing.evaluation, timing.fork, timing.end) > 0
        assert timing.evaluation < timing.update / each.batch_tokens  # no backward pass
        assert timing.updates >= 3
    assert read_calibration(study, slots=2) == found
    assert read_calibration(study, slots=1) is None
    assert [path.name for path in study.folder.iterdir()] == ["calibration.json"]

    throughput = throughput_of(study, found.by_shape())
    trunk = study.plan.trunks[0]
    update = throughput.of(shape_of(trunk)).update
    assert throughput.source == "calibrated"
    assert throughput.seconds(trunk) > trunk.steps * update
    assert throughput.seconds(trunk, 10) - throughput.seconds(trunk, 0) > 10 * update * 0.999


@pytest.mark.medium
def test_a_sweep_logs_how_busy_it_kept_its_slots(study_file):
    study = open_study(study_file(sizes="[16x1, 32x1]"), prepared=True)
    found = calibrate(study, slots=1)
    Sweep(study, engine="local").run()
    used = utilisation(study.folder)
    assert (used.sweeps, used.segments) == (1, 6)
    assert 0 < used.reached < used.bound <= 1.0 + 1e-9
    seconds = sum(
        record["seconds"] + record["evaluation_seconds"] + record["checkpoint_seconds"]
        for record in (study.store.segment(p.id).record for p in study.plan.segments)
    )
    assert used.reached * used.seconds == pytest.approx(seconds)
    assert used.best == pytest.approx(seconds)  # on one slot
    rows = compared(study, throughput_of(study, found.by_shape()))
    assert [(row.kind, row.segments) for row in rows] == [
        ("trunk", 1), ("trunk", 1), ("branch", 2), ("branch", 2)
    ]  # fmt: skip
    assert sum(row.actual for row in rows) == pytest.approx(seconds)
    Sweep(study, engine="local").run()
    assert utilisation(study.folder) == used  # it ran nothing


def test_gather_has_the_losses_of_segments_whose_checkpoints_went(study_file):
    study, _ = sweep(study_file(sizes="[16x1]"))
    rows = gather(study.store, study.plan)
    found, _ = find_garbage(study)
    free(study.store, found)
    assert gather(study.store, study.plan) == rows
    assert study.store.segment(study.plan.trunks[0].id).saved_steps() == []


@pytest.mark.parametrize(
    ("written", "expected"),
    [("20 GB", 20 * 10**9), ("1.5 MiB", 3 * 2**19), (2e9, 2 * 10**9), ("500", 500)],
)
def test_sizes_on_a_disk(written, expected):
    assert DiskSize.parse(written).bytes == expected
    assert DiskSize.parse(str(DiskSize.parse(written))) == DiskSize.parse(written)


@pytest.mark.parametrize("written", ["20 gigs", "-1", 0, True, "MB", "1 GB extra"])
def test_no_size_on_a_disk(written):
    with pytest.raises(ValueError, match="for example 20 GB"):
        DiskSize.parse(written)
