"""muP passes; init, rate, a multiplier and weight decay, each broken in turn, fail."""

import dataclasses
import math
import re

import pytest
import torch
from torch.nn import functional

from windtunnel.cli.check_mup import defaults
from windtunnel.config import DenseSpec, Size
from windtunnel.config import model as recipe_module
from windtunnel.errors import ConfigError
from windtunnel.model import build, initialise
from windtunnel.mup import Role
from windtunnel.runs.coordcheck import coordinate_check, depth_check, steepest_by_kind
from windtunnel.runs.forward_pass import KEYS_AND_VALUES, Layer, Site, forward_pass
from windtunnel.train import state

DEFAULT_FAMILY, DEFAULT_RECIPE = defaults()
MODELS = [DEFAULT_FAMILY.spec(Size(width, 2), vocab_size=256) for width in (32, 64, 128, 256)]


COMPLETEP = DEFAULT_RECIPE.replace(parametrization="completep", base_depth=2)
DEEP = [DEFAULT_FAMILY.spec(Size(32, depth), vocab_size=256) for depth in (2, 4, 8, 16)]


def check(recipe=DEFAULT_RECIPE, steps=12, seeds=(0, 1), models=MODELS):
    return coordinate_check(models, recipe, steps=steps, seeds=seeds)


def check_depths(recipe, steps=16, seeds=(0,)):
    return depth_check(DEEP, recipe, steps=steps, seeds=seeds)


SHORT = {"steps": 4, "seeds": (0,)}
"""Enough for what is broken: slopes of 0.8 to 1.8 where 0.2 is allowed and muP has -0.2 to 0."""


def failed(found):
    return {verdict.name for verdict in (*found.sites, *found.decays) if not verdict.passed}


def failed_kinds(results):
    return {verdict.kind for verdict in results if not verdict.passed}


def break_roles(monkeypatch, roles, changed):
    """Change the scale of some roles; `changed(scale, arguments)` gives the fields."""
    real = recipe_module.role_scale

    def broken(role, **arguments):
        scale = real(role, **arguments)
        if role not in roles:
            return scale
        return dataclasses.replace(scale, **changed(scale, arguments))

    monkeypatch.setattr(recipe_module, "role_scale", broken)


def break_hidden(monkeypatch, **changes):
    break_roles(monkeypatch, {Role.HIDDEN}, lambda scale, arguments: changes)


def break_sites(monkeypatch, changed):
    real = recipe_module.site_multipliers

    def broken(**arguments):
        sites = real(**arguments)
        return dataclasses.replace(sites, **changed(sites, arguments))

    monkeypatch.setattr(recipe_module, "site_multipliers", broken)


def break_rate(monkeypatch, names, factor):
    """Multiply the rate of some parameters by `factor(width ratio)`, their decay unchanged."""
    real = state.role_groups

    def broken(decoder, recipe):
        groups, base_lr = real(decoder, recipe)
        times = factor(decoder.spec.width / recipe.base_width)
        of_name = dict(decoder.named_parameters())
        bad = [weight for name, weight in of_name.items() if re.search(names, name)]
        assert bad
        (group,) = (g for g in groups if any(bad[0] is weight for weight in g["params"]))
        group["params"] = [w for w in group["params"] if all(w is not each for each in bad)]
        base_lr["broken"] = base_lr[group["role"]] * times
        decay = group["weight_decay"] / times
        groups.append(group | {"params": bad, "role": "broken", "weight_decay": decay})
        return [g for g in groups if g["params"]], base_lr

    monkeypatch.setattr(state, "role_groups", broken)


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
    break_sites(monkeypatch, lambda sites, arguments: {"logits": 1.0})
    assert "logits" in failed(check(**SHORT))


UNTIED = [
    DEFAULT_FAMILY.replace(tied=False).spec(Size(model.width, 2), vocab_size=256)
    for model in MODELS
]
SLOW_LAYERS = {
    "queries, keys and values": (MODELS, "qkv", {"queries", "keys", "values"}),
    "one layer's down projection": (MODELS, r"blocks\.0\.down", {"down projection"}),
    "one layer's gate": (MODELS, r"blocks\.1\.gate_up", {"gate and up"}),
    "gains": (MODELS, "norm", {"attention norm", "feed-forward norm", "final norm"}),
    "readout": (UNTIED, "readout", {"readout"}),
}


@pytest.mark.medium
@pytest.mark.parametrize("name", SLOW_LAYERS)
def test_a_layer_that_learns_too_slowly_fails_where_activations_pass(monkeypatch, name):
    models, names, kinds = SLOW_LAYERS[name]
    break_rate(monkeypatch, names, lambda m: 1 / m)
    found = check(models=models, **SHORT)
    assert not failed(found)
    assert failed_kinds(found.effective) == kinds
    assert not found.passed


def test_a_layer_that_learns_too_fast_fails_by_its_own_update(monkeypatch):
    break_rate(monkeypatch, r"blocks\.0\.out", lambda m: m)
    found = check(**SHORT)
    assert "attention projection" in failed_kinds(found.effective)
    (worst,) = (
        each
        for each in steepest_by_kind(found.effective, found.propagated)
        if each.kind == "attention projection"
    )
    assert worst.layer == 1


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


@pytest.mark.parametrize("changes", [{}, {"tied": False, "qk_norm": True, "kv_heads": 1}])
def test_activations_are_those_of_the_model(changes):
    spec = MODELS[0].replace(**changes)
    model = build(spec, DEFAULT_RECIPE)
    initialise(model, DEFAULT_RECIPE, init_seed=0)
    tokens = torch.arange(64).reshape(1, 64)
    found = forward_pass(model, tokens)
    with torch.no_grad():
        assert torch.equal(found.activations[Site("final norm")], model.hidden(tokens))
        assert torch.equal(found.activations[Site("logits")], model.logits(tokens))
        for site, output in (("attention projection", "attention output"),
                             ("down projection", "feed-forward output")):  # fmt: skip
            layer = found.layers[Site(site, 2)]
            assert torch.equal(
                layer.apply(layer.weights, layer.input), found.activations[Site(output, 2)]
            )


def test_both_parts_of_a_layers_change_by_hand():
    def layer(weight, x):
        apply = lambda w, x: functional.linear(x, *w)  # noqa: E731
        return Layer(Role.HIDDEN, apply, (torch.tensor([[weight]]),), torch.tensor([[x]]))

    start, now = layer(2.0, 1.0), layer(3.0, 5.0)
    assert now.effective_update(start) == (3 - 2) * 5
    assert now.propagated_update(start) == 2 * (5 - 1)


def test_kept_weights_do_not_follow_training():
    weight = torch.zeros(2, 2)
    layer = Layer(Role.HIDDEN, lambda w, x: functional.linear(x, *w), (weight,), torch.ones(1, 2))
    kept = layer.kept()
    weight += 1.0
    assert layer.effective_update(kept) == 2.0


def test_widths_too_close_are_refused():
    with pytest.raises(ConfigError) as refused:
        coordinate_check(MODELS[:3], DEFAULT_RECIPE, steps=1)
    assert refused.value.code == "too-few-widths"
    assert refused.value.values["widths"] == tuple(model.width for model in MODELS[:3])


@pytest.mark.medium
def test_completep_passes_over_depth():
    found = check_depths(COMPLETEP)
    assert found.passed
    assert (found.width, found.depths) == (32, (2, 4, 8, 16))
    assert max(abs(each.slope) for each in (*found.effective, *found.propagated)) < 0.1


@pytest.mark.medium
def test_mup_fails_over_depth():
    found = check_depths(DEFAULT_RECIPE)
    assert "feed-forward output" in failed_kinds(found.sites)
    assert "down projection" in failed_kinds(found.effective)


def test_a_branch_that_is_not_scaled_with_depth_fails(monkeypatch):
    break_sites(monkeypatch, lambda sites, arguments: {"residual": 1.0})
    found = check_depths(COMPLETEP, steps=4)
    assert "residual stream" in failed_kinds(found.sites)


def test_a_rate_with_a_depth_rule_fails(monkeypatch):
    break_roles(
        monkeypatch,
        {Role.HIDDEN},
        lambda scale, arguments: {"lr": scale.lr / arguments["depth_ratio"] ** 0.5},
    )
    found = check_depths(COMPLETEP, steps=4)
    assert {"queries", "gate and up", "down projection"} <= failed_kinds(found.effective)


def test_eps_without_a_depth_rule_fails_where_it_matters(monkeypatch):
    recipe = COMPLETEP.replace(eps=1e-3)
    assert check_depths(recipe, steps=2).passed
    break_roles(
        monkeypatch,
        set(Role),
        lambda scale, arguments: {"eps": scale.eps * arguments["depth_ratio"]},
    )
    assert "queries" in failed_kinds(check_depths(recipe, steps=2).effective)


@pytest.mark.slow
def test_kv_heads_that_stay_need_the_spectral_rule():
    """Inputs align with the few rows of the keys and values of one head, unless these start small.

    Measured of this seed: +0.57 and -0.29 (+0.61 and -0.25 after 64 updates, and then +0.03 with
    multi-head attention).
    """
    models = [
        DenseSpec(width=width, depth=2, head_dim=4, kv_heads=1, vocab_size=256, context=32)
        for width in (32, 64, 128, 256)
    ]
    steepest = {}
    for rule in ("hidden", "spectral"):
        recipe = DEFAULT_RECIPE.replace(kv_rule=rule)
        found = check(recipe, steps=32, seeds=(0,), models=models)
        of_kv = [each for each in found.propagated if each.kind in KEYS_AND_VALUES]
        steepest[rule] = max(each.slope for each in of_kv)
        assert not failed_kinds(found.effective) & KEYS_AND_VALUES
    assert steepest["hidden"] > 0.4
    assert steepest["spectral"] < -0.1


def test_of_three_depths_the_slope_is_that_of_the_largest_two():
    found = depth_check([DEEP[0], DEEP[1], DEEP[3]], COMPLETEP, steps=1, seeds=(0,))
    for each in (*found.sites, *found.effective, *found.propagated):
        _, middle, last = each.changes[-1]
        assert each.slope == pytest.approx(math.log(last / middle) / math.log(16 / 4))


def test_depths_too_close_are_refused():
    with pytest.raises(ConfigError) as refused:
        depth_check(DEEP[:3], COMPLETEP, steps=1)
    assert refused.value.code == "too-few-depths"
    assert refused.value.values["depths"] == (2, 4, 8)


def test_depths_of_other_shapes_are_refused():
    with pytest.raises(ConfigError) as refused:
        depth_check([*DEEP, MODELS[1]], COMPLETEP, steps=1)
    assert refused.value.code == "shapes-differ"
