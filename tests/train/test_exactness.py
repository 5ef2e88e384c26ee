"""The acceptance test of the whole design (bit for bit), and what training rests on."""

import math
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from windtunnel.config import Branch, DataChange, DenseSpec, Recipe, ScheduleChange, Trunk
from windtunnel.config.study import Resources
from windtunnel.errors import StoreError
from windtunnel.model.native import compiler
from windtunnel.train import checkpoint
from windtunnel.train.execution import apply, decide
from windtunnel.train.loop import Diverged, train
from windtunnel.train.step import TrainStep

MODEL = DenseSpec(width=32, depth=2, head_dim=16, kv_heads=2, vocab_size=64, context=16)
RECIPE = Recipe(lr=0.02, base_width=16, batch_tokens=64, warmup_steps=5)
NATIVE = pytest.param(
    "native", marks=pytest.mark.skipif(compiler() is None, reason="no C++ compiler")
)
TRUNK = Trunk(model=MODEL, recipe=RECIPE, stream="test", init_seed=0, data_seed=0)


class Stream:
    """20 rows, permuted by (seed, epoch): four rows an update pass an epoch every five updates."""

    def rows(self, first, count, *, data_seed):
        table = np.random.default_rng(0).integers(0, 64, size=(20, 17))
        out = []
        for index in range(first, first + count):
            epoch, place = divmod(index, 20)
            out.append(table[np.random.default_rng([data_seed, epoch]).permutation(20)[place]])
        return np.stack(out)


def new_step(*, kernels="auto", compiled=False, micro_batch_tokens=None, recipe=RECIPE):
    resources = Resources(
        device="cpu",
        kernels=kernels,
        compile="always" if compiled else "never",
        micro_batch_tokens=micro_batch_tokens,
    )
    execution = decide(resources, MODEL, recipe, planned_tokens=0)
    apply(execution)
    return TrainStep(MODEL, recipe, execution)


def run(step, segment, until):
    rows = []
    train(step, segment, Stream(), until=until, write=rows.extend)
    return [(row.step, row.loss, row.lr, row.grad_norm) for row in rows]


def everything(step):
    weights, moments = step.state.tensors()
    return {name: tensor.clone() for name, tensor in (weights | moments).items()}


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.slow
@pytest.mark.skipif(compiler() is None, reason="no C++ compiler")
@pytest.mark.parametrize("choices", [{"kernels": "native"}, {"compiled": True}])
def test_a_branch_with_the_trunks_schedule_is_the_trunk(tmp_path, choices):
    """Forked in a fresh process from disk; accumulation 2, an epoch boundary inside."""
    step = new_step(**choices, micro_batch_tokens=32)
    step.state.start(TRUNK)
    run(step, TRUNK, 23)
    checkpoint.save(step.state, tmp_path / "fork")
    expected_rows = run(step, TRUNK, 40)
    checkpoint.save(step.state, tmp_path / "straight")

    script = textwrap.dedent(
        f"""
        import json, sys
        from pathlib import Path
        sys.path.insert(0, {str(__file__.rsplit("/", 1)[0])!r})
        from test_exactness import *
        branch = Branch(parent=TRUNK, fork_step=23, steps=17)
        step = new_step(**{choices!r}, micro_batch_tokens=32)
        folder = Path({str(tmp_path)!r})
        checkpoint.load(step.state, folder / "fork")
        rows = run(step, branch, branch.end)
        checkpoint.save(step.state, folder / "branched")
        print(json.dumps(rows))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=250
    )
    assert done.returncode == 0, done.stderr
    import json

    found_rows = [tuple(row) for row in json.loads(done.stdout.splitlines()[-1])]
    assert found_rows == expected_rows
    for name in (checkpoint.WEIGHTS, checkpoint.MOMENTS):
        straight = (tmp_path / "straight" / name).read_bytes()
        assert (tmp_path / "branched" / name).read_bytes() == straight


@pytest.mark.parametrize("kernels", [NATIVE, "torch"])
@pytest.mark.parametrize("stop_at", [1, 9, 23])
@pytest.mark.parametrize("hold", [None, {"power": -0.5, "tokens": 640}])
def test_a_run_stopped_and_loaded_is_the_straight_run(tmp_path, stop_at, kernels, hold):
    trunk = TRUNK.replace(hold=hold)
    change = () if hold else (ScheduleChange(),)
    branch = Branch(parent=trunk, fork_step=0, steps=30, changes=change)
    straight = new_step(kernels=kernels)
    straight.state.start(trunk)
    expected_rows = run(straight, branch, 30)

    first = new_step(kernels=kernels)
    first.state.start(trunk)
    rows = run(first, branch, stop_at)
    checkpoint.save(first.state, tmp_path / "here")
    second = new_step(kernels=kernels)
    checkpoint.load(second.state, tmp_path / "here")
    rows += run(second, branch, 30)
    assert rows == expected_rows
    if hold:
        rates = [lr for _, _, lr, _ in rows]
        assert rates[9] == RECIPE.lr
        assert rates[29] == pytest.approx(RECIPE.lr * 3**-0.5)
    assert_same_bits(everything(second), everything(straight))


def test_a_decay_lowers_the_rate_from_the_first_update_after_the_fork(tmp_path):
    """First-step-after-resume faults are the most reported in peers."""
    step = new_step()
    step.state.start(TRUNK)
    run(step, TRUNK, 20)
    branch = Branch(parent=TRUNK, fork_step=20, steps=10, changes=(ScheduleChange(shape="linear"),))
    rates = [lr for _, _, lr, _ in run(step, branch, 30)]
    assert rates == pytest.approx([0.02 * (0.1 + 0.9 * (1 - i / 10)) for i in range(10)])
    hidden = next(g for g in step.state.groups if g["role"] == "hidden")
    assert hidden["lr"] == pytest.approx(rates[-1] / 2)  # muP: width ratio 2


def test_a_branch_with_its_own_data_seed_reads_other_rows_from_the_fork_on():
    shared = Branch(parent=TRUNK, fork_step=20, steps=10)
    own = shared.replace(changes=(DataChange(data_seed=5),))
    results = []
    for branch in (shared, own):
        step = new_step()
        step.state.start(TRUNK)
        before = run(step, TRUNK, 20)
        results.append((before, run(step, branch, 30)))
    assert results[0][0] == results[1][0]
    assert results[0][1] != results[1][1]


def test_accumulation_gives_the_same_gradient():
    whole, pieces = new_step(), new_step(micro_batch_tokens=16)
    assert pieces.execution.micro_batch_rows == 1
    for step in (whole, pieces):
        step.state.start(TRUNK)
    losses = [[loss for _, loss, _, _ in run(step, TRUNK, 10)] for step in (whole, pieces)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.skipif(compiler() is None, reason="no C++ compiler")
def test_native_and_torch_train_the_same_curve():
    curves = []
    for kernels in ("native", "torch"):
        step = new_step(kernels=kernels)
        step.state.start(TRUNK)
        curves.append(run(step, TRUNK, 60))
    for native, torchs in zip(*curves, strict=True):
        assert native == pytest.approx(torchs, rel=2e-4)


@pytest.mark.parametrize("kernels", [NATIVE, "torch"])
def test_a_state_is_refilled_in_place(tmp_path, kernels):
    """A used step starts another run as a new one would."""
    used, new = new_step(kernels=kernels), new_step(kernels=kernels)
    used.state.start(TRUNK)
    run(used, TRUNK, 7)
    other = TRUNK.replace(init_seed=1)
    for step in (used, new):
        step.state.start(other)
    assert run(used, other, 5) == run(new, other, 5)
    assert_same_bits(everything(used), everything(new))


@pytest.mark.parametrize("kernels", [NATIVE, "torch"])
def test_adamw_by_role_is_a_reference_written_by_hand(kernels):
    recipe = RECIPE.replace(weight_decay=0.3, clip=1e9)
    step = new_step(kernels=kernels, recipe=recipe)
    trunk = TRUNK.replace(recipe=recipe)
    step.state.start(trunk)
    model = step.state.model
    before = {n: p.detach().double().clone() for n, p in model.named_parameters()}
    rows = Stream().rows(0, 4, data_seed=0)
    model(torch.from_numpy(rows)).backward()
    gradient = {n: p.grad.double().clone() for n, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad.zero_()
    step.update(rows, 0.5)
    for name, parameter in model.named_parameters():
        role = model.roles()[name]
        scale = recipe.scale(role, MODEL)
        lr, decay = 0.5 * 0.02 * scale.lr, 0.3 * scale.weight_decay
        # First update: bias-corrected moments are the gradient and its square.
        moved = gradient[name] / (gradient[name].abs() + recipe.eps * scale.eps)
        expected = before[name] * (1 - lr * decay) - lr * moved
        # A thousandth of a move: where a gradient is about eps, its own last bits show.
        torch.testing.assert_close(parameter.detach().double(), expected, rtol=1e-4, atol=1e-5)


def test_at_the_base_shape_all_parametrizations_are_equal_bit_for_bit():
    results = []
    for parametrization in ("mup", "completep", "standard"):
        recipe = RECIPE.replace(
            base_width=32, base_depth=MODEL.depth, parametrization=parametrization
        )
        step = new_step(recipe=recipe)
        trunk = TRUNK.replace(recipe=recipe)
        step.state.start(trunk)
        results.append((run(step, trunk, 12), everything(step)))
    for losses, state in results[1:]:
        assert losses == results[0][0]
        assert_same_bits(state, results[0][1])


def test_divergence_is_noticed_and_its_row_is_written():
    recipe = RECIPE.replace(lr=1e3, clip=1e9)
    step = new_step(recipe=recipe)
    trunk = TRUNK.replace(recipe=recipe)
    step.state.start(trunk)
    rows = []
    with pytest.raises(Diverged) as caught:
        train(step, trunk, Stream(), until=400, write=rows.extend)
    assert rows[-1].step == caught.value.step
    assert not math.isfinite(rows[-1].loss) or rows[-1].loss > 1.2 * min(r.loss for r in rows)


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    step = new_step()
    step.state.start(TRUNK)
    checkpoint.save(step.state, tmp_path / "here")
    file = tmp_path / "here" / checkpoint.WEIGHTS
    content = bytearray(file.read_bytes())
    match damage:
        case "flip":
            content[len(content) // 2] ^= 1
            file.write_bytes(content)
        case "truncate":
            file.write_bytes(content[:-10])
        case "remove":
            file.unlink()
    with pytest.raises(StoreError) as refused:
        checkpoint.load(new_step().state, tmp_path / "here")
    assert refused.value.code == "damaged"
