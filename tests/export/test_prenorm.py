"""Models of transformers that are the trainers' decoder: the same arithmetic, the same numbers."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
import yaml
from handed import built_in, load_reference, planted_handoff, transformers_spec
from test_hf_target import ours_of
from test_megatron import numbers, values

from windtunnel.errors import ConfigError
from windtunnel.export.prenorm import QK_NORM, prenorm_decoder
from windtunnel.export.targets import megatron, nanotron, torchtitan
from windtunnel.export.targets.nanotron import CONFIG
from windtunnel.model.hf import HuggingFace
from windtunnel.mup import Role

TARGETS = {"megatron": megatron, "nanotron": nanotron, "torchtitan": torchtitan}
UPDATES = 12


def losses(module, model, rows):
    """Of its own loop, with the rates of the schedule's peak."""
    optimizer = torch.optim.AdamW(module.param_groups(model))
    found = []
    for batch in rows.split(module.ROWS):
        loss = model(batch)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), module.CLIP)
        optimizer.step()
        optimizer.zero_grad()
        found.append((loss.item(), norm.item()))
    return np.array(found)


@pytest.mark.parametrize("shape", [{}, {"kv_heads": 6, "ffn_ratio": 2.75}])
@pytest.mark.parametrize("name", QK_NORM)
def test_it_trains_as_the_built_in_decoder_does(name, shape, tmp_path):
    """The class of transformers beside the arithmetic that every trainer is tested against."""
    handoff = planted_handoff(model=transformers_spec(name, **shape))
    twin = built_in(handoff)
    modules = [load_reference(each, tmp_path / each.model.__class__.__name__) for each in
               (handoff, twin)]  # fmt: skip
    theirs, ours = (module.Model() for module in modules)
    modules[0].initialise(theirs, 3)
    mine, filled = dict(ours.named_parameters()), 0
    with torch.no_grad():
        for each, weight in theirs.network.named_parameters():
            own, part = ours_of(each, twin.model)
            mine[own][part] = weight
            assert mine[own].role == weight.role, each
            filled += weight.numel()
    assert filled == sum(weight.numel() for weight in mine.values())
    rows = np.random.default_rng(0).integers(0, 256, size=(UPDATES * 8, 33))
    rows = torch.from_numpy(rows)
    with torch.no_grad():
        expected, found = ours.logits(rows[:4, :-1]), theirs.logits(rows[:4, :-1])
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        losses(modules[0], theirs, rows), losses(modules[1], ours, rows), rtol=1e-3
    )


@pytest.mark.parametrize("name", ["llama", "qwen3"])
@pytest.mark.parametrize("parametrization", ["mup", "standard"])
def test_megatron_has_the_rates_of_each_role(name, parametrization, write_target):
    """Its muP scales nothing at ratio 1; at another, --mup-output-mult 1 becomes 1 / ratio."""
    handoff = planted_handoff(
        model=transformers_spec(name), recipe={"parametrization": parametrization}
    )
    folder = write_target("megatron", handoff)
    options, roles, flags = numbers(folder), handoff.roles, values(folder)
    assert ("--qk-layernorm" in flags) is (name == "qwen3")
    assert "--untie-embeddings-and-output-weights" in flags
    ones = ("--mup-embedding-mult", "--mup-output-mult", "--windtunnel-residual-mult")
    assert {options[each] for each in ones} == {1.0}
    assert options["--mup-base-hidden-size"] == options["--hidden-size"] == 96
    assert options["--mup-base-head-dim"] ** 0.5 / 16 == 16**-0.5  # transformers' own scale
    hidden, readout, embedding = roles[Role.HIDDEN], roles[Role.READOUT], roles[Role.EMBEDDING]
    lr, decay = options["--lr"], options["--weight-decay"]
    assert (lr, decay, options["--adam-eps"]) == (
        embedding.lr, embedding.weight_decay, embedding.eps,
    )  # fmt: skip
    assert options["--windtunnel-vector-eps"] == roles[Role.GAIN].eps == hidden.eps
    assert options["--embedding-init-method-std"] == embedding.init_std
    assert options["--init-method-std"] == hidden.init_std
    assert decay * options["--windtunnel-matrix-wd-mult"] == pytest.approx(hidden.weight_decay)
    assert options["--norm-epsilon"] == 1e-5
    if parametrization == "standard":
        assert readout == embedding
        assert lr == hidden.lr
        assert not any("readout" in option or "lr-mult" in option for option in options)
        return
    assert lr * options["--windtunnel-matrix-lr-mult"] == pytest.approx(hidden.lr)
    assert lr * options["--windtunnel-readout-lr-mult"] == pytest.approx(readout.lr)
    assert options["--windtunnel-readout-weight-decay"] == readout.weight_decay
    assert options["--windtunnel-readout-eps"] == readout.eps
    assert options["--windtunnel-readout-init-std"] == readout.init_std
    assert readout.init_std == pytest.approx(embedding.init_std / 3)
    for file in folder.iterdir():
        assert max(map(len, file.read_text().splitlines())) <= 120, file.name


def test_megatrons_own_mup_serves_a_family_with_all_factors(write_target):
    """Granite's arguments are those of the built-in decoder, to the letter."""
    handoff = planted_handoff(model=transformers_spec("granite"))
    folder = write_target("megatron", handoff)
    text = {file.name: file.read_text() for file in folder.iterdir()}
    for file in folder.iterdir():
        file.unlink()
    megatron.write(built_in(handoff), folder)
    assert text == {file.name: file.read_text() for file in folder.iterdir()}


def test_nanotron_has_the_values_of_each_role(write_target):
    handoff = planted_handoff(model=transformers_spec("llama", fields={"rms_norm_eps": 2e-6}))
    found = yaml.safe_load((write_target("nanotron", handoff) / CONFIG).read_text())
    tunnel, model = found["windtunnel"], found["model"]["model_config"]
    for role, role_values in handoff.roles.items():
        assert tunnel[role] == role_values.model_dump()
    assert tunnel["multipliers"] == {
        "embed": 1.0, "residual": 1.0, "logits": 1.0, "attention": 0.25,
    }  # fmt: skip
    assert (model["rms_norm_eps"], model["tie_word_embeddings"]) == (2e-6, False)
    assert (model["num_attention_heads"], model["num_key_value_heads"]) == (6, 2)


def test_fields_of_the_configuration_are_carried():
    fields = {"num_attention_heads": 4, "intermediate_size": 200, "rms_norm_eps": 3e-6}
    handoff = planted_handoff(model=transformers_spec("qwen3", fields=fields, rope_base=5e5))
    found = asdict(prenorm_decoder(handoff, "megatron"))
    assert found.pop("sites").model_dump() == {
        "embed": 1.0, "residual": 1.0, "logits": 1.0, "attention": 0.25,
    }  # fmt: skip
    assert found == {
        "family": "hf:qwen3", "size": "96x3", "width": 96, "depth": 3, "num_heads": 4,
        "kv_heads": 2, "head_dim": 16, "ffn_width": 200, "vocab_size": 256, "context": 32,
        "rope_base": 5e5, "norm_eps": 3e-6, "tied": False, "qk_norm": True,
    }  # fmt: skip


def refused(handoff, target, folder):
    with pytest.raises(ConfigError) as caught:
        TARGETS[target].write(handoff, folder)
    assert caught.value.code == "unsupported-model"
    assert not any(folder.iterdir())
    found = dict(caught.value.values)
    assert found.pop("target") == target
    json.dumps(found)
    return found


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("name", "given", "allowed"),
    [
        ("llama", ("attention_bias", True), [False]),
        ("llama", ("mlp_bias", True), [False]),
        ("llama", ("hidden_act", "gelu"), ["silu", "swish"]),
        ("llama", ("pad_token_id", 0), [None]),
        ("llama", ("chunk_size_feed_forward", 8), []),
        ("granite", ("attention_bias", True), [False]),
        ("mistral", ("sliding_window", 16), [">= 32"]),
    ],
)
def test_a_field_that_no_trainer_follows_is_refused(target, name, given, allowed, tmp_path):
    field, value = given
    handoff = planted_handoff(model=transformers_spec(name, fields={field: value}))
    assert refused(handoff, target, tmp_path) == {
        "field": field, "value": value, "allowed": allowed,
    }  # fmt: skip


@pytest.mark.parametrize("window", [16, 32])
def test_a_window_as_long_as_the_context_hides_nothing(window, tmp_path):
    fields = {"use_sliding_window": True, "sliding_window": window, "max_window_layers": 1}
    handoff = planted_handoff(model=transformers_spec("qwen3", fields=fields))
    if window < 32:
        assert refused(handoff, "megatron", tmp_path)["field"] == "sliding_window"
    else:
        assert megatron.write(handoff, tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("rope_type", "linear", ["default"]),
        ("partial_rotary_factor", 0.5, [1.0]),
        ("factor", 8.0, []),
    ],
)
def test_a_rotary_embedding_of_another_kind_is_refused(
    field, value, allowed, tmp_path, monkeypatch
):
    """A study cannot ask for one; a configuration class may have one as its default."""
    handoff, made = planted_handoff(model=transformers_spec("llama")), HuggingFace.configuration

    def configuration(*args):
        found = made(*args)
        return found | {"rope_parameters": found["rope_parameters"] | {field: value}}

    monkeypatch.setattr(HuggingFace, "configuration", configuration)
    assert refused(handoff, "torchtitan", tmp_path) == {
        "field": f"rope_parameters.{field}", "value": value, "allowed": allowed,
    }  # fmt: skip


def test_what_one_trainer_lacks(tmp_path):
    qwen3 = planted_handoff(model=transformers_spec("qwen3"))
    assert refused(qwen3, "nanotron", tmp_path) == {"field": "family", "value": "hf:qwen3"}
    narrow = planted_handoff(model=transformers_spec("llama", fields={"num_attention_heads": 4}))
    assert refused(narrow, "nanotron", tmp_path) == {
        "field": "head_dim", "value": 16, "allowed": [24],
    }  # fmt: skip
    halved = planted_handoff(model=transformers_spec("llama", rope_base=10000.5))
    assert refused(halved, "megatron", tmp_path) == {"field": "rope_base", "value": 10000.5}
