"""The hf target through transformers itself, against our decoder, our loop and train.py."""

import importlib.util
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from handed import load_reference, planted_handoff
from safetensors.torch import load_file
from test_torch_target import our_losses, text_rows
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from transformers.utils import logging

from windtunnel.errors import ConfigError
from windtunnel.export.targets import hf

logging.disable_progress_bar()

HANDOFFS = {
    "tied": {},
    "untied": {"model": {"tied": False}},
    "one kv head": {"model": {"kv_heads": 1}},
    "no grouping": {"model": {"kv_heads": 6}},
    "base width": {"model": {"width": 32, "depth": 1}},
    "deep": {"model": {"width": 64, "depth": 9, "context": 100}},
    "wider heads": {"model": {"width": 128, "head_dim": 64}},  # compensated: proxies have 16
    "standard": {"recipe": {"parametrization": "standard"}},
    "spectral keys": {"recipe": {"kv_rule": "spectral"}},
    "completep": {"recipe": {"parametrization": "completep", "base_depth": 2}},
}

THEIRS = {  # Granite's names, by hand: (our parameter, which part of its rows)
    r"model\.embed_tokens\.weight": ("embedding", None),
    r"model\.norm\.weight": ("norm_final", None),
    r"lm_head\.weight": ("readout", None),
    r"model\.layers\.(\d+)\.input_layernorm\.weight": ("blocks.{}.norm_attention", None),
    r"model\.layers\.(\d+)\.post_attention_layernorm\.weight": ("blocks.{}.norm_ffn", None),
    r"model\.layers\.(\d+)\.self_attn\.q_proj\.weight": ("blocks.{}.qkv", "q"),
    r"model\.layers\.(\d+)\.self_attn\.k_proj\.weight": ("blocks.{}.qkv", "k"),
    r"model\.layers\.(\d+)\.self_attn\.v_proj\.weight": ("blocks.{}.qkv", "v"),
    r"model\.layers\.(\d+)\.self_attn\.q_norm\.weight": ("blocks.{}.norm_q", None),
    r"model\.layers\.(\d+)\.self_attn\.k_norm\.weight": ("blocks.{}.norm_k", None),
    r"model\.layers\.(\d+)\.self_attn\.o_proj\.weight": ("blocks.{}.out", None),
    r"model\.layers\.(\d+)\.mlp\.gate_proj\.weight": ("blocks.{}.gate_up", "gate"),
    r"model\.layers\.(\d+)\.mlp\.up_proj\.weight": ("blocks.{}.gate_up", "up"),
    r"model\.layers\.(\d+)\.mlp\.down_proj\.weight": ("blocks.{}.down", None),
}


def ours_of(name, shape):
    """Our parameter and its rows behind one of Granite's."""
    ((own, part),) = [
        (own.format(*found.groups()), part)
        for pattern, (own, part) in THEIRS.items()
        if (found := re.fullmatch(pattern, name))
    ]
    heads, kv, ffn = shape.width, shape.kv_heads * shape.head_dim, shape.ffn_width
    rows = {
        None: slice(None),
        "q": slice(0, heads),
        "k": slice(heads, heads + kv),
        "v": slice(heads + kv, heads + 2 * kv),
        "gate": slice(0, ffn),
        "up": slice(ffn, 2 * ffn),
    }
    return own, rows[part]


def written(handoff, folder: Path, **options) -> Path:
    folder.mkdir()
    files = hf.write(handoff, folder, **options)
    assert sorted(files) == sorted(folder.iterdir())
    return folder


def loaded(folder):
    """The model as a user loads it; nothing may be missing or left over."""
    model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    return model


def helper(folder):
    """The written param_groups.py, as a module."""
    spec = importlib.util.spec_from_file_location("param_groups", folder / "param_groups.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", HANDOFFS)
def test_logits_loss_and_initial_weights_are_ours(name, tmp_path):
    handoff = planted_handoff(**HANDOFFS[name])
    reference = load_reference(handoff, tmp_path / "reference")
    ours = reference.Model()
    reference.initialise(ours, 7)
    theirs = loaded(written(handoff, tmp_path / "hf", init_seed=7))
    mine, seen = dict(ours.named_parameters()), 0
    for theirs_name, weight in theirs.named_parameters():
        own, rows = ours_of(theirs_name, handoff.model)
        assert torch.equal(weight, mine[own][rows]), theirs_name
        seen += weight.numel()
    assert seen == sum(weight.numel() for weight in mine.values())
    rows = torch.from_numpy(text_rows(4, handoff.model.context))
    with torch.no_grad():
        expected, found = ours.logits(rows[:, :-1]), theirs(rows[:, :-1]).logits
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert expected.std() > 0.1
        loss = theirs(input_ids=rows, labels=rows).loss.item()
    assert loss == pytest.approx(ours(rows).item(), rel=1e-6)


@pytest.mark.parametrize("name", HANDOFFS)
def test_rates_decays_stds_and_factors_are_those_of_train_py(name, tmp_path):
    handoff = planted_handoff(**HANDOFFS[name])
    reference = load_reference(handoff, tmp_path / "reference")
    folder = written(handoff, tmp_path / "hf")
    model, written_helper = loaded(folder), helper(folder)
    role_of = {name: weight.role for name, weight in reference.Model().named_parameters()}
    ours = {group["role"]: group for group in reference.param_groups(reference.Model())}
    names = {weight: name for name, weight in model.named_parameters()}
    groups = AdamW(written_helper.param_groups(model)).param_groups
    assert sum(len(group["params"]) for group in groups) == len(names)
    for group in groups:
        for weight in group["params"]:
            theirs = names[weight]
            own, _ = ours_of(theirs, handoff.model)
            role = role_of[own]
            for key in ("lr", "weight_decay", "eps", "betas", "init_std"):
                assert group[key] == ours[role][key], (theirs, key)
            if weight.numel() > 500 and role != "gain":
                of_kv = re.search(r"\.[kv]_proj", theirs)
                std = handoff.kv_init_std if of_kv else group["init_std"]
                deviation = weight.std().item() / std - 1
                assert abs(deviation) < 5 / math.sqrt(2 * weight.numel()), theirs
            elif role == "gain":
                assert (weight == 1).all()
    assert model.model.embedding_multiplier == reference.EMBED
    for layer in model.model.layers:
        assert layer.residual_multiplier == reference.RESIDUAL
        assert layer.self_attn.scaling == reference.ATTENTION
        assert layer.input_layernorm.variance_epsilon == 1e-5
    assert 1 / model.config.logits_scaling == pytest.approx(reference.LOGITS, rel=1e-15)
    assert model.config.rope_parameters["rope_theta"] == reference.ROPE_BASE
    assert written_helper.SPEC["clip"] == reference.CLIP
    assert written_helper.SPEC["batch"]["rows"] == reference.ROWS
    assert model.lm_head.weight is model.model.embed_tokens.weight or not handoff.model.tied


@pytest.mark.parametrize("shape", ["exponential", "linear", "one_minus_sqrt", "cosine"])
def test_the_schedule_is_ours_and_the_helper_is_short(shape, tmp_path):
    handoff = planted_handoff(schedule={"shape": shape, "decay_fraction": 0.25}, end=80)
    folder = written(handoff, tmp_path / "hf")
    theirs, ours = helper(folder), handoff.schedule.schedule
    assert [theirs.schedule(step) for step in range(80)] == [ours(step) for step in range(80)]
    assert {theirs.schedule(step) for step in (80, 81, 50_000)} == {handoff.schedule.final_factor}
    assert len((folder / "param_groups.py").read_text().splitlines()) <= 30


def test_a_parameter_without_a_group_is_an_error(tmp_path):
    folder = written(planted_handoff(), tmp_path / "hf")
    model = loaded(folder)
    model.adapter = torch.nn.Linear(4, 4)
    with pytest.raises(AssertionError, match=r"adapter\.weight: in 0 groups"):
        helper(folder).param_groups(model)


@pytest.mark.parametrize("name", ["tied", "untied", "wider heads", "standard"])
@pytest.mark.medium
def test_updates_match_our_loop(name, tmp_path):
    """Through the end of warmup and the whole decay."""
    head_dim = 64 if name == "wider heads" else 16  # our own loop compensates nothing
    handoff = planted_handoff(**HANDOFFS[name], proxy_head_dim=head_dim, end=30)
    rows = text_rows(240, handoff.model.context)
    folder = written(handoff, tmp_path / "hf", init_seed=3)
    model, ours = loaded(folder), helper(folder)
    optimizer = AdamW(ours.param_groups(model))
    rate = LambdaLR(optimizer, ours.schedule)
    losses, norms = [], []
    for step in range(30):
        batch = torch.from_numpy(rows[step * 8 : step * 8 + 8])
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), ours.SPEC["clip"]).item())
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    expected, expected_norms = our_losses(handoff, rows, 30)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(norms[:10], expected_norms[:10], rtol=1e-4)
    assert expected[-1] < expected[0] - 1.0  # it has learnt: matching at the start would not do


@pytest.mark.medium
def test_a_trainer_run_matches_our_loop(tmp_path):
    """Two micro-batches an update: what it divides by is then its own count of the labels."""
    handoff = planted_handoff(end=30)
    rows = text_rows(80, handoff.model.context)
    folder = written(handoff, tmp_path / "hf", init_seed=3)
    model, ours = loaded(folder), helper(folder)
    optimizer = AdamW(ours.param_groups(model))
    args = TrainingArguments(
        output_dir=str(tmp_path / "run"),
        per_device_train_batch_size=handoff.batch.rows // 2,
        gradient_accumulation_steps=2,
        max_grad_norm=ours.SPEC["clip"],
        max_steps=10,
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(
        model,
        args,
        train_dataset=[{"input_ids": row, "labels": row} for row in rows.tolist()],
        optimizers=(optimizer, LambdaLR(optimizer, ours.schedule)),
    )
    trainer.train()
    found = [log for log in trainer.state.log_history if "grad_norm" in log]
    losses, norms = our_losses(handoff, rows, 10, micro_rows=4)
    np.testing.assert_allclose([log["loss"] for log in found], losses, rtol=1e-5)
    np.testing.assert_allclose([log["grad_norm"] for log in found], norms, rtol=1e-4)


def test_shards_hold_the_same_weights_and_no_more_than_they_may(tmp_path):
    handoff = planted_handoff(model={"tied": False})
    whole = load_file(written(handoff, tmp_path / "one") / "model.safetensors")
    folder = written(handoff, tmp_path / "many", shard_bytes=200_000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    shards = sorted(folder.glob("model-*.safetensors"))
    count = len(shards)
    assert count > 5
    assert [each.name for each in shards] == [
        f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)
    ]
    for shard in shards:
        tensors = load_file(shard)
        assert sum(4 * tensor.numel() for tensor in tensors.values()) <= 200_000
        for name, tensor in tensors.items():
            assert index["weight_map"][name] == shard.name
            assert torch.equal(tensor, whole.pop(name))
    assert not whole
    loaded(folder)


def in_a_new_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],  # where handed.py lies
    )
    return done.stdout.strip()


@pytest.mark.medium
def test_it_imports_neither_torch_nor_transformers_until_it_writes():
    code = "import sys, windtunnel.export.targets.hf\nprint([m for m in {} if m in sys.modules])"
    assert in_a_new_process(code.format(("torch", "transformers"))) == "[]"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's peak of memory")
def test_the_whole_model_is_never_in_memory(tmp_path):
    """60M parameters are 240 MB; the largest matrix is 5 MB."""
    code = f"""
import sys
sys.path.insert(0, ".")
from pathlib import Path
from handed import planted_handoff
from windtunnel.export.targets import hf, hf_weights

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1e3

small, large = planted_handoff(), planted_handoff(model={{"width": 512, "depth": 20}})
hf.write(small, Path({str(tmp_path)!r}))
before = peak()
hf.write(large, Path({str(tmp_path)!r}))
print(peak() - before)
"""
    grown_mb = float(in_a_new_process(code))
    assert (tmp_path / "model.safetensors").stat().st_size > 200e6
    assert grown_mb < 100


def test_models_without_an_equal_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError) as caught:
        hf.write(planted_handoff(model={"qk_norm": True}), tmp_path)
    assert (caught.value.code, caught.value.values["field"]) == ("unsupported-model", "qk_norm")
    with pytest.raises(ConfigError) as caught:
        hf.write(planted_handoff(model={"width": 2**20}), tmp_path)
    assert caught.value.code == "disk-too-small"
    assert caught.value.values["needed_bytes"] > caught.value.values["free_bytes"]
    assert not list(tmp_path.iterdir())
