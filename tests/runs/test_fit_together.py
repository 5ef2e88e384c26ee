"""What does not fit together is refused when a study is opened, at its own line."""

import re

import pytest

from windtunnel.errors import ConfigError, DataError
from windtunnel.model import native
from windtunnel.runs.preflight import LARGEST_HEAD, WHOLE_HEAD
from windtunnel.runs.study import open_study

STUDY = """\
study: s
data: {sources: [text.txt, {path: more.txt, weight: 0}]}
model: {sizes: [32x1], head_dim: 16, context: 32}
recipe: {lr: 1e-2, base_width: 32, batch_tokens: 256, warmup_steps: 2}
schedule: {}
resources: {}
experiments:
  - kind: KIND
"""
GRID, SEARCH, SCALING, BRANCH = 10, 10, 9, 10
"""Lines on which the axes, the horizons or the variants lie below."""


def study_of(folder, experiment, *changes):
    text = STUDY.replace("  - kind: KIND\n", experiment)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "text.txt").write_text("some text\n" * 50)
    (folder / "more.txt").write_text("more text\n" * 50)
    file = folder / "study.yaml"
    file.write_text(text)
    return file


def grid(axes, horizons="[300 steps]"):
    return f"  - kind: grid\n    horizons: {horizons}\n    axes: {axes}\n"


def search(space, sampler="random"):
    head = f"  - kind: search\n    sampler: {sampler}\n    space: {space}\n"
    return f"{head}    horizon: 300 steps\n    trials: 4\n"


def scaling(horizons="[300 steps]"):
    return f"  - kind: scaling\n    horizons: {horizons}\n    seeds: 1\n    hold_out: none\n"


def branch(variants, forks="[300 steps]"):
    return f"  - kind: branch\n    forks: {forks}\n    variants: {variants}\n    seeds: 1\n"


def refused(file):
    """The line of the file that is named, and what is said of it."""
    with pytest.raises((ConfigError, DataError)) as caught:
        open_study(file)
    found = re.fullmatch(rf"{re.escape(str(file))}:(\d+): (.+)", str(caught.value))
    assert found, str(caught.value)
    return int(found[1]), found[2]


@pytest.mark.parametrize(
    ("axes", "named"),
    [
        (
            "{model.head_dim: [16, 32], model.heads_per_kv: [1, 2]}",
            ["model.head_dim = 32", "model.heads_per_kv = 2"],
        ),
        (
            "{size: [32x1, 64x1], model.heads_per_kv: [1, 2, 4]}",
            ["size 32x1", "model.heads_per_kv = 4"],
        ),
        ("{recipe.lr: [1e-2, 2e-2], recipe.warmup_steps: [2, 400]}", ["recipe.warmup_steps = 400"]),
        ("{recipe.batch_tokens: [256], recipe.warmup_steps: [400, 500]}", ["recipe.warmup_steps"]),
        ("{schedule.decay_fraction: [0.1, 0.999]}", ["schedule.decay_fraction = 0.999"]),
        (
            "{schedule.shape: [linear, exponential], schedule.final_factor: [0, 0.1]}",
            ["schedule.shape = 'exponential'", "schedule.final_factor = 0"],
        ),
        ("{schedule.final_factor: [0]}", ["schedule.final_factor = 0"]),
        ("{model.ffn_ratio: [2.5, 2.51]}", ["model.ffn_ratio = 2.51"]),
    ],
)
def test_of_a_grid_the_values_that_do_not_fit_are_named(tmp_path, axes, named):
    sizes = ("sizes: [32x1]", "sizes: [32x1, 64x1]") if "size" in axes else ("study", "study")
    line, said = refused(study_of(tmp_path, grid(axes), sizes))
    assert line == GRID
    for each in named:
        assert each in said, said
    assert "recipe.lr =" not in said


@pytest.mark.parametrize(
    ("space", "named"),
    [
        ("{model.ffn_ratio: {low: 0.5, high: 4}}", "as a list of values that fit"),
        ("{model.head_dim: {low: 8, high: 16}}", "model.head_dim = 9"),
        ("{schedule.decay_fraction: {low: 0.1, high: 1}}", "decay_fraction = 0.9991"),
        ("{schedule.decay_fraction: {low: 0.2, high: 1}}", "just below 1"),
        ("{recipe.lr: {low: 1e-3, high: 1}, recipe.warmup_steps: {low: 2, high: 900}}", "900"),
        ("{schedule.final_factor: {low: 0, high: 0.5}}", "schedule.final_factor = 0"),
        ("{schedule.shape: [linear, exponential], schedule.final_factor: [0, 0.1]}", "exponential"),
        ("{model.qk_norm: [true, false], recipe.batch_tokens: [256, 65536]}", "65536"),
    ],
)
def test_of_a_search_corners_and_values_inside_are_looked_at(tmp_path, space, named):
    long = {"65536": "76800 tokens", "just below 1": "30000 steps"}.get(named, "300 steps")
    horizon = ("horizon: 300 steps", f"horizon: {long}")
    line, said = refused(study_of(tmp_path, search(space), horizon))
    assert line == SEARCH
    assert named in said


def test_a_grid_sampler_is_asked_for_its_own_values(tmp_path):
    space = "{model.ffn_ratio: {low: 1, high: 4, points: 4}}"
    study = open_study(study_of(tmp_path, search(space, "grid")))
    ratios = {each.segment.model.ffn_ratio for each in study.expected_plan.segments}
    assert ratios == {1.0, 2.0, 3.0, 4.0}
    halves = "{recipe.warmup_steps: {low: 2, high: 5, points: 3}}"
    line, said = refused(study_of(tmp_path, search(halves, "grid")))
    assert line == SEARCH
    assert "recipe.warmup_steps = 3.5" in said


def test_the_study_itself_is_at_fault_where_no_axis_is(tmp_path):
    zero = ("schedule: {}", "schedule: {final_factor: 0}")
    for experiment in (
        scaling(),
        grid("{recipe.lr: [1e-2]}"),
        search("{recipe.lr: {low: 1e-3, high: 1}}"),
        branch("{a: {}}"),
    ):
        assert refused(study_of(tmp_path, experiment, zero))[0] == 5
    shape = grid("{schedule.shape: [linear, cosine]}")
    assert open_study(study_of(tmp_path, shape, zero)).plan.branches
    own = branch("{a: {shape: linear}, b: {final_factor: 0.1}}")
    assert open_study(study_of(tmp_path, own, zero)).plan.branches
    line, said = refused(study_of(tmp_path, branch("{a: {}, b: {final_factor: 0}}")))
    assert (line, "variant 'b'" in said) == (BRANCH, True)


@pytest.mark.parametrize(
    ("experiment", "line"),
    [
        (scaling("[300 steps, 60 steps]"), 9),
        (grid("{recipe.lr: [1e-2]}", "[300 steps, 60 steps]"), 9),
        (branch("{a: {}}", "[300 steps, 1 steps]"), 9),
        (branch("{a: {mixture: {text: 1, more: 1e-5}}}"), 8),
        (search("{recipe.lr: {low: 1e-3, high: 1}}").replace("300 steps", "30 steps"), 11),
    ],
)
def test_what_is_too_short_is_told_at_its_own_line(tmp_path, experiment, line):
    assert refused(study_of(tmp_path, experiment))[0] == line


@pytest.mark.parametrize(
    ("changes", "axes", "why"),
    [
        ((), "{model.width_per_layer: [8, 32]}", "sizes carry their depth (32x1)"),
        ((), "{recipe.weight_decay_rule: [scaled, constant]}", "base_width = 32"),
        ((), "{recipe.parametrization: [mup, standard]}", "base_width = 32"),
        ((), "{recipe.base_depth: [1, 2]}", "no depth rule"),
        ((), "{recipe.kv_rule: [hidden, spectral]}", "more query heads than kv heads"),
        (
            (("lr: 1e-2, base_width: 32", "lr: 1e-2, base_width: 16, weight_decay: 0"),),
            "{recipe.weight_decay_rule: [scaled, constant]}",
            "weight_decay is 0",
        ),
        (
            (("base_width: 32", "base_width: 16, parametrization: standard"),),
            "{recipe.weight_decay_rule: [scaled, constant]}",
            "parametrization: standard",
        ),
        (
            (("schedule: {}", "schedule: {final_factor: 1}"),),
            "{schedule.shape: [linear, cosine]}",
            "holds the rate",
        ),
        (
            (
                ("sizes: [32x1]", "sizes: [32]"),
                ("head_dim: 16", "head_dim: 16, width_per_layer: 8"),
            ),
            "{model.width_per_layer: [16, 17]}",
            "depths that follow from it are equal",
        ),
        ((), "{schedule.decay_fraction: [0.1, 0.1001]}", "as many updates"),
    ],
)
def test_an_axis_that_changes_no_run_is_refused(tmp_path, changes, axes, why):
    for experiment in (grid(axes), search(axes)):
        line, said = refused(study_of(tmp_path, experiment, *changes))
        assert (line, why in said) == (10, True), said
        assert next(iter(re.findall(r"\w+\.\w+", axes))) in said


def test_a_range_that_changes_no_run_is_refused(tmp_path):
    line, said = refused(study_of(tmp_path, search("{model.width_per_layer: {low: 8, high: 32}}")))
    assert (line, "sizes carry their depth" in said) == (SEARCH, True)


def test_a_value_that_repeats_another_is_refused(tmp_path):
    line, said = refused(study_of(tmp_path, grid("{schedule.decay_fraction: [null, 0.2, 0.1]}")))
    assert line == GRID
    assert "None, 0.1 give the same runs" in said


def test_an_axis_with_an_effect_on_some_run_stays(tmp_path):
    """Of a weight decay rule, at one width of two, and beside one weight decay of two."""
    sizes = ("sizes: [32x1]", "sizes: [32x1, 64x1]")
    rule = "recipe.weight_decay_rule: [scaled, constant]"
    for axes in (f"{{{rule}, recipe.weight_decay: [0, 0.1]}}", f"{{{rule}, size: [32x1, 64x1]}}"):
        assert open_study(study_of(tmp_path, grid(axes), sizes)).plan.branches
    decays = f"{{{rule}, recipe.weight_decay: {{low: 0, high: 0.1}}}}"
    base = ("base_width: 32", "base_width: 16")
    assert open_study(study_of(tmp_path, search(decays), base)).expected_plan.branches


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ("{model.tied: [true, 1]}", "write a list of true and false"),
        ("{recipe.lr: [true, 1, 2.0]}", "expected a number"),
        ("{recipe.lr: [1, 1.0]}", "occurs twice"),
        ("{recipe.lr: ['0.1', 0.2]}", "without quotes"),
        ("{size: [32x1, 32x1]}", "occurs twice"),
        ("{recipe.lr: [.nan, 1]}", "finite"),
        ("{recipe.lr: [[1], 2]}", "expected a number"),
    ],
)
def test_values_of_an_axis_are_of_one_kind_and_differ(tmp_path, axes, said):
    line, found = refused(study_of(tmp_path, grid(axes)))
    assert (line, said in found) == (GRID, True), found


@pytest.mark.parametrize(
    ("resources", "experiment"),
    [
        ("{micro_batch_tokens: 96}", scaling()),
        ("{micro_batch_tokens: 16}", scaling()),
        ("{devices_per_trial: 3}", scaling()),
        ("{devices_per_trial: 8}", branch("{a: {batch_tokens: 128}}")),
        ("{kernels: native, compile: always}", scaling()),
        ("{kernels: native, cpus_per_trial: 2}", scaling()),
    ],
)
def test_resources_that_cannot_train_a_shape_are_refused(tmp_path, resources, experiment):
    file = study_of(tmp_path, experiment, ("resources: {}", f"resources: {resources}"))
    assert refused(file)[0] == 6


def test_a_batch_smaller_than_a_piece_is_one_piece(tmp_path):
    file = study_of(
        tmp_path, scaling(), ("resources: {}", "resources: {micro_batch_tokens: 65536}")
    )
    assert open_study(file).plan.branches


def test_the_kernels_shapes_are_those_that_they_know(tmp_path):
    small = ("head_dim: 16", "head_dim: 8")
    file = study_of(tmp_path, scaling(), small, ("resources: {}", "resources: {kernels: native}"))
    assert refused(file)[0] == 6
    model = open_study(study_of(tmp_path, scaling())).plan.trunks[0].segment.model
    for head in (WHOLE_HEAD // 2, WHOLE_HEAD, LARGEST_HEAD, LARGEST_HEAD + WHOLE_HEAD):
        wide = model.replace(width=head, head_dim=head, kv_heads=1)
        assert native.supports(wide) is (head % WHOLE_HEAD == 0 and head <= LARGEST_HEAD)
