"""The nanotron target's files by themselves; test_nanotron_installed.py has nanotron's own code."""

import ast
import json
import math
import re
from pathlib import Path

import pytest
import yaml
from handed import planted_handoff
from ruamel.yaml import YAML

from windtunnel.errors import ConfigError
from windtunnel.export.handoff import Kept
from windtunnel.export.targets.nanotron import COMMIT, CONFIG, ENTRY, number, spectral_rows, write

UNTIED = {"tied": False}


def both_ways(folder: Path) -> dict:
    """The YAML as PyYAML (1.1, nanotron's reader) loads it, checked against YAML 1.2."""
    text = (folder / CONFIG).read_text()
    old, new = yaml.safe_load(text), YAML(typ="safe").load(text)
    assert json.dumps(old) == json.dumps(new)
    return old


@pytest.mark.parametrize("value", [1e-5, 1e-9, 2.5e-12, 3e22, 0.008, 1.0, 0.0, 1 / 3, 7])
def test_a_number_is_a_float_to_pyyaml(value):
    loaded = yaml.safe_load(number(value))
    assert isinstance(loaded, float)
    assert loaded == value


@pytest.mark.parametrize("shape", [{}, UNTIED])
def test_the_yaml_holds_the_handoffs_values(shape, write_target):
    handoff = planted_handoff(model=shape, proxy_head_dim=8)
    got = both_ways(write_target("nanotron", handoff))
    tunnel = got["windtunnel"]
    for role, values in handoff.roles.items():
        assert tunnel[role] == values.model_dump()
    assert ("readout" in tunnel) == (not handoff.model.tied)
    assert tunnel["multipliers"] == handoff.multipliers.model_dump()
    steps = handoff.schedule
    assert tunnel["schedule"] == {
        "warmup": steps.warmup,
        "decay_start": steps.decay_start,
        "end": steps.end,
        "shape": steps.shape,
        "final_factor": steps.final_factor,
    }
    adam = got["optimizer"]["optimizer_factory"]
    assert (adam["adam_beta1"], adam["adam_beta2"]) == (0.9, 0.95)
    assert got["optimizer"]["clip_grad"] == handoff.recipe.clip
    assert got["tokens"]["train_steps"] == steps.end
    assert got["tokens"]["batch_accumulation_per_replica"] == tunnel["rows"] == handoff.batch.rows
    model = got["model"]["model_config"]
    assert model["tie_word_embeddings"] == handoff.model.tied
    assert (model["hidden_size"], model["intermediate_size"]) == (96, 240)
    assert (model["num_attention_heads"], model["num_key_value_heads"]) == (6, 2)
    assert (model["rope_theta"], model["rms_norm_eps"]) == (20000.0, 1e-5)


def test_spectral_mup_by_hand():
    # Width 96, 2 kv heads of 16, ffn 240; hidden std 0.15 / sqrt(3); learning_rate is hidden's.
    handoff = planted_handoff(model=UNTIED)
    std = 0.15 / math.sqrt(3)
    want = {
        "qkv_proj": (160 / 96, 96**-0.5 / std),
        "o_proj": (1.0, 96**-0.5 / std),
        "gate_up_proj": (5.0, 96**-0.5 / std),
        "down_proj": (0.4, 96**0.5 / 240 / std),
        "lm_head": (256 / 96 / 3, 96**-0.5 / 0.15),  # ours is not divided by m = 3
    }
    got = {row.matrix: (row.lr, row.std) for row in spectral_rows(handoff)}
    assert got.keys() == want.keys()
    for matrix, pair in want.items():
        assert got[matrix] == pytest.approx(pair), matrix


def test_the_header_states_mapping_and_what_was_not_run(handoff, write_target):
    folder = write_target("nanotron", handoff)
    header = (folder / CONFIG).read_text().partition("\ngeneral:")[0]
    assert COMMIT in header
    for row in spectral_rows(handoff):
        assert re.search(rf"{row.matrix} .*rate x {row.lr:.4g} .*std x {row.std:.4g}", header)
    assert "Not run: CUDA, flash-attn itself" in header
    for name in (CONFIG, ENTRY):
        lines = (folder / name).read_text().splitlines()
        assert max(map(len, lines)) <= 120, name
    ast.parse((folder / ENTRY).read_text())


def test_norms_of_queries_and_keys_are_refused(tmp_path):
    with pytest.raises(ConfigError) as caught:
        write(planted_handoff(model={"qk_norm": True}), tmp_path)
    assert (caught.value.code, caught.value.values["field"]) == ("unsupported-model", "qk_norm")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("end", "interval"), [(60, 3), (601, 30), (15, 1)])
def test_checkpoints_are_frequent_and_the_kept_ones_are_named(end, interval, tmp_path):
    early = Kept(step=8, tokens=2048, why="early", horizon_step=10, horizon_tokens=2560)
    handoff = planted_handoff(end=end)
    kept = (early, *handoff.checkpoints)
    write(handoff.model_copy(update={"checkpoints": kept}), tmp_path)
    got = both_ways(tmp_path)["checkpoints"]
    assert got["checkpoint_interval"] == interval
    assert got["save_final_state"] is True  # so a run to train_steps: S writes S
    text = (tmp_path / CONFIG).read_text()
    for each in kept:
        assert f"#   {each.step}: {each.why}\n" in text
    assert "schedule.decay_start 8, its end and train_steps 10)" in text
    assert f"back to {end}, resume_checkpoint_path" in text
