"""Tokens per second of one update: ours against a plain loop over transformers' Granite.

Same shapes, batches, dtype (fp32), threads (one), optimizer (fused AdamW), clip and attention
kernel (SDPA), in one process, interleaved; medians over rounds, and their ratio.

    python experiments/benchmarks/training_step.py
"""

import json
import os
import sys
import time
from collections.abc import Callable
from statistics import median

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from transformers import GraniteConfig, GraniteForCausalLM

from windtunnel.spec import ModelSpec, Recipe, Trunk
from windtunnel.spec.config import Resources
from windtunnel.train.execution import apply, decide
from windtunnel.train.step import TrainStep

SHAPES = ((32, 3), (64, 4), (96, 3), (128, 4), (256, 4))
BATCH_ROWS, CONTEXT = 8, 128
ROUNDS, UPDATES = 9, 10


def ours(width: int, depth: int, rows: np.ndarray) -> Callable[[], object]:
    """One update of our train step, eager."""
    model = ModelSpec(
        width=width,
        depth=depth,
        head_dim=16,
        kv_heads=width // 16,
        vocab_size=256,
        context=CONTEXT,
    )
    recipe = Recipe(lr=1e-2, base_width=32, batch_tokens=rows[:, 1:].size, warmup_steps=1)
    resources = Resources(device="cpu", compile="never")
    execution = decide(resources, model, recipe, planned_tokens=0)
    apply(execution)
    step = TrainStep(model, recipe, execution)
    step.state.start(Trunk(model=model, recipe=recipe, stream="-", init_seed=0, data_seed=0))
    return lambda: step.update(rows, 1.0)


def granite(width: int, depth: int, rows: np.ndarray) -> Callable[[], object]:
    """One update of a plain loop over the same network in transformers."""
    config = GraniteConfig(
        vocab_size=256,
        hidden_size=width,
        intermediate_size=width * 5 // 2,
        num_hidden_layers=depth,
        num_attention_heads=width // 16,
        num_key_value_heads=width // 16,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        attention_multiplier=0.25,
        use_cache=False,
        attn_implementation="sdpa",
    )
    model = GraniteForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    batch = torch.from_numpy(rows)

    def update() -> None:
        logits = model(input_ids=batch[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return update


def measure(width: int, depth: int) -> dict[str, float]:
    """Medians of both, and the median of the ratios of neighbouring rounds."""
    rows = np.random.default_rng(0).integers(0, 256, size=(BATCH_ROWS, CONTEXT + 1))
    loops = {"ours": ours(width, depth, rows), "granite": granite(width, depth, rows)}
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    for update in loops.values():
        for _ in range(UPDATES):
            update()
    for _ in range(ROUNDS):
        for name, update in loops.items():
            began = time.perf_counter()
            for _ in range(UPDATES):
                update()
            speeds[name].append(UPDATES * rows[:, 1:].size / (time.perf_counter() - began))
    ratios = [a / b for a, b in zip(speeds["ours"], speeds["granite"], strict=True)]
    return {
        "width": width,
        "depth": depth,
        "ours": median(speeds["ours"]),
        "granite": median(speeds["granite"]),
        "ratio": median(ratios),
    }


def main() -> None:
    """Print one line a shape; `--json` for machines."""
    torch.set_num_threads(1)
    results = [measure(width, depth) for width, depth in SHAPES]
    if "--json" in sys.argv:
        print(json.dumps(results, indent=1))
        return
    print("width depth   ours tok/s  Granite tok/s  ratio")
    for r in results:
        shape = f"{r['width']:5.0f} {r['depth']:5.0f}"
        print(f"{shape} {r['ours']:12,.0f} {r['granite']:14,.0f} {r['ratio']:6.2f}")


if __name__ == "__main__":
    main()
