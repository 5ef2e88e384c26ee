"""Fifty updates whose losses are committed: a refactor must not move them.

`make golden` writes them anew; do so only when the numerics are meant to change, and show the
curves before and after in the changelog.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from windtunnel.config import DenseSpec, Recipe, Trunk
from windtunnel.config.study import Resources
from windtunnel.train.execution import apply, decide
from windtunnel.train.step import TrainStep

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "tiny_loss.json"
MODEL = DenseSpec(
    width=32, depth=2, head_dim=8, kv_heads=2, vocab_size=64, context=32, qk_norm=True, tied=False
)
RECIPE = Recipe(lr=0.01, base_width=16, batch_tokens=256, warmup_steps=10)


def losses():
    execution = decide(Resources(device="cpu", compile="never"), MODEL, RECIPE, planned_tokens=0)
    apply(execution)
    step = TrainStep(MODEL, RECIPE, execution)
    step.state.start(Trunk(model=MODEL, recipe=RECIPE, stream="golden", init_seed=3, data_seed=3))
    rng = np.random.default_rng(3)
    followers = rng.integers(0, 64, size=(64, 3))
    found = []
    for update in range(50):
        rows = np.empty((8, 33), dtype=np.int64)
        rows[:, 0] = rng.integers(0, 64, size=8)
        for position in range(32):
            rows[:, position + 1] = followers[rows[:, position], rng.integers(0, 3, size=8)]
        loss, _ = step.update(rows, min(1.0, (update + 1) / 10))
        found.append(float(loss))
    return found


def test_fifty_updates_are_as_committed():
    # fp32 on another CPU differs in the last bits, and fifty updates amplify them.
    assert losses() == pytest.approx(json.loads(GOLDEN.read_text()), rel=1e-4)


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(losses(), indent=1) + "\n")
