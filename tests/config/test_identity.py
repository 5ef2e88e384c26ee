"""Golden ids: a change here gives every trunk in every store a new identity."""

import math

import pytest

from windtunnel.config import (
    Branch,
    DataChange,
    DenseSpec,
    ModelChange,
    Recipe,
    ScheduleChange,
    Trunk,
)
from windtunnel.config import (
    segment as identity,
)
from windtunnel.config.model import ScheduleConfig
from windtunnel.config.shape import upcycled

MODEL = DenseSpec(width=64, depth=4, head_dim=16, kv_heads=4, vocab_size=256, context=128)
RECIPE = Recipe(lr=0.01, base_width=32, batch_tokens=1024, warmup_steps=50)
TRUNK = Trunk(model=MODEL, recipe=RECIPE, stream="f39600f6552bf1c0", init_seed=0, data_seed=0)
DECAY = Branch(parent=TRUNK, fork_step=900, steps=100, changes=(ScheduleChange(),))
FALLING = TRUNK.replace(hold={"power": -0.27, "tokens": 1_000_000})

EIGHT = upcycled(MODEL, {"experts": 8, "top_k": 2, "shared_experts": 0, "granularity": 1})
UPCYCLED = DECAY.replace(changes=(ScheduleChange(), ModelChange(model=EIGHT)))

GOLDEN = {
    "trunk": (TRUNK, "5c4d08be35c8e584"),
    "trunk, other lr": (TRUNK.replace(recipe=RECIPE.replace(lr=0.02)), "e71c2da9f17a5307"),
    "trunk, untied": (TRUNK.replace(model=MODEL.replace(tied=False)), "beecfa94d05981d1"),
    "trunk, falling rate": (FALLING, "b20beed98f4c8a7d"),
    "decay": (DECAY, "d6369e5efe98104a"),
    "decay, linear": (DECAY.replace(changes=(ScheduleChange(shape="linear"),)), "65c86c644bd9f20e"),
    "decay, own data": (
        DECAY.replace(changes=(ScheduleChange(), DataChange(data_seed=7))),
        "2a9379d4bb8c4d90",
    ),
    "trunk of experts": (TRUNK.replace(model=EIGHT), "cb0383c81627ae34"),
    "decay, upcycled": (UPCYCLED, "6d0093b09d702d79"),
    "decay, upcycled, half new": (
        DECAY.replace(changes=(ScheduleChange(), ModelChange(model=EIGHT, reset=0.5))),
        "481a847eca830345",
    ),
    "trunk's own schedule": (DECAY.replace(changes=()), "f086a30bf7c5b886"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_ids(name):
    segment, expected = GOLDEN[name]
    assert segment.id == expected


def test_a_power_of_zero_is_the_constant_rate():
    held = ScheduleConfig(hold={"power": 0, "from": "10N"})
    assert held == ScheduleConfig()
    assert identity.hold_of(held, MODEL, RECIPE.batch_tokens) is None
    falling = ScheduleConfig(hold={"power": -0.27, "from": "10N"})
    batch = RECIPE.batch_tokens
    found = identity.hold_of(falling, MODEL, batch)
    assert found.tokens == math.ceil(10 * MODEL.params / batch) * batch
    assert ScheduleConfig(**falling.model_dump()) == falling


def test_ids_differ():
    ids = [segment.id for segment, _ in GOLDEN.values()]
    assert len(set(ids)) == len(ids)


def test_a_field_at_its_frozen_default_is_not_hashed():
    spelled_out = RECIPE.replace(init_std=0.1, weight_decay=0.1)
    assert TRUNK.replace(recipe=spelled_out).id == TRUNK.id


@pytest.mark.parametrize("parametrization", ["mup", "standard"])
def test_a_base_depth_without_effect_is_not_hashed(parametrization):
    recipe = RECIPE.replace(parametrization=parametrization)
    with_base = recipe.replace(base_depth=2)
    assert TRUNK.replace(recipe=with_base).id == TRUNK.replace(recipe=recipe).id


def test_a_base_depth_under_completep_is_hashed():
    recipes = [RECIPE.replace(parametrization="completep", base_depth=n) for n in (2, 4)]
    ids = {TRUNK.replace(recipe=recipe).id for recipe in (RECIPE, *recipes)}
    assert len(ids) == 3


def test_a_rule_of_keys_and_values_is_hashed_where_heads_share_them():
    spectral = RECIPE.replace(kv_rule="spectral")
    grouped = TRUNK.replace(model=MODEL.replace(kv_heads=2))
    assert TRUNK.replace(recipe=spectral).id == TRUNK.id
    assert grouped.replace(recipe=spectral).id != grouped.id


def test_a_new_field_with_a_frozen_default_keeps_every_id(monkeypatch):
    fields = MODEL.model_dump()
    before = identity.fingerprint("model", identity.differing("model", fields))
    monkeypatch.setitem(identity.FROZEN["model"], "experts", 1)
    after = identity.differing("model", fields | {"experts": 1})
    assert identity.fingerprint("model", after) == before


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), print])
def test_what_cannot_be_encoded_raises(value):
    with pytest.raises(TypeError, match="cannot be part of an identity"):
        identity.fingerprint("trunk", {"x": value})


def test_one_and_one_point_zero_differ():
    assert identity.fingerprint("x", {"a": 1}) != identity.fingerprint("x", {"a": 1.0})


def test_every_frozen_default_is_still_a_field():
    for kind, model in {"model": DenseSpec, "recipe": Recipe}.items():
        assert set(identity.FROZEN[kind]) <= set(model.model_fields)
