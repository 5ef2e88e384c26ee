"""What an execution record decides, and what records of before go on with."""

import pytest
import torch

from windtunnel.config import DenseSpec, Recipe
from windtunnel.config.study import Resources
from windtunnel.train.execution import Execution, _compiles, current, decide, subnormals

MODEL = DenseSpec(width=64, depth=4, head_dim=16, kv_heads=4, vocab_size=256, context=128)
RECIPE = Recipe(lr=0.01, base_width=32, batch_tokens=1024, warmup_steps=10)


@pytest.mark.parametrize(
    ("device", "updates", "pays"),
    [("cpu", 100, False), ("cpu", 20_000, True), ("cuda", 100, False), ("cuda", 300_000, True)],
)
def test_compiling_is_decided_by_the_planned_updates(device, updates, pays):
    tokens = updates * RECIPE.batch_tokens
    assert _compiles(Resources(), MODEL, RECIPE, device, tokens) is pays
    assert _compiles(Resources(compile="always"), MODEL, RECIPE, device, tokens)
    assert not _compiles(Resources(compile="never"), MODEL, RECIPE, device, tokens)


def test_our_kernels_are_never_compiled_by_torch():
    execution = decide(Resources(device="cpu"), MODEL, RECIPE, planned_tokens=10**12)
    assert execution.compile == (execution.kernels == "torch")


def test_a_record_from_before_there_were_kernels_goes_on_with_torchs():
    made = decide(Resources(device="cpu", kernels="torch"), MODEL, RECIPE, planned_tokens=0)
    old = made.model_dump()
    del old["kernels"]
    assert current(Execution(**old)).differences(Execution(**old)) == []


def test_new_trunks_flush_subnormals_and_old_ones_keep_them():
    made = decide(Resources(device="cpu"), MODEL, RECIPE, planned_tokens=0)
    assert made.subnormals == "flushed"
    old = made.model_dump()
    del old["subnormals"]
    assert current(Execution(**old)).subnormals == "kept"


def test_trunks_of_several_threads_keep_subnormals():
    """A thread that torch has started before does not flush, and one started within always does."""
    two = Resources(device="cpu", cpus_per_trial=2)
    assert decide(two, MODEL, RECIPE, planned_tokens=0).subnormals == "kept"


def test_subnormals_are_flushed_within_and_there_again_after():
    tiny = torch.tensor([1e-39])
    assert float(tiny * 1) > 0
    with subnormals("flushed"):
        assert float(tiny * 1) == 0
    with subnormals("kept"):
        assert float(tiny * 1) > 0
    assert float(tiny * 1) > 0
