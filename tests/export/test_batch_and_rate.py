"""The batch of a target and the rate that goes with it, on planted grids."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from unrun import planted_records

from windtunnel.config import Recipe
from windtunnel.errors import ConfigError
from windtunnel.export.diagnostics import winner_diagnostics
from windtunnel.export.handoff import Winner
from windtunnel.export.recipe import batch_of, lr_rule_of
from windtunnel.export.request import Request

RECIPE = Recipe(lr=8e-3, base_width=32, batch_tokens=512, warmup_steps=50)
HEAD = """
data: {sources: [builtin:docs]}
model: {sizes: [32x3, 64x3, 96x3], head_dim: 16, context: 128}
recipe: {lr: 8e-3, base_width: 32, batch_tokens: 512, warmup_steps: 50}
schedule: {shape: linear, decay_fraction: 0.2}
"""
BATCHES = """
  - kind: grid
    name: batch
    axes: {size: [32x3, 64x3, 96x3], recipe.batch_tokens: [128, 256, 512, 1024, 2048, 4096]}
    horizons: [5e5 tokens, 8e5 tokens, 1.25e6 tokens, 2e6 tokens, 3.2e6 tokens, 5e6 tokens]
    seeds: 2
"""
JOINT = """
  - kind: grid
    name: joint
    axes:
      size: [32x3, 64x3, 96x3]
      recipe.lr: [2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2]
      recipe.batch_tokens: [256, 512, 1024, 2048]
    horizons: [819200 tokens]
    seeds: 2
"""
REQUEST = Request(tokens=1.0)


def source(records):
    return (SimpleNamespace(records=records, name=records.study),)


@pytest.fixture(scope="module")
def batch_study(tmp_path_factory):
    """Fewest tokens at batch 50e3 / L^6."""

    def loss(run):
        floor = 1.0 + 12 * run.params**-0.28
        losses = floor + np.geomspace(1e-3, 4, 4000)
        off = np.log(run.batch_tokens * losses**6.0 / 50e3)
        log_tokens = np.log(3.5e5) - 3.2 * np.log(losses - floor) + 0.05 * off**2
        return float(np.interp(-np.log(run.tokens), -log_tokens, losses))

    return source(planted_records(tmp_path_factory.mktemp("batch"), BATCHES, loss, head=HEAD))


@pytest.fixture(scope="module")
def joint_study(tmp_path_factory):
    """The best rate grows as batch^0.5."""

    def loss(run):
        best = 8e-3 * (run.batch_tokens / 724) ** 0.5
        return 2.2 * math.exp(0.03 * math.log(run.lr / best) ** 2)

    return source(planted_records(tmp_path_factory.mktemp("joint"), JOINT, loss, head=HEAD))


@pytest.mark.parametrize(("searched", "how"), [(512, "search"), (4096, "study")])
def test_a_search_of_the_batch_is_evidence_for_it(searched, how):
    values = {"recipe.lr": 8e-3, "recipe.batch_tokens": searched}
    winner = Winner(
        study="other", experiment="tune", values=values, loss=2.0, low=None, high=None,
        noise=None, applied=False,
    )  # fmt: skip
    kept, (warning,) = batch_of((), RECIPE, REQUEST, loss=2.0, context=128, winners=[winner])
    assert (kept.how, kept.batch_tokens) == (how, 512)
    assert (warning.code, warning.values["how"]) == ("batch-kept", how)


@pytest.mark.medium
def test_the_batch_law_at_the_forecast_loss(batch_study):
    choice, warnings = batch_of(batch_study, RECIPE, REQUEST, loss=2.0, context=128)
    assert choice.how == "law"
    assert choice.batch_tokens == pytest.approx(50e3 / 2.0**6, rel=0.2)  # 781: whole rows of 128
    assert choice.batch_tokens == choice.rows * 128
    assert "batch-extrapolated" not in [each.code for each in warnings]
    far, warnings = batch_of(batch_study, RECIPE, REQUEST, loss=1.0, context=128)
    assert far.rows % 16 == 0
    assert far.batch_tokens == pytest.approx(50e3, rel=0.2)
    assert "batch-extrapolated" in [each.code for each in warnings]


def test_a_batch_that_is_given_or_kept(batch_study):
    request = Request(tokens=1.0, batch_tokens=4096)
    given, _ = batch_of(batch_study, RECIPE, request, loss=2.0, context=128)
    assert (given.how, given.rows) == ("given", 32)
    kept, warnings = batch_of((), RECIPE, REQUEST, loss=2.0, context=128)
    assert (kept.how, kept.batch_tokens) == ("study", 512)
    assert "does not transfer" in kept.evidence
    assert [each.code for each in warnings] == ["batch-kept"]
    with pytest.raises(ConfigError) as caught:
        batch_of((), RECIPE, Request(tokens=1.0, batch_tokens=1000), loss=2.0, context=128)
    assert (caught.value.code, caught.value.values["nearest"]) == ("not-a-multiple", 1024)


@pytest.mark.medium
def test_the_rate_follows_the_measured_rule(joint_study):
    rule, warnings = lr_rule_of(joint_study, RECIPE, REQUEST, batch_tokens=1024)
    assert rule.rule == "measured"
    assert rule.exponent == pytest.approx(0.5, rel=1e-3)
    assert rule.factor == pytest.approx(2**0.5, rel=1e-3)
    assert "batch^0.50" in rule.evidence
    assert "gave up" in rule.evidence
    assert [each.code for each in warnings] == ["forecast-batch"]
    _, warnings = lr_rule_of(joint_study, RECIPE, REQUEST, batch_tokens=8192)
    assert [each.code for each in warnings] == ["forecast-batch", "batch-outside"]
    assert "256 to 2,048" in warnings[1].message


@pytest.mark.parametrize(("name", "factor"), [("none", 1.0), ("sqrt", 2.0), (None, 2.0)])
def test_rules_without_evidence(name, factor):
    request = Request(tokens=1.0, lr_rule=name)
    rule, warnings = lr_rule_of((), RECIPE, request, batch_tokens=2048)
    assert rule.factor == factor
    assert rule.rule == (name or "sqrt")
    assert rule.evidence.startswith("assumed")
    assert [each.code for each in warnings] == ["forecast-batch", "lr-rule-assumed"]
    same, warnings = lr_rule_of((), RECIPE, request, batch_tokens=512)
    assert (same.factor, warnings) == (1.0, [])


def test_no_measured_rule_without_a_measurement():
    request = Request(tokens=1.0, lr_rule="measured")
    with pytest.raises(ConfigError) as caught:
        lr_rule_of((), RECIPE, request, batch_tokens=2048)
    assert (caught.value.code, caught.value.values["value"]) == ("rule-not-measured", "measured")


def test_what_is_said_of_winners():
    found = Winner(
        study="search",
        experiment="at-10N",
        values={"recipe.lr": 9e-3, "recipe.scale_emb": 12.0},
        loss=2.0,
        low=1.9,
        high=2.1,
        noise=0.01,
        applied=False,
    )
    recipe = {f"recipe.{name}": value for name, value in RECIPE.model_dump().items()}
    (differs,) = winner_diagnostics([found], recipe)
    assert differs.code == "winner-differs"
    assert "recipe.lr 0.009 (recipe: 0.008)" in differs.message
    assert "scale_emb" not in differs.message  # the same in both
    applied = recipe | {"recipe.lr": 9e-3}
    (taken,) = winner_diagnostics([found.replace(applied=True)], applied)
    assert taken.code == "winner-applied"
    assert not list(winner_diagnostics([found], applied))
    assert not list(winner_diagnostics([found], recipe | {"recipe.lr": 9.1e-3}))  # rounded
