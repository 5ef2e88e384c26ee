"""Models of other families, exported: their own class for transformers, a train.py that runs."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from handed import planted_handoff
from safetensors.torch import load_file
from test_training import spec_of

from windtunnel.config import Recipe, Size
from windtunnel.config.model import ModelFamily
from windtunnel.errors import ConfigError
from windtunnel.export.targets import hf, megatron, nanotron, torchtitan
from windtunnel.export.targets import torch as torch_target
from windtunnel.model import build, initialise
from windtunnel.mup import Role

FAMILIES = ("llama", "qwen3", "olmo2", "gpt2", "granite")
NO_SITES = {"scale_emb": 12.0, "scale_depth": 1.4}


def handoff_of(spec):
    return planted_handoff(model=spec, recipe=NO_SITES)


def own(name="Sound", size="64x2"):
    """The spec of a class of one's own."""
    size = Size.parse(size)
    family = ModelFamily(family=f"faulty:{name}", sizes=(size,), context=32)
    return family.spec(size, vocab_size=128)


def loaded(folder, name):
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_transformers_loads_it_as_its_own_class(family, tied, tmp_path):
    from transformers import AutoModelForCausalLM

    handoff = handoff_of(spec_of(family, tied=tied))
    hf.write(handoff, tmp_path, init_seed=5)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=False)
    assert model.config.model_type == family
    ours = build(handoff.model, handoff.recipe)
    initialise(ours, handoff.recipe, init_seed=5)
    tokens = torch.arange(32).reshape(1, 32)
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, ours.logits(tokens))
    groups = loaded(tmp_path, "param_groups").param_groups(model)
    roles = ours.roles()
    named = {weight: name for name, weight in model.named_parameters()}
    for group in groups:
        assert {roles[named[weight]] for weight in group["params"]} == {group["role"]}
        assert group["lr"] == handoff.roles[group["role"]].lr
    assert sum(len(group["params"]) for group in groups) == len(roles)


@pytest.mark.parametrize("spec", [*FAMILIES, "Sound", "Views"])
def test_train_py_is_the_model_and_its_init(spec, tmp_path):
    spec = own(spec) if spec in {"Sound", "Views"} else spec_of(spec)
    handoff = handoff_of(spec)
    torch_target.write(handoff, tmp_path)
    reference = loaded(tmp_path, "train")
    theirs, ours = reference.Model(), build(handoff.model, handoff.recipe)
    reference.initialise(theirs, 3)
    initialise(ours, handoff.recipe, init_seed=3)
    mine, roles = ours.weights(), ours.roles()
    found = dict(theirs.network.named_parameters())
    assert list(found) == list(mine)
    for name, weight in found.items():
        assert torch.equal(weight, mine[name]), name
        assert weight.role == roles[name]
    rows = torch.from_numpy(np.random.default_rng(0).integers(0, 128, size=(4, 33)))
    assert theirs(rows).item() == ours(rows).item()
    assert len((tmp_path / "train.py").read_text().splitlines()) < 130


def test_train_py_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    handoff = handoff_of(spec_of("llama", tied=True))
    torch_target.write(handoff, tmp_path)
    rows = np.random.default_rng(0).integers(0, 128, size=(300, 33))
    np.save(tmp_path / "rows.npy", rows)

    def run(out, steps):
        options = ["--data", tmp_path / "rows.npy", "--out", tmp_path / out, "--steps", steps]
        monkeypatch.setattr("sys.argv", ["train.py", *map(str, options)])
        loaded(tmp_path, "train").main()
        return capsys.readouterr().out

    whole = run("whole", 12)
    assert run("parts", 5) + run("parts", 12) == whole
    ends = [load_file(tmp_path / each / "000000012.safetensors") for each in ("whole", "parts")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize(
    ("target", "name"), [(megatron, "megatron"), (nanotron, "nanotron"), (torchtitan, "torchtitan")]
)
def test_trainers_without_the_architecture_say_so(target, name, tmp_path):
    with pytest.raises(ConfigError) as refused:
        target.write(handoff_of(spec_of("olmo2")), tmp_path)
    assert refused.value.code == "unsupported-model"
    assert refused.value.values == {
        "target": name,
        "field": "family",
        "value": "hf:olmo2",
        "allowed": ["minicpm", "hf:granite", "hf:llama", "hf:mistral", "hf:qwen3"],
    }
    assert not any(tmp_path.iterdir())


def test_a_class_of_ones_own_is_not_written_for_transformers(tmp_path):
    with pytest.raises(ConfigError) as refused:
        hf.write(handoff_of(own()), tmp_path)
    assert refused.value.code == "unsupported-model"


def test_the_handoff_carries_the_family():
    handoff = handoff_of(spec_of("qwen3"))
    document = json.loads(handoff.to_json())
    assert document["model"]["family"] == "hf:qwen3"
    assert type(handoff).model_validate_json(handoff.to_json()).model == handoff.model
    assert handoff.roles["readout"].lr == pytest.approx(
        Recipe(**document["recipe"]).lr / handoff.width_ratio
    )


def test_a_handoff_of_experts_counts_both_and_has_the_std_of_their_router():
    size = Size.parse("64x2")
    family = ModelFamily(
        family="minicpm-moe", shape={"router_std": 0.3}, sizes=(size,), context=32, head_dim=16
    )
    handoff = handoff_of(family.spec(size, vocab_size=128))
    assert handoff.roles[Role.ROUTER].init_std == 0.3
    assert handoff.counts.params_total > handoff.counts.params == handoff.counts.params_active
