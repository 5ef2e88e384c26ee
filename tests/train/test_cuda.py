"""What needs a CUDA device: exactness under `deterministic`, and bf16 beside fp32. `make gpu`."""

import pytest
import torch
from test_exactness import MODEL, RECIPE, TRUNK, assert_same_bits, everything, run

from windtunnel.config import Branch
from windtunnel.config.study import Resources
from windtunnel.train import checkpoint
from windtunnel.train.execution import apply, decide
from windtunnel.train.step import TrainStep

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def cuda_step(**resources):
    execution = decide(Resources(device="cuda", **resources), MODEL, RECIPE, planned_tokens=0)
    apply(execution)
    return TrainStep(MODEL, RECIPE, execution)


@pytest.mark.parametrize("compiling", ["never", "always"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_branch_with_the_trunks_schedule_is_the_trunk(tmp_path, compiling, precision):
    choices = {"compile": compiling, "precision": precision, "deterministic": True}
    straight = cuda_step(**choices)
    straight.state.start(TRUNK)
    run(straight, TRUNK, 23)
    checkpoint.save(straight.state, tmp_path / "fork")
    expected = run(straight, TRUNK, 40)
    branched = cuda_step(**choices)
    checkpoint.load(branched.state, tmp_path / "fork")
    branch = Branch(parent=TRUNK, fork_step=23, steps=17)
    assert run(branched, branch, branch.end) == expected
    assert_same_bits(everything(branched), everything(straight))


def test_bf16_keeps_fp32_master_weights_and_the_curve():
    losses = {}
    for precision in ("fp32", "bf16"):
        step = cuda_step(compile="never", precision=precision)
        step.state.start(TRUNK)
        losses[precision] = [loss for _, loss, _, _ in run(step, TRUNK, 40)]
        assert {weight.dtype for weight in step.state.model.parameters()} == {torch.float32}
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=2e-2)
