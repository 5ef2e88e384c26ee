"""A loss on fixed rows is the mean over what counts, however the rows are cut into passes."""

import numpy as np
import pytest
import torch
from test_exactness import NATIVE, TRUNK, new_step

from windtunnel.train.loop import EVALUATION_TOKENS, evaluate

ROWS = np.random.default_rng(5).integers(0, 64, size=(300, 17))
"""Two whole passes of 128 rows, and an odd one."""


def marked_rows():
    """The counts of rows differ by far, and so do those of passes."""
    which = np.random.default_rng(6).random(ROWS.shape) < np.linspace(0.0, 1.0, 300)[:, None]
    which[:, 0] = False
    return np.where(which, ~ROWS, ROWS)


@pytest.mark.parametrize("kernels", [NATIVE, "torch"])
def test_every_prediction_that_counts_has_the_same_weight(kernels):
    assert len(ROWS) % (EVALUATION_TOKENS // 16) > 0
    rows = marked_rows()
    step = new_step(kernels=kernels)
    step.state.start(TRUNK)
    found = evaluate(step, rows)
    with torch.no_grad():
        logits = step.state.model.double().logits(torch.from_numpy(ROWS[:, :-1]))
        nats = -logits.log_softmax(-1).gather(2, torch.from_numpy(ROWS[:, 1:, None]))[..., 0]
    counts = torch.from_numpy(rows[:, 1:] >= 0)
    assert found == pytest.approx(float(nats[counts].mean()), rel=1e-6)
    assert abs(found / float(nats.mean()) - 1) > 1e-4  # what it would be without marks


@pytest.mark.parametrize("kernels", [NATIVE, "torch"])
def test_rows_without_a_mark_are_summed_as_ever(kernels):
    step = new_step(kernels=kernels)
    step.state.start(TRUNK)
    pieces = [ROWS[:128], ROWS[128:256], ROWS[256:]]
    total = 0.0
    for piece in pieces:
        total += float(step.loss(piece)) * len(piece)
    assert evaluate(step, ROWS) == total / 300
