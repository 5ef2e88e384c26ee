"""Loss and gradient of marked rows: every prediction of a batch that counts has the same weight."""

import numpy as np
import pytest
import torch
from test_exactness import (
    NATIVE,
    RECIPE,
    TRUNK,
    Stream,
    assert_same_bits,
    everything,
    new_step,
)

from windtunnel.model.language_model import has_loss_mask, predictions_per_counted
from windtunnel.train.loop import train

ROWS = Stream().rows(0, 4, data_seed=0)


class MarkedStream(Stream):
    """The same rows with prompts of uneven length; in every third nothing is marked."""

    def rows(self, first, count, *, data_seed):
        rows = super().rows(first, count, data_seed=data_seed)
        for index, row in enumerate(rows, start=first):
            prompt = slice(1, 1 + index % 3 * (index % 7))
            row[prompt] = ~row[prompt]
        return rows


def run_marked(step, segment, until):
    rows = []
    train(step, segment, MarkedStream(), until=until, write=rows.extend)
    return [(row.step, row.loss, row.lr, row.grad_norm) for row in rows]


def mark(rows, *, counted):
    """All but the first tokens marked, apart from the last `counted[i]` of row i."""
    found = ~rows
    found[:, 0] = rows[:, 0]
    for row, plain, kept in zip(found, rows, counted, strict=True):
        row[len(row) - kept :] = plain[len(row) - kept :]
    return found


def gradient_of(step, rows):
    """Loss and whole gradient of an update's rows, by a watch that looks before the update."""

    class Look:
        def before(self):
            self.seen = {
                name: p.grad.double().clone() for name, p in step.state.model.named_parameters()
            }

        def after(self):
            pass

    look = Look()
    loss, norm = step.update(rows, 0.0, (look,))
    return float(loss), look.seen, float(norm)


def by_hand(step, rows):
    """Mean over the counted predictions of the batch, one at a time in float64; its gradient."""
    model = step.state.model.double()
    ids = torch.from_numpy(np.where(rows < 0, ~rows, rows))
    logits = model.logits(ids[:, :-1])
    nats = [
        -logits[row, place - 1].log_softmax(-1)[rows[row, place]]
        for row, place in zip(*np.nonzero(rows >= 0), strict=True)
        if place > 0
    ]
    loss = torch.stack(nats).mean()
    loss.backward()
    return float(loss.detach()), {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("kernels", [NATIVE, "torch"])
@pytest.mark.parametrize("micro_batch_tokens", [None, 32, 16])
@pytest.mark.parametrize("counted", [(16, 1, 5, 7), (0, 0, 9, 0)])
def test_loss_and_gradient_are_the_mean_over_what_counts(kernels, micro_batch_tokens, counted):
    """In one piece, two and four, whose counts are uneven."""
    rows = mark(ROWS, counted=counted)
    step = new_step(kernels=kernels, micro_batch_tokens=micro_batch_tokens)
    step.state.start(TRUNK)
    loss, gradient, norm = gradient_of(step, rows)
    reference = new_step(kernels="torch")
    reference.state.start(TRUNK)
    expected_loss, expected = by_hand(reference, rows)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    expected_norm = float(sum(g.square().sum() for g in expected.values())) ** 0.5
    assert norm == pytest.approx(expected_norm, rel=1e-5)
    for name, found in gradient.items():
        torch.testing.assert_close(found, expected[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kernels", [NATIVE, "torch"])
@pytest.mark.parametrize("micro_batch_tokens", [None, 32])
def test_a_batch_in_which_nothing_counts_decays_the_weights_alone(kernels, micro_batch_tokens):
    recipe = RECIPE.replace(weight_decay=0.5)
    step = new_step(kernels=kernels, micro_batch_tokens=micro_batch_tokens, recipe=recipe)
    step.state.start(TRUNK.replace(recipe=recipe))
    before = {name: weight.clone() for name, weight in step.state.tensors()[0].items()}
    loss, norm = step.update(mark(ROWS, counted=(0, 0, 0, 0)), 1.0)
    assert (float(loss), float(norm), step.state.step) == (0.0, 0.0, 1)
    groups = {weight: group for group in step.state.groups for weight in group["params"]}
    for name, weight in step.state.model.named_parameters():
        kept = 1.0 - groups[weight]["lr"] * groups[weight]["weight_decay"]
        torch.testing.assert_close(weight.detach(), before[name] * kept)


@pytest.mark.parametrize("kernels", [NATIVE, "torch"])
def test_marked_and_plain_updates_in_turn_are_those_of_fresh_steps(kernels):
    """No share and no mark stays behind in a step that has seen others."""
    batches = [ROWS, mark(ROWS, counted=(3, 2, 9, 1)), mark(ROWS, counted=(16, 1, 0, 2)), ROWS]
    used = new_step(kernels=kernels, micro_batch_tokens=32)
    for batch in batches:
        fresh = new_step(kernels=kernels, micro_batch_tokens=32)
        for step in (used, fresh):
            step.state.start(TRUNK)
        assert [float(each) for each in used.update(batch, 1.0)] == [
            float(each) for each in fresh.update(batch, 1.0)
        ]
        assert_same_bits(everything(used), everything(fresh))


def test_rows_without_a_mark_weigh_exactly_one():
    assert not has_loss_mask(ROWS)
    assert predictions_per_counted(ROWS) == 1.0
    some = mark(ROWS, counted=(16, 0, 0, 0))  # 64 predictions
    assert has_loss_mask(some)
    assert predictions_per_counted(some) == 4.0
    assert predictions_per_counted(mark(ROWS, counted=(0, 0, 0, 0))) == 64.0


@pytest.mark.parametrize(("subnormals", "seen"), [("flushed", 0.0), ("kept", 1e-39)])
def test_an_update_treats_subnormals_as_its_record_says(subnormals, seen):
    class Look:
        def before(self):
            self.product = float(torch.tensor([1e-39]) * 1)

        def after(self):
            pass

    step, look = new_step(kernels="torch"), Look()
    step.execution = step.execution.replace(subnormals=subnormals)
    step.update(ROWS, 1.0, (look,))
    assert look.product == pytest.approx(seen)
