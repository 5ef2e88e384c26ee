"""The copy gain of states whose copying is known, and the rows that it is measured on."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_exactness import NATIVE

from windtunnel.config import DenseSpec, Recipe
from windtunnel.config.study import Resources
from windtunnel.train.copying import CHUNKS, copy_gain, copy_rows
from windtunnel.train.execution import apply, decide
from windtunnel.train.step import TrainStep

VOCABULARY, CONTEXT = 15, 64
LENGTH = 31
FIRST, LAST = LENGTH + 10, LENGTH + 30
"""The inner tokens of the second chunk: 20/63 and 60/63 of its 31."""

SPEC = DenseSpec(width=32, depth=1, head_dim=32, kv_heads=1, vocab_size=VOCABULARY, context=CONTEXT,
                 tied=False, rope_base=100)  # fmt: skip
RECIPE = Recipe(lr=0.01, base_width=32, batch_tokens=256, warmup_steps=1)


def a_set(rows):
    """A validation set of these rows, which it gives in their order."""
    return SimpleNamespace(rows=lambda context, tokens: rows[: tokens // context])


def text(count, *, context=CONTEXT):
    return np.random.default_rng(3).integers(0, VOCABULARY, size=(count, context + 1))


def new_step(kernels):
    execution = decide(
        Resources(device="cpu", kernels=kernels, compile="never"), SPEC, RECIPE, planned_tokens=0
    )
    apply(execution)
    step = TrainStep(SPEC, RECIPE, execution)
    with torch.no_grad():
        for weight in step.state.model.parameters():
            weight.fill_(1.0 if weight.dim() == 1 else 0.0)
    return step


def copying_step(kernels):
    """A state whose head looks 30 tokens back and predicts what stands there.

    Tokens are one-hot in the first dimensions, dimension 15 is constant, and a copied token is
    one-hot in the last ones. Queries and keys are constant, so RoPE alone decides the offset.
    """
    step = new_step(kernels)
    model = step.state.model
    block, offset, half = model.layers[0], LENGTH - 1, 16
    angle = -offset * 100.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    with torch.no_grad():
        token = torch.arange(VOCABULARY)
        model.embedding[token, token] = 1.0
        model.embedding[:, 15] = 1.0
        block.qkv[:32, 15] = 30 * torch.cat([angle.cos(), angle.sin()]).float()
        block.qkv[32 : 32 + half, 15] = 1.0
        block.qkv[64 + token, token] = 1.0
        block.out[16 + token, token] = 1.0
        model.readout[token, 16 + token] = 3.0
    return step


def nats(step, rows):
    """Loss of each inner token of the second chunk, (n, tokens), from the logits."""
    ids = torch.from_numpy(np.where(rows < 0, ~rows, rows))
    with torch.no_grad():
        logged = step.state.model.logits(ids[:, :-1]).double().log_softmax(-1)
    of_tokens = -logged.gather(2, ids[:, 1:, None])[..., 0].numpy()
    return of_tokens[:, FIRST - 1 : LAST - 1]


def test_a_row_and_its_control_predict_the_same_tokens():
    rows = text(80)
    copied, control = copy_rows(a_set(rows), CONTEXT)
    assert copied.shape == control.shape == (CHUNKS, CONTEXT + 1)
    for found in (copied, control):
        counted = np.zeros(found.shape, bool)
        counted[:, FIRST:LAST] = True
        assert np.array_equal(found >= 0, counted)
    plain, other = (np.where(each < 0, ~each, each) for each in (copied, control))
    chunks = rows[:CHUNKS, :LENGTH]
    assert np.array_equal(plain[:, :LENGTH], chunks)
    assert np.array_equal(plain[:, LENGTH:], other[:, LENGTH:])
    assert np.array_equal(other[:, LENGTH : 2 * LENGTH], chunks)
    assert np.array_equal(np.sort(other[:, :LENGTH]), np.sort(chunks))
    assert np.mean(other[:, :LENGTH] == chunks) < 0.2
    assert np.array_equal(copy_rows(a_set(rows), CONTEXT)[1], control)


@pytest.mark.parametrize(
    ("context", "length", "counted"), [(32, 15, 9), (128, 63, 40), (1024, 511, 325)]
)
def test_chunks_grow_with_the_context(context, length, counted):
    rows = text(3, context=context)
    copied, _ = copy_rows(a_set(rows), context)
    assert np.array_equal((copied >= 0).sum(axis=1), [counted] * 3)
    assert copied[0, -1] < 0
    assert np.array_equal(~copied[:, :length], rows[:, :length])


def test_a_loss_mask_of_the_text_is_ignored():
    rows = text(4)
    masked = np.where(np.arange(CONTEXT + 1) % 3 == 0, ~rows, rows)
    for found, expected in zip(
        *(copy_rows(a_set(each), CONTEXT) for each in (masked, rows)), strict=True
    ):
        assert np.array_equal(found, expected)


def test_a_context_without_a_middle_has_no_rows():
    assert copy_rows(a_set(text(3, context=31)), 31) is None


@pytest.mark.parametrize("kernels", [NATIVE, "torch"])
def test_a_state_that_copies_gains_what_its_logits_say(kernels):
    step = copying_step(kernels)
    copied, control = copy_rows(a_set(text(20)), CONTEXT)
    found = copy_gain(step, (copied, control))
    assert nats(step, copied).max() < 0.1
    gains = nats(step, control).mean(axis=1) - nats(step, copied).mean(axis=1)
    assert gains.min() > 3
    assert found.gain == pytest.approx(gains.mean(), rel=1e-5)
    assert found.standard_error == pytest.approx(gains.std(ddof=1) / 20**0.5, rel=1e-4)
    assert found.chunks == 20


@pytest.mark.parametrize("kernels", [NATIVE, "torch"])
def test_a_state_that_does_not_copy_gains_nothing(kernels):
    step = new_step(kernels)
    found = copy_gain(step, copy_rows(a_set(text(20)), CONTEXT))
    assert (found.gain, found.standard_error) == (0.0, 0.0)
    assert copy_gain(step, copy_rows(a_set(text(1)), CONTEXT)).standard_error is None


def test_the_probe_compiles_nothing_however_long_the_context(monkeypatch):
    step = new_step("torch")
    flags = []
    monkeypatch.setattr(step, "loss", lambda rows, *, odd=False: flags.append(odd) or 1.0)
    copy_gain(step, copy_rows(a_set(text(2, context=4096)), 4096))
    assert flags == [True] * 4
