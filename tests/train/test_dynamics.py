"""The hook sees what a reference sees, and training does not see the hook."""

import math
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError
from test_exactness import (
    NATIVE,
    TRUNK,
    Stream,
    assert_same_bits,
    everything,
    new_step,
)

from windtunnel.config import Branch, ScheduleChange
from windtunnel.config.study import DynamicsConfig
from windtunnel.mup import Role
from windtunnel.train import checkpoint
from windtunnel.train.dynamics import Dynamics
from windtunnel.train.loop import train

KERNELS = pytest.mark.parametrize("kernels", [NATIVE, "torch"])
SERIES = ("cosine", "d1", "d2", "curvature")


class Spy:
    """Weights and gradients around every update, in double precision."""

    def __init__(self, step):
        self.parameters = dict(step.state.model.named_parameters())
        self.gradients, self.weights = [], []

    def before(self):
        self.gradients.append(self.flat(weight.grad for weight in self.parameters.values()))
        self.weights.append(self.flat(self.parameters.values()))
        self.matrices = {n: p.detach().clone() for n, p in self.parameters.items()}

    def after(self):
        pass

    @staticmethod
    def flat(tensors):
        return torch.cat([each.detach().double().flatten() for each in tensors])


def run(step, segment, until, *, every=1, window=6, spy=None):
    """Curve and dynamics of the updates up to `until`."""
    config = DynamicsConfig(every=every, window=window)
    dynamics = Dynamics(step.state, config, first_step=segment.fork_step)
    watches = (dynamics,) if spy is None else (spy, dynamics)
    curve, rows = [], []

    def write(group):
        curve.extend((row.step, row.loss, row.grad_norm) for row in group)
        rows.extend(dynamics.rows(up_to=group[-1].step))

    train(step, segment, Stream(), until=until, write=write, watches=watches)
    return curve, rows


def started(kernels, **choices):
    step = new_step(kernels=kernels, **choices)
    step.state.start(TRUNK)
    return step


@KERNELS
@pytest.mark.medium
def test_losses_and_weights_are_the_same_bits_without_it(kernels):
    watched, alone = started(kernels), started(kernels)
    curve, rows = run(watched, TRUNK, 40)
    plain = []
    train(alone, TRUNK, Stream(), until=40, write=plain.extend)
    assert curve == [(row.step, row.loss, row.grad_norm) for row in plain]
    assert_same_bits(everything(watched), everything(alone))
    assert [row.step for row in rows] == [*range(1, 41)]
    for row, (_, _, norm) in zip(rows, curve, strict=True):
        assert row.grad_norm == pytest.approx(norm, rel=1e-5)  # before clipping, both


@KERNELS
def test_the_series_are_those_of_a_reference_in_double(kernels):
    """Two pieces a batch: the gradient is looked at once it is whole."""
    step = started(kernels, micro_batch_tokens=32)
    spy = Spy(step)
    _, rows = run(step, TRUNK, 30, spy=spy)
    assert all(math.isnan(getattr(rows[0], name)) for name in SERIES)
    for k in range(1, 30):
        now, before = spy.gradients[k], spy.gradients[k - 1]
        move = spy.weights[k] - spy.weights[k - 1]
        d1, d2 = now @ move / move.norm(), (now - before) @ move / move.norm() ** 2
        row = rows[k]
        assert row.cosine == pytest.approx(float(now @ before / now.norm() / before.norm()), 1e-4)
        assert row.d1 == pytest.approx(float(d1), rel=1e-3, abs=1e-5)
        assert row.d2 == pytest.approx(float(d2), rel=1e-3, abs=1e-4)
        curvature = float(d2.abs() / (1 + d1**2) ** 1.5)
        assert row.curvature == pytest.approx(curvature, rel=1e-3, abs=1e-4)
        assert row.grad_norm == pytest.approx(float(now.norm()), rel=1e-5)


def test_on_a_parabola_the_second_derivative_is_the_curvature():
    """Loss 3/2 x^2 of every weight: the second derivative is 3 along any step."""
    weight = torch.nn.Parameter(torch.full((4, 4), 2.0))
    model = SimpleNamespace(
        parameters=lambda: iter([weight]),
        weights=lambda: {"w": weight},
        roles=lambda: {"w": Role.HIDDEN},
    )
    state = SimpleNamespace(model=model, step=0, device=torch.device("cpu"))
    dynamics = Dynamics(state, DynamicsConfig(window=2), first_step=0)
    for _ in range(4):
        weight.grad = 3 * weight.detach().clone()
        dynamics.before()
        weight.data -= torch.tensor([0.01, 0.02, 0.03, 0.04]).expand(4, 4)
        state.step += 1
        dynamics.after()
    rows = dynamics.rows(up_to=3)
    assert [row.step for row in rows] == [1, 2, 3]
    assert [row.d2 for row in rows[1:]] == pytest.approx([3.0, 3.0], rel=1e-3)
    # v = -(0.01 .. 0.04) in each of four rows, |v| = 2 sqrt(0.003); g = 3 (2 - k (0.01 .. 0.04)).
    slope = -4 * 3 * (2 * 0.10 - 0.0030) / (2 * math.sqrt(0.003))
    assert rows[1].d1 == pytest.approx(slope, rel=1e-4)
    assert rows[1].cosine == pytest.approx(1.0, abs=1e-4)
    assert rows[1].curvature == pytest.approx(3.0 / (1 + slope**2) ** 1.5, rel=1e-3)
    assert rows[1].max_change == {"w": pytest.approx(-0.02, rel=1e-3)}  # signed, as defined
    assert rows[2].max_change is None


@KERNELS
def test_a_windows_change_is_that_between_its_checkpoints(kernels, tmp_path):
    step = started(kernels)
    before = everything(step)
    _, rows = run(step, TRUNK, 13, every=3)
    assert [row.step for row in rows] == [3, 6, 9, 12]
    assert [row.max_change is not None for row in rows] == [False, True, False, True]
    again = started(kernels)
    for end in (6, 12):
        run(again, TRUNK, end)
        after = everything(again)
        change = rows[end // 3 - 1].max_change
        hidden = [f"blocks.{n}.{m}" for n in range(2) for m in ("qkv", "out", "gate_up", "down")]
        assert sorted(change) == sorted(hidden)
        for name, value in change.items():
            assert value == pytest.approx(float((after[name] - before[name]).max()))
        before = after


@KERNELS
def test_rows_of_every_third_update_are_those_rows_of_every_update(kernels):
    _, every = run(started(kernels), TRUNK, 24)
    _, third = run(started(kernels), TRUNK, 24, every=3)
    assert third == every[2::3]


@KERNELS
def test_a_resume_lacks_the_update_before_and_nothing_else(tmp_path, kernels):
    branch = Branch(parent=TRUNK, fork_step=9, steps=20, changes=(ScheduleChange(),))
    step = started(kernels)
    run(step, TRUNK, 9)
    _, expected = run(step, branch, 29)
    assert [row.step for row in expected if row.max_change] == [15, 21, 27]  # from the fork on

    first = started(kernels)
    run(first, TRUNK, 9)
    run(first, branch, 19)
    checkpoint.save(first.state, tmp_path / "here")
    second = new_step(kernels=kernels)
    checkpoint.load(second.state, tmp_path / "here")
    _, rows = run(second, branch, 29)
    assert all(math.isnan(getattr(rows[0], name)) for name in SERIES)
    assert rows[0].grad_norm == expected[10].grad_norm
    # The window from 15 to 21 was cut; the one after is whole.
    assert [row.step for row in rows if row.max_change] == [27]
    assert [row for row in rows[1:] if row.step != 21] == [
        row for row in expected[11:] if row.step != 21
    ]


@pytest.mark.slow
def test_two_devices_see_what_one_sees(gang):
    """Rank 0 holds the mean gradient of all, and the same weights as all."""
    found = gang["dynamics"]
    _, expected = run(started("torch"), TRUNK, 20)
    for row, one in zip(found, expected[1:], strict=True):
        assert row["step"] == one.step
        for name in SERIES:
            assert row[name] == pytest.approx(getattr(one, name), rel=1e-2, abs=1e-3)
        assert row["max_change"] == (one.max_change and pytest.approx(one.max_change, rel=1e-3))


def test_a_window_must_end_on_a_row():
    with pytest.raises(ValidationError, match="window = 50 is not a multiple of every = 3"):
        DynamicsConfig(every=3)
