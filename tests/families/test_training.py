"""Families of transformers in training: equal to a plain loop, and muP without multipliers."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from windtunnel.config import FamilySpec, Recipe, Size, Trunk
from windtunnel.config.model import ModelFamily
from windtunnel.config.study import Resources
from windtunnel.export.diagnostics import of_families
from windtunnel.findings.records import axis_value
from windtunnel.model import build, initialise
from windtunnel.model.native import compiler
from windtunnel.mup import Role
from windtunnel.runs.plan import PlannedSegment
from windtunnel.train.execution import decide
from windtunnel.train.step import TrainStep, untrained

RECIPE = Recipe(lr=8e-3, base_width=32, batch_tokens=128, warmup_steps=3)
FAMILIES = ("llama", "qwen3", "olmo2", "gpt2", "granite")
UPDATES, ROWS = 10, 4


def spec_of(family, size="64x2", **fields):
    """The model of one size of a family of transformers."""
    size = Size.parse(size)
    shape = {"head_dim": 16, "context": 32, "tied": False} | fields
    made = ModelFamily(family=f"hf:{family}", sizes=(size,), **shape)
    return made.spec(size, vocab_size=128)


def rows(number, context=32, vocab_size=128):
    rng = np.random.default_rng(number)
    return rng.integers(0, vocab_size, size=(ROWS, context + 1))


@pytest.mark.parametrize("family", FAMILIES)
def test_counts_are_those_of_transformers(family):
    spec = spec_of(family)
    network = build(spec, RECIPE).network.decoder
    assert spec.params + spec.params_embedding == network.num_parameters()
    tables = {network.get_input_embeddings().weight, network.get_output_embeddings().weight}
    if family == "gpt2":
        tables.add(network.transformer.wpe.weight)
    assert spec.params_embedding == sum(table.numel() for table in tables)


def test_flops_of_llama_are_those_of_the_built_in_decoder():
    ours = ModelFamily(sizes=(Size(64, 2),), head_dim=16, context=32, tied=False)
    built_in = ours.spec(Size(64, 2), vocab_size=128)
    found = spec_of("llama")
    assert found.params == built_in.params
    assert found.flops_exact_per_token == built_in.flops_exact_per_token


@pytest.mark.parametrize("family", ["llama", "qwen3", "olmo2"])
def test_ten_updates_are_those_of_a_plain_loop(family):
    """The same transformers class, torch's AdamW, the role table's numbers written out here."""
    spec = spec_of(family)
    step = untrained(spec, RECIPE, seed=3)
    network = build(spec, RECIPE)
    initialise(network, RECIPE, init_seed=3)
    decoder, m = network.network.decoder, 2.0
    groups = {"embed": [], "matrix": [], "head": [], "vector": []}
    for name, weight in decoder.named_parameters():
        if "embed_tokens" in name:
            groups["embed"].append(weight)
        elif "lm_head" in name:
            groups["head"].append(weight)
        else:
            groups["vector" if weight.ndim == 1 else "matrix"].append(weight)
    optimizer = torch.optim.AdamW(
        [
            {"params": groups["embed"], "lr": 8e-3, "weight_decay": 0.1, "eps": 1e-8 / m},
            {"params": groups["matrix"], "lr": 8e-3 / m, "weight_decay": 0.1 * m, "eps": 1e-8 / m},
            {"params": groups["head"], "lr": 8e-3 / m, "weight_decay": 0.1 * m, "eps": 1e-8},
            {"params": groups["vector"], "lr": 8e-3, "weight_decay": 0.0, "eps": 1e-8 / m},
        ],
        betas=(0.9, 0.95),
    )
    peak = [group["lr"] for group in optimizer.param_groups]
    for update in range(UPDATES):
        factor = min(1.0, (update + 1) / 3)
        ours, _ = step.update(rows(update), factor)
        tokens = torch.from_numpy(rows(update))
        logits = decoder(input_ids=tokens[:, :-1], use_cache=False).logits
        loss = functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        for group, rate in zip(optimizer.param_groups, peak, strict=True):
            group["lr"] = rate * factor
        optimizer.step()
        optimizer.zero_grad()
        assert float(ours) == pytest.approx(float(loss.detach()), rel=1e-6), update


@pytest.mark.slow
@pytest.mark.skipif(compiler() is None, reason="no C++ compiler")
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_compiled_network_has_the_same_losses(family):
    """As one graph, which `compile: always` asks for; whether others are one, nobody knows."""
    found = []
    for choice in ("never", "always"):
        spec, resources = spec_of(family), Resources(device="cpu", kernels="torch", compile=choice)
        step = TrainStep(spec, RECIPE, decide(resources, spec, RECIPE, planned_tokens=0))
        assert step.execution.compile is (choice == "always")
        trunk = Trunk(model=spec, recipe=RECIPE, stream="none", init_seed=3, data_seed=3)
        step.state.start(trunk)
        losses = [float(step.update(rows(update), 1.0)[0]) for update in range(UPDATES)]
        found.append([*losses, float(step.loss(rows(99)))])
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_init_and_rates_alone_are_the_training_with_multipliers():
    """Llama under muP, once as it is, and once with logits / m and an unscaled readout."""
    recipe = RECIPE.replace(clip=1e6)  # the clip alone sees the readout's other gradient
    spec = spec_of("llama", "128x2")
    alone, scaled = untrained(spec, recipe, seed=3), untrained(spec, recipe, seed=3)
    state, m = scaled.state, 4.0
    head = state.model.network.decoder.lm_head
    with torch.no_grad():
        head.weight.mul_(m)
    head.register_forward_hook(lambda module, given, logits: logits / m)
    for group in state.groups:
        if group["role"] is Role.READOUT:
            state.base_lr[Role.READOUT] *= m
            group["weight_decay"] /= m
            group["eps"] /= m
    for update in range(UPDATES):
        factor = min(1.0, (update + 1) / 3)
        one, _ = alone.update(rows(update), factor)
        other, _ = scaled.update(rows(update), factor)
        assert float(one) == pytest.approx(float(other), rel=2e-5), update


def test_granites_sites_are_our_forward_factors():
    """The built-in decoder's weights in a Granite that carries every multiplier: equal losses."""
    recipe = RECIPE.replace(scale_emb=4.0)
    spec = spec_of("granite", shape={"rms_norm_eps": 1e-5})
    assert spec.sites == {"embed", "residual", "attention", "logits"}
    granite = build(spec, recipe)
    ours = ModelFamily(sizes=(Size(64, 2),), head_dim=16, context=32, tied=False)
    decoder = build(ours.spec(Size(64, 2), vocab_size=128), recipe)
    initialise(decoder, recipe, init_seed=0)
    weights = granite.weights()
    with torch.no_grad():
        for name, value in as_llama(decoder.weights()):
            weights[name].copy_(value)
    tokens = torch.from_numpy(rows(0))
    assert granite(tokens).item() == pytest.approx(decoder(tokens).item(), rel=1e-6)


def as_llama(weights):
    """The built-in decoder's weights by the names of Llama's layout."""
    whole = {"embedding": "model.embed_tokens", "norm_final": "model.norm", "readout": "lm_head"}
    of_block = {
        "norm_attention": ["input_layernorm"],
        "qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        "out": ["self_attn.o_proj"],
        "norm_ffn": ["post_attention_layernorm"],
        "gate_up": ["mlp.gate_proj", "mlp.up_proj"],
        "down": ["mlp.down_proj"],
    }
    for name, weight in weights.items():
        if name in whole:
            yield f"{whole[name]}.weight", weight
            continue
        _, block, kind = name.split(".")
        for part, value in zip(of_block[kind], weight.chunk(len(of_block[kind])), strict=True):
            yield f"model.layers.{block}.{part}.weight", value


def test_an_id_is_of_what_computes():
    """Facts follow from the shape; family, version and own fields are identity."""
    spec = spec_of("llama")
    trunk = Trunk(model=spec, recipe=RECIPE, stream="none", init_seed=0, data_seed=0)

    def with_model(**changes):
        return trunk.replace(model=spec.model_copy(update=changes)).id

    assert with_model(facts=spec.facts.replace(params=1)) == trunk.id
    for changes in ({"version": "2"}, {"family": "hf:mistral"}, {"fields": {"head_dim": 8}}):
        assert with_model(**changes) != trunk.id
    no_effect = RECIPE.replace(scale_emb=3.0, scale_depth=1.0, kv_rule="spectral")
    assert trunk.replace(recipe=no_effect).id == trunk.id
    assert Trunk.model_validate(trunk.model_dump(mode="json")) == trunk


def test_a_record_is_read_without_the_class():
    """What a store holds of a family needs no class to be read."""
    spec = spec_of("llama").model_copy(update={"family": "gone.away:Class"})
    read = FamilySpec.model_validate_json(spec.model_dump_json())
    assert read == spec
    assert (read.params, read.roles, read.sites) == (spec.params, spec.roles, spec.sites)


def test_another_context_and_base():
    spec = spec_of("llama")
    longer = spec.with_context(64, 5e4)
    assert (longer.context, longer.rotary_base) == (64, 5e4)
    assert longer.flops_exact_per_token > spec.flops_exact_per_token
    assert longer.params == spec.params


def test_what_is_given_is_known_by_its_axis():
    """A grid over a shape field finds its values, whatever the family makes of them."""
    spec = spec_of("llama", heads_per_kv=2, ffn_ratio=3.0, shape={"rms_norm_eps": 1e-5})
    segment = PlannedSegment(
        segment=Trunk(model=spec, recipe=RECIPE, stream="none", init_seed=0, data_seed=0),
        end=1,
        labels=(),
    )
    axes = {"heads_per_kv": 2, "ffn_ratio": 3.0, "tied": False, "shape.rms_norm_eps": 1e-5}
    assert {axis: axis_value(segment, f"model.{axis}") for axis in axes} == axes
    same = spec.model_copy(update={"given": {}})
    assert segment.segment.replace(model=same).id == segment.id


def test_a_target_of_another_family_or_field_is_told():
    studied = [spec_of("llama"), spec_of("llama", "32x2")]
    assert of_families(spec_of("llama", "128x2"), studied) == {}
    assert of_families(spec_of("qwen3"), studied)["family"] == ("hf:qwen3", "hf:llama")
    other = of_families(spec_of("llama", ffn_ratio=4.0), studied)
    assert other == {"ffn_ratio": (4.0, 2.5)}


def test_fields_follow_the_width_or_the_size():
    sizes = (Size(32, 2), Size(64, 2))
    family = ModelFamily(
        family="hf:opt",
        sizes=sizes,
        head_dim=16,
        context=32,
        tied=False,
        shape={"word_embed_proj_dim": {"per_width": 1}, "activation_function": "gelu"},
    )
    found = [family.spec(size, vocab_size=64).fields["word_embed_proj_dim"] for size in sizes]
    assert found == [32, 64]
    by_size = family.replace(shape={"word_embed_proj_dim": {"32x2": 32, "64x2": 64}})
    assert by_size.spec(sizes[1], vocab_size=64).fields["word_embed_proj_dim"] == 64
