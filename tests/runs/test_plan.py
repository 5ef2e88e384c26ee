import json
import os
import subprocess
import sys

import pytest

from windtunnel.config import Branch, load_study
from windtunnel.errors import ConfigError
from windtunnel.runs.plan import make_plan
from windtunnel.runs.points import StudyContext
from windtunnel.runs.study import open_study
from windtunnel.tracking.mirror import run_params


def plan_of(path):
    return make_plan(StudyContext(config=load_study(path), vocab_size=256, stream="s"))


def test_horizons_include_the_decay_and_branches_share_their_trunk(study_file):
    plan = plan_of(study_file(sizes="[16x1]", horizons="[200 steps, 400 steps]"))
    assert len(plan.trunks) == 1
    assert [(b.segment.fork_step, b.end) for b in plan.branches] == [(360, 400), (180, 200)]
    assert plan.trunks[0].forks == (180, 360)
    assert plan.trunks[0].end == 360


def test_cost_of_a_size_is_the_arithmetic_of_the_method(study_file):
    """Methodology 3.1: 10..60N with 10% decays cost 71.5N on one trunk, 175N apart."""
    path = study_file(sizes="[32x2]", horizons="[10N, 15N, 20N, 30N, 40N, 60N]")
    plan = plan_of(path)
    params = plan.trunks[0].segment.model.params
    tokens = sum(planned.tokens for planned in plan.segments)
    apart = sum(b.end * b.segment.recipe.batch_tokens for b in plan.branches)
    assert tokens / params == pytest.approx(71.5, rel=0.01)
    assert apart / params == pytest.approx(175, rel=0.01)


def test_only_the_largest_size_is_held_out(study_file):
    plan = plan_of(study_file(sizes="[16x1, 32x1, 32x2]", hold_out="largest"))
    assert {p.segment.model.size for p in plan.segments if p.held_out} == {"32x2"}


def test_ids_do_not_depend_on_names_length_or_machine(study_file):
    short = plan_of(study_file(sizes="[16x1]", horizons="[200 steps]", name="one"))
    long = plan_of(study_file(sizes="[16x1]", horizons="[200 steps, 900 steps]", name="two"))
    assert short.trunks[0].id == long.trunks[0].id
    assert short.branches[0].id in {branch.id for branch in long.branches}


def test_cosine_leaves_at_the_end_of_warmup(study_file):
    path = study_file(
        sizes="[16x1]",
        horizons="[200 steps]",
        replace=("experiments:", "schedule: {shape: cosine}\nexperiments:"),
    )
    (branch,) = plan_of(path).branches
    assert (branch.segment.fork_step, branch.end) == (10, 200)


def test_a_decay_begins_at_the_falling_rate_of_its_trunk(study_file):
    held = "schedule: {shape: linear, final_factor: 0.1, hold: {power: -0.5, from: 100 steps}}"
    falling = plan_of(
        study_file(
            sizes="[16x1]",
            horizons="[200 steps, 800 steps]",
            replace=("experiments:", f"{held}\nexperiments:"),
        )
    )
    constant = plan_of(study_file(sizes="[16x1]", horizons="[200 steps, 800 steps]"))
    trunk = falling.trunks[0].segment
    assert trunk.id != constant.trunks[0].id
    assert trunk.schedule(99) == 1.0
    assert trunk.schedule(719) == pytest.approx(7.2**-0.5)
    for branch in falling.branches:
        begins = trunk.schedule(branch.segment.fork_step)
        assert branch.segment.schedule(branch.segment.fork_step) == begins < 1
        assert branch.segment.schedule.decay.final_factor == pytest.approx(0.1 * begins)
    told = run_params(falling.branches[0])
    assert (told["hold.power"], told["hold.tokens"]) == ("-0.5", str(trunk.hold.tokens))
    zero = plan_of(
        study_file(
            sizes="[16x1]",
            horizons="[200 steps, 800 steps]",
            replace=("experiments:", "schedule: {hold: {power: 0, from: 10N}}\nexperiments:"),
        )
    )
    assert {each.id for each in zero.segments} == {each.id for each in constant.segments}


def test_the_stable_phase_is_no_axis(study_file):
    grid = "kind: grid\n    axes: {schedule.hold: [constant]}\n    horizons: [200 steps]"
    path = study_file(sizes="[16x1]", replace=("kind: scaling", f"{grid}\n  - kind: scaling"))
    with pytest.raises(ConfigError) as caught:
        plan_of(path)
    assert caught.value.code == "unknown-axis"


@pytest.mark.parametrize(
    ("schedule", "fork"),
    [
        ("{shape: linear, decay_fraction: 1}", 10),
        ("{shape: cosine, decay_fraction: 0.25}", 150),
        ("{shape: linear}", 180),
    ],
)
def test_shape_and_share_of_the_decay_are_apart(study_file, schedule, fork):
    replace = ("experiments:", f"schedule: {schedule}\nexperiments:")
    path = study_file(sizes="[16x1]", horizons="[200 steps]", replace=replace)
    (branch,) = plan_of(path).branches
    assert (branch.segment.fork_step, branch.end) == (fork, 200)


def test_a_cosine_on_an_axis_spans_the_run_beside_short_decays(study_file):
    grid = (
        "kind: grid\n    axes: {schedule.shape: [linear, cosine], size: [16x1]}\n"
        "    horizons: [200 steps]\n  - kind: scaling"
    )
    plan = plan_of(study_file(sizes="[32x1]", replace=("kind: scaling", grid)))
    forks = {b.segment.fork_step for b in plan.branches if b.labels[0].experiment == "grid"}
    assert forks == {10, 180}


def test_a_grid_crosses_its_axes_and_shares_trunks_between_schedules(study_file):
    grid = (
        "kind: grid\n    axes: {recipe.lr: [1e-2, 2e-2], schedule.decay_fraction: [0.1, 0.2],"
        " size: [16x1]}\n    horizons: [200 steps]\n  - kind: scaling"
    )
    plan = plan_of(study_file(sizes="[32x1]", replace=("kind: scaling", grid)))
    of_grid = [p for p in plan.segments if p.labels[0].experiment == "grid"]
    branches = [p for p in of_grid if isinstance(p.segment, Branch)]
    assert len(branches) == 4
    assert len(of_grid) - len(branches) == 2


def test_a_segment_that_two_experiments_want_is_planned_once(study_file):
    twice = "kind: grid\n    axes: {size: [16x1]}\n    horizons: [110 steps]\n  - kind: scaling"
    plan = plan_of(study_file(sizes="[16x1]", replace=("kind: scaling", twice)))
    assert len({p.id for p in plan.segments}) == len(plan.segments)
    labels = {len(branch.labels) for branch in plan.branches}
    assert labels == {1, 2}


@pytest.mark.parametrize(
    ("horizon", "values"),
    [
        ("60 steps", {"updates": 60, "shortest": 100}),
        ("10 steps", {"updates": 10, "warmup": 10, "decay": 1, "shortest": 11}),
    ],
)
def test_horizons_too_short_are_refused(study_file, horizon, values):
    with pytest.raises(ConfigError) as refused:
        plan_of(study_file(horizons=f"[{horizon}]"))
    assert refused.value.code == "too-few-updates"
    assert values.items() <= refused.value.values.items()
    assert refused.value.values["horizon"] == horizon


def test_a_short_horizon_warns(study_file):
    plan = plan_of(study_file(sizes="[16x1]", horizons="[299 steps, 300 steps]"))
    (warning,) = plan.warnings
    assert warning.code == "short-horizons"
    assert warning.values == {"horizons": 1, "shortest": 299, "wanted": 300}


@pytest.mark.medium
def test_a_plan_of_ten_thousand_segments_is_made_in_seconds(study_file):
    """In a fresh process, everything included: 2.5 to 4.4 CPU seconds on the machines seen.

    The limit is far above, to notice what grows with the square and no slow machine.
    """
    axes = {
        "recipe.lr": [1e-3 * step for step in range(1, 11)],
        "recipe.init_std": [0.05, 0.07, 0.09, 0.11, 0.13],
        "recipe.weight_decay": [0.0, 0.1],
        "recipe.scale_emb": [1, 2, 4, 8, 12],
        "size": ["16x1", "16x2", "32x1", "32x2"],
    }
    grid = f"kind: grid\n    axes: {json.dumps(axes)}\n    horizons: [300 steps]\n    seeds: 2"
    sizes, horizons = "[16x1, 32x1, 32x2]", [f"{steps} steps" for steps in range(300, 810, 10)]
    path = study_file(
        sizes=sizes,
        horizons=json.dumps(horizons),
        seeds="13",
        replace=("kind: scaling", f"{grid}\n  - kind: scaling"),
    )
    command = [sys.executable, "-c", "from windtunnel.cli import main; main()", "plan", path]
    before = os.times()
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    after = os.times()
    assert "4039 trunks + 5989 branches" in output
    assert after.children_user + after.children_system < 20.0 + (
        before.children_user + before.children_system
    )


def test_too_few_sizes_for_a_forecast_are_said_before_the_sweep(study_file):
    horizons = "[300 steps]"
    few = plan_of(study_file(sizes="[16x1, 16x2, 32x1]", horizons=horizons, hold_out="largest"))
    (warning,) = few.warnings
    assert warning.code == "no-forecast"
    assert warning.values == {"experiment": "law", "sizes": 2, "needed": 3}
    sizes = "[16x1, 16x2, 32x1, 32x2]"
    (warning,) = plan_of(study_file(sizes=sizes, horizons=horizons, hold_out="largest")).warnings
    assert warning.values == {"experiment": "law", "lengths": 1, "needed": 3}
    horizons = "[300 steps, 400 steps, 500 steps]"
    assert not plan_of(study_file(sizes=sizes, horizons=horizons, hold_out="largest")).warnings


def test_a_run_that_another_experiment_does_not_hold_out_is_said(study_file):
    grid = "- kind: grid\n    name: g\n    axes: {size: [32x2]}\n    horizons: [300 steps]"
    plan = plan_of(
        study_file(
            sizes="[16x1, 16x2, 32x1, 32x2]",
            horizons="[300 steps, 400 steps, 500 steps]",
            hold_out="largest",
            replace=("  - kind: scaling", f"  {grid}\n  - kind: scaling"),
        )
    )
    (warning,) = plan.warnings
    assert warning.code == "shared-holdout"
    assert warning.values == {"experiment": "law", "other": "g", "runs": 1}
    assert [branch.end for branch in plan.branches if branch.held_out] == [500, 400]


def test_a_plan_file_holds_the_messages_of_its_warnings(study_file):
    plan = plan_of(study_file(sizes="[16x1]", horizons="[299 steps]"))
    written = plan.model_dump(mode="json")
    assert written["warnings"] == [each.message for each in plan.warnings]
    assert [each.code for each in type(plan).model_validate(written).warnings] == ["plan"]


def test_variants_that_do_not_decay_or_hardly_train_are_said(study_file):
    variants = "{plain: {}, hold: {stable: 60 steps}, brief: {decay: 256 tokens}}"
    branch = f"kind: branch, name: b, sizes: [16x1], forks: [300 steps], variants: {variants}"
    path = study_file(replace=("experiments:", f"experiments:\n  - {{{branch}}}"))
    undecayed, short = (
        each for each in plan_of(path).warnings if each.values.get("experiment") == "b"
    )
    assert (undecayed.code, undecayed.values["variants"]) == ("undecayed-variants", ["hold"])
    assert (short.code, short.values["variant"]) == ("short-stage", "brief")
    assert (short.values["updates"], short.values["wanted"]) == (2, 20)


@pytest.mark.parametrize(
    ("written", "path", "key"),
    [
        ("store: store", "store: ~nobody-here/runs", "store"),
        ("sources: [{path: ", "sources: [{path: ~nobody-here", "data"),
    ],
)
def test_the_home_of_nobody_is_refused(study_file, written, path, key):
    file = study_file(replace=(written, path))
    with pytest.raises(ConfigError, match=rf"hparams\.yaml:\d+: {key}: .*nobody-here"):
        open_study(file, prepared=True)
