"""The generated train.py against our own loop."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from handed import load_reference, planted_handoff

from windtunnel.config import Branch, ScheduleChange, Trunk
from windtunnel.config.study import Resources
from windtunnel.export.targets import torch as target
from windtunnel.model import build, initialise
from windtunnel.train.execution import decide
from windtunnel.train.loop import CurveRow, train
from windtunnel.train.step import TrainStep

SHAPES = {
    "tied": {},
    "untied": {"tied": False},
    "qk_norm": {"qk_norm": True},
    "both": {"tied": False, "qk_norm": True},
}


class Rows:
    """The rows of a file, in order."""

    def __init__(self, rows: np.ndarray) -> None:
        self.table = rows

    def rows(self, first: int, count: int, *, data_seed: int) -> np.ndarray:
        return self.table[np.arange(first, first + count) % len(self.table)]


def text_rows(count: int, context: int) -> np.ndarray:
    """Real bytes: this repository's own prose."""
    root = Path(__file__).parents[2]
    text = b"".join(path.read_bytes() for path in sorted(root.glob("docs/*.md")))
    ids = np.frombuffer(text, np.uint8)[: count * (context + 1)]
    return np.ascontiguousarray(ids.reshape(count, context + 1).astype(np.int64))


def our_losses(handoff, rows: np.ndarray, updates: int, *, micro_rows: int | None = None):
    """Losses and gradient norms of our loop on torch's kernels, trunk then decay branch."""
    steps = handoff.schedule
    trunk = Trunk(
        model=handoff.model, recipe=handoff.recipe, stream="planted", init_seed=3, data_seed=0
    )
    branch = Branch(
        parent=trunk,
        fork_step=steps.decay_start,
        steps=steps.end - steps.decay_start,
        changes=(ScheduleChange(shape=steps.shape, final_factor=steps.final_factor),),
    )
    micro = None if micro_rows is None else micro_rows * handoff.model.context
    resources = Resources(kernels="torch", compile="never", micro_batch_tokens=micro, device="cpu")
    step = TrainStep(
        handoff.model,
        handoff.recipe,
        decide(resources, handoff.model, handoff.recipe, planned_tokens=1),
    )
    step.state.start(trunk)
    curve: list[CurveRow] = []
    stream = Rows(rows)
    train(step, trunk, stream, until=min(updates, steps.decay_start), write=curve.extend)
    if updates > steps.decay_start:
        train(step, branch, stream, until=updates, write=curve.extend)
    return np.array([row.loss for row in curve]), np.array([row.grad_norm for row in curve])


def run_it(path: Path, *options: object) -> np.ndarray:
    done = subprocess.run(
        [sys.executable, str(path), *map(str, options)],
        capture_output=True,
        text=True,
        check=False,
        env={"OMP_NUM_THREADS": "1", "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    return np.array([line.split(",") for line in done.stdout.splitlines()], float)


@pytest.mark.parametrize("name", SHAPES)
def test_it_is_one_short_file(name, tmp_path):
    (path,) = target.write(planted_handoff(model=SHAPES[name]), tmp_path)
    lines = path.read_text().splitlines()
    assert len(lines) < 150
    assert max(map(len, lines)) <= 160


RECIPES = {
    "completep": {"parametrization": "completep", "base_depth": 2},
    "spectral": {"kv_rule": "spectral"},
}


@pytest.mark.parametrize("name", [*SHAPES, *RECIPES])
def test_same_parameters_init_and_loss(name, tmp_path):
    handoff = planted_handoff(model=SHAPES.get(name), recipe=RECIPES.get(name))
    reference = load_reference(handoff, tmp_path)
    theirs, ours = reference.Model(), build(handoff.model, handoff.recipe)
    reference.initialise(theirs, 3)
    initialise(ours, handoff.recipe, init_seed=3)
    mine = dict(ours.named_parameters())
    assert [n for n, _ in theirs.named_parameters()] == list(mine)
    roles = ours.roles()
    for weight_name, weight in theirs.named_parameters():
        assert torch.equal(weight, mine[weight_name]), weight_name
        assert weight.role == roles[weight_name]
    rows = torch.from_numpy(text_rows(4, handoff.model.context))
    assert theirs(rows).item() == ours(rows).item()


@pytest.mark.parametrize("shape", ["exponential", "linear"])
def test_a_falling_rate_is_ours(shape, tmp_path):
    hold = {"power": -0.3, "from": "20 steps"}
    handoff = planted_handoff(schedule={"shape": shape, "hold": hold}, end=80)
    reference = load_reference(handoff, tmp_path)
    ours = handoff.schedule.schedule
    assert ours(63) == pytest.approx((64 / 20) ** -0.3)
    assert [reference.factor(s) for s in range(80)] == pytest.approx([ours(s) for s in range(80)])


@pytest.mark.parametrize("shape", ["exponential", "linear", "one_minus_sqrt", "cosine"])
def test_the_schedule_is_ours(shape, tmp_path):
    handoff = planted_handoff(schedule={"shape": shape, "decay_fraction": 0.25}, end=80)
    reference = load_reference(handoff, tmp_path)
    ours = handoff.schedule.schedule
    assert [reference.factor(s) for s in range(80)] == [ours(s) for s in range(80)]
    assert reference.factor(500) == pytest.approx(0.1)  # and it never grows or turns negative


@pytest.mark.slow
def test_two_hundred_updates_match_our_loop(tmp_path):
    handoff = planted_handoff(end=200)
    rows = text_rows(1100, handoff.model.context)
    np.save(tmp_path / "rows.npy", rows.astype(np.uint16))
    (path,) = target.write(handoff, tmp_path)
    options = ("--data", tmp_path / "rows.npy", "--out", tmp_path / "run", "--seed", 3)
    found = run_it(path, *options)
    losses, norms = our_losses(handoff, rows, 200)
    assert found[:, 0].tolist() == list(range(1, 201))
    np.testing.assert_allclose(found[:, 1], losses, rtol=1e-6)
    np.testing.assert_allclose(found[:, 3], norms, rtol=1e-4)
    assert losses[-1] < losses[0] - 1.5  # it has learnt: matching at the start alone would not do


@pytest.mark.slow
def test_it_resumes_exactly_and_accumulates(tmp_path):
    handoff = planted_handoff(end=60)
    rows = text_rows(300, handoff.model.context)
    np.save(tmp_path / "rows.npy", rows)
    (path,) = target.write(handoff, tmp_path)
    data = ("--data", tmp_path / "rows.npy", "--seed", 3)
    whole = run_it(path, *data, "--out", tmp_path / "whole")
    first = run_it(path, *data, "--out", tmp_path / "parts", "--steps", 25)
    second = run_it(path, *data, "--out", tmp_path / "parts")
    assert np.array_equal(np.concatenate([first, second]), whole)
    kept = {int(each.stem) for each in (tmp_path / "whole").glob("*.safetensors")}
    assert kept == {each.step for each in handoff.checkpoints}
    pieces = run_it(path, *data, "--out", tmp_path / "pieces", "--micro-rows", 2, "--steps", 20)
    losses, _ = our_losses(handoff, rows, 20, micro_rows=2)
    np.testing.assert_allclose(pieces[:, 1], losses, rtol=1e-6)
