"""The recipe at the target: planted exponents come back; what nobody measured stays."""

import math

import pytest
from unrun import planted_records

from windtunnel.config import Recipe
from windtunnel.config.model import ScheduleConfig
from windtunnel.export.handoff import LrRule
from windtunnel.export.transfer import TunedRecipe, as_tuned, transferred_recipe
from windtunnel.transfer import Place

RECIPE = Recipe(lr=8e-3, base_width=32, batch_tokens=512, warmup_steps=50)
TUNED = Place(batch_tokens=512, tokens=4e5, depth=3, params=3e4)
TARGET = Place(batch_tokens=2048, tokens=25.6e6, depth=3, params=3e5)
HEAD = """
data: {{sources: [builtin:docs]}}
model: {{sizes: [32x3, 64x3], head_dim: 16, context: 128}}
recipe: {{lr: 8e-3, base_width: 32, batch_tokens: 512, warmup_steps: 50}}
schedule: {{shape: linear, decay_fraction: 0.2{hold}}}
{transfer}
"""
GRIDS = """
  - kind: grid
    name: rates
    axes: {size: [32x3, 64x3], recipe.lr: [1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2]}
    horizons: [4e5 tokens, 8e5 tokens, 1.6e6 tokens]
    seeds: 2
  - kind: grid
    name: decays
    axes: {size: [32x3], recipe.weight_decay: [0.025, 0.05, 0.1, 0.2, 0.4]}
    horizons: [4e5 tokens, 8e5 tokens, 1.6e6 tokens]
    seeds: 2
"""
POWER, DECAY_POWER, CURVATURE = -0.27, -0.4, 0.03


def loss(run):
    """The best rate is 8e-3 at 4e5 tokens, the best weight decay 0.15, both powers of tokens."""
    longer = run.tokens / 4e5
    value = run.axes["recipe.weight_decay"] / (0.15 * longer**DECAY_POWER)
    rate = run.lr / (8e-3 * longer**POWER)
    off = math.log(rate) ** 2 + (math.log(value) ** 2 if run.is_of("decays") else 0.0)
    noise = 1e-4 * math.sin(1e6 * run.lr + run.init_seed + run.tokens)
    return 2.2 * longer**-0.05 * math.exp(CURVATURE * off) * (1 + noise)


class Source:
    name = "planted"

    def __init__(self, records):
        self.records = records


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    def make(transfer="", hold=""):
        folder = tmp_path_factory.mktemp("measured")
        head = HEAD.format(transfer=transfer, hold=hold)
        return (Source(planted_records(folder, GRIDS, loss, head=head)),)

    return make


def rule(name="none", exponent=0.0):
    return LrRule(
        rule=name, exponent=exponent, factor=4.0**exponent, tuned_lr=8e-3,
        tuned_batch_tokens=512, evidence="planted",
    )  # fmt: skip


def transferred(studies, *, place=TUNED, lr_rule=None, target=TARGET, hold="constant"):
    tuned = TunedRecipe(recipe=RECIPE, schedule=ScheduleConfig(hold=hold), place=place)
    return transferred_recipe(
        studies, tuned, target, lr_rule=lr_rule or rule(), loss=2.0, longest=1.6e6
    )


@pytest.mark.medium
def test_planted_exponents_are_applied_with_intervals_and_cost(measured):
    found = transferred(measured(), lr_rule=rule("sqrt", 0.5))
    lr, weight_decay = 8e-3 * 2 * 64**POWER, 0.1 * 64**DECAY_POWER
    assert found.recipe.lr == pytest.approx(lr, rel=0.02)
    assert found.recipe.weight_decay == pytest.approx(weight_decay, rel=0.03)
    assert (found.recipe.batch_tokens, found.recipe.beta2) == (2048, 0.95)
    by_cell = {(each.setting, each.along): each for each in found.settings}
    length = by_cell["lr", "length"]
    assert (length.rule, length.ratio) == ("measured", 64.0)
    assert length.power.low < POWER < length.power.high
    assert length.measured == pytest.approx((4e5, 1.6e6), rel=1e-3)
    expected = 2.0 * math.expm1(CURVATURE * math.log(64**POWER) ** 2)
    assert length.lost == pytest.approx(expected, rel=0.1)
    decay = by_cell["weight_decay", "length"]
    assert decay.power.low < DECAY_POWER < decay.power.high
    assert by_cell["lr", "batch"].factor == 2.0
    codes = [each.code for each in found.warnings]
    assert codes == ["rule-extrapolated", "rule-extrapolated", "beta2-kept"]


@pytest.mark.medium
def test_inside_what_was_measured_nothing_is_warned_of(measured):
    near = Place(batch_tokens=512, tokens=1.2e6, depth=3, params=3e5)
    found = transferred(measured(), target=near)
    assert found.warnings == ()
    assert found.recipe.lr == pytest.approx(8e-3 * 3**POWER, rel=0.02)


@pytest.mark.medium
def test_without_a_tuned_place_the_measured_best_is_the_start(measured):
    found = transferred(measured(), place=None)
    assert found.recipe.lr == pytest.approx(8e-3 * 64**POWER, rel=0.02)
    assert found.recipe.weight_decay == pytest.approx(0.15 * 64**DECAY_POWER, rel=0.05)


@pytest.mark.medium
def test_the_study_s_own_rules_come_first(measured):
    transfer = (
        "transfer: {lr: {length: delphi}, weight_decay: {length: timescale, batch: timescale},"
        " beta2: {batch: half_life}, eps: {batch: inverse_sqrt}}"
    )
    found = transferred(measured(transfer), lr_rule=rule("sqrt", 0.5))
    assert found.recipe.lr == pytest.approx(8e-3 * 2 * 64**-0.3, rel=1e-9)
    kept = 512 / (8e-3 * 0.1) / 4e5
    assert 2048 / (found.recipe.lr * found.recipe.weight_decay) / 25.6e6 == pytest.approx(kept)
    assert found.recipe.beta2 == pytest.approx(0.95**4)
    assert found.recipe.eps == pytest.approx(0.5e-8)
    assert {each.code for each in found.warnings} == {"rule-not-measured-here"}


@pytest.mark.medium
def test_another_stable_phase_was_not_measured(measured):
    found = transferred(measured(hold=", hold: {power: -0.3, from: 10N}"))
    assert found.recipe.lr == RECIPE.lr
    codes = [each.code for each in found.warnings]
    assert codes == ["lr-length", "weight-decay-length", "beta2-kept"]


def test_as_tuned_nothing_but_the_batch_moves_the_rate():
    tuned = TunedRecipe(recipe=RECIPE, schedule=ScheduleConfig(), place=TUNED)
    found = as_tuned(tuned, rule("sqrt", 0.5), TARGET, longest=1.6e6)
    assert (found.recipe.lr, found.recipe.weight_decay) == (1.6e-2, 0.1)
    assert found.settings == ()
