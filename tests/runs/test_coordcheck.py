"""muP passes; init, rate, a multiplier and weight decay, each broken in turn, fail."""

import dataclasses

import pytest
import torch

from windtunnel.cli.check_mup import defaults
from windtunnel.config import Size
from windtunnel.config import model as recipe_module
from windtunnel.errors import ConfigError
from windtunnel.model import build, initialise
from windtunnel.mup import Role
from windtunnel.runs.coordcheck import activations, coordinate_check

DEFAULT_FAMILY, DEFAULT_RECIPE = defaults()
MODELS = [DEFAULT_FAMILY.spec(Size(width, 2), vocab_size=256) for width in (32, 64, 128, 256)]


def check(recipe=DEFAULT_RECIPE, steps=12, seeds=(0, 1)):
    return coordinate_check(MODELS, recipe, steps=steps, seeds=seeds)


SHORT = {"steps": 4, "seeds": (0,)}
"""Enough for what is broken: slopes of 0.8 to 1.8 where 0.2 is allowed and muP has -0.2 to 0."""


def failed(found):
    return {verdict.name for verdict in (*found.sites, *found.decays) if not verdict.passed}


def break_hidden(monkeypatch, **changes):
    real = recipe_module.role_scale

    def broken(role, **arguments):
        scale = real(role, **arguments)
        return dataclasses.replace(scale, **changes) if role is Role.HIDDEN else scale

    monkeypatch.setattr(recipe_module, "role_scale", broken)


@pytest.mark.medium
def test_mup_passes():
    found = check()
    assert found.passed, failed(found)
    assert len(found.sites[0].changes) == 12


def test_standard_fails():
    found = check(DEFAULT_RECIPE.replace(parametrization="standard"), **SHORT)
    assert {"residual stream", "logits"} <= failed(found)


def test_a_broken_init_fails(monkeypatch):
    break_hidden(monkeypatch, init_std=1.0)
    assert "residual stream" in failed(check(**SHORT))


def test_a_broken_rate_fails(monkeypatch):
    break_hidden(monkeypatch, lr=1.0)
    assert "residual stream" in failed(check(**SHORT))


def test_a_broken_multiplier_fails(monkeypatch):
    real = recipe_module.site_multipliers
    monkeypatch.setattr(
        recipe_module,
        "site_multipliers",
        lambda **arguments: dataclasses.replace(real(**arguments), logits=1.0),
    )
    assert "logits" in failed(check(**SHORT))


def test_a_broken_weight_decay_fails_by_its_own_measurement(monkeypatch):
    break_hidden(monkeypatch, weight_decay=1.0)
    found = check(steps=2, seeds=(0,))
    assert "weight decay of hidden" in failed(found)
    hidden = next(v for v in found.decays if v.name == "weight decay of hidden")
    assert hidden.slope == pytest.approx(-1.0, abs=0.01)


def test_constant_weight_decay_is_shown_and_not_judged():
    found = check(DEFAULT_RECIPE.replace(weight_decay_rule="constant"), steps=2, seeds=(0,))
    hidden = next(v for v in found.decays if v.name == "weight decay of hidden")
    assert not hidden.judged
    assert hidden.passed
    assert hidden.slope == pytest.approx(-1.0, abs=0.01)


def test_activations_are_those_of_the_model():
    model = build(MODELS[0], DEFAULT_RECIPE)
    initialise(model, DEFAULT_RECIPE, init_seed=0)
    tokens = torch.arange(64).reshape(1, 64)
    found = activations(model, tokens)
    with torch.no_grad():
        assert torch.equal(found["final norm"], model.hidden(tokens))


def test_widths_too_close_are_refused():
    with pytest.raises(ConfigError) as refused:
        coordinate_check(MODELS[:3], DEFAULT_RECIPE, steps=1)
    assert refused.value.code == "too-few-widths"
    assert refused.value.values["widths"] == tuple(model.width for model in MODELS[:3])
