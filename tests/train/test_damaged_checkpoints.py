"""Checkpoints whose metadata or tensors are not what was written: damage, always by its name."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from windtunnel.config import DenseSpec, Recipe, Trunk
from windtunnel.config.study import Resources
from windtunnel.train import checkpoint
from windtunnel.train.execution import apply, decide
from windtunnel.train.step import TrainStep

MODEL = DenseSpec(width=32, depth=1, head_dim=16, kv_heads=2, vocab_size=64, context=16)
RECIPE = Recipe(lr=0.02, base_width=16, batch_tokens=64, warmup_steps=5)
TRUNK = Trunk(model=MODEL, recipe=RECIPE, stream="test", init_seed=0, data_seed=0)


def new_step():
    resources = Resources(device="cpu", kernels="torch", compile="never")
    execution = decide(resources, MODEL, RECIPE, planned_tokens=0)
    apply(execution)
    return TrainStep(MODEL, RECIPE, execution)


@pytest.fixture
def saved(tmp_path):
    step = new_step()
    step.state.start(TRUNK)
    checkpoint.save(step.state, tmp_path / "here")
    return tmp_path / "here"


def written_meta(folder, change):
    """Edit the metadata and, as no hand would, its checksum with it; format 1 has none."""
    file = folder / checkpoint.META
    meta = json.loads(file.read_text())
    meta.pop("checksum", None)
    change(meta)
    if meta["format"] == checkpoint.FORMAT:
        text = json.dumps(meta, sort_keys=True)
        meta["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    file.write_text(json.dumps(meta))


@pytest.mark.parametrize("format_1", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        lambda meta: meta.update(step="5"),
        lambda meta: meta.update(step=-1),
        lambda meta: meta.update(step=True),
        lambda meta: meta.pop("step"),
        lambda meta: meta.update(seconds=None),
        lambda meta: meta.update(smoothed="low"),
        lambda meta: meta.update(best=1.5),
        lambda meta: meta.update(sha256=[]),
        lambda meta: meta.update(sha256={"../state.json": "0"}),
        lambda meta: meta.update(overhead={"x": "y"}),
        lambda meta: meta.update(format=[]),
    ],
)
def test_metadata_of_wrong_types_is_damage(saved, change, format_1):
    if format_1:
        written_meta(saved, lambda meta: meta.update(format=1))
    assert checkpoint.verify(saved)["step"] == 0
    written_meta(saved, change)
    with pytest.raises(checkpoint.Damaged) as refused:
        checkpoint.load(new_step().state, saved)
    assert refused.value.code == "damaged"
    assert refused.value.values["path"] == saved
    assert refused.value.values["part"] == checkpoint.META


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff\xfe{", b"[" * 100_000, b'{"format": 1' + b"0" * 9999]
)
def test_metadata_that_is_none_is_damage(saved, content):
    (saved / checkpoint.META).write_bytes(content)
    with pytest.raises(checkpoint.Damaged) as refused:
        checkpoint.verify(saved)
    assert refused.value.values["path"] == saved


def test_a_folder_in_place_of_the_metadata_is_damage(saved):
    (saved / checkpoint.META).unlink()
    (saved / checkpoint.META).mkdir()
    with pytest.raises(checkpoint.Damaged, match=r"here: damaged checkpoint: .*Is a directory"):
        checkpoint.verify(saved)


def test_tensors_of_another_shape_are_damage_and_not_spread(saved):
    weights = load_file(saved / checkpoint.WEIGHTS)
    name = next(iter(weights))
    save_file(weights | {name: torch.zeros(())}, saved / checkpoint.WEIGHTS)
    digest = hashlib.sha256((saved / checkpoint.WEIGHTS).read_bytes()).hexdigest()
    written_meta(saved, lambda meta: meta["sha256"].update({checkpoint.WEIGHTS: digest}))
    with pytest.raises(checkpoint.Damaged) as refused:
        checkpoint.load(new_step().state, saved)
    values = refused.value.values
    assert (values["part"], values["reason"], values["tensor"]) == ("tensors", "wrong-shape", name)


def test_tensors_that_are_none_are_damage(saved):
    (saved / checkpoint.WEIGHTS).write_bytes(b"no tensors")
    digest = hashlib.sha256(b"no tensors").hexdigest()
    written_meta(saved, lambda meta: meta["sha256"].update({checkpoint.WEIGHTS: digest}))
    with pytest.raises(checkpoint.Damaged) as refused:
        checkpoint.load(new_step().state, saved)
    assert refused.value.values["part"] == "tensors"
