"""A mixture of experts against the dense model of the same active size, in tokens a second.

Eight experts of which two compute a token, by native kernels and by torch, and a dense model whose
feed-forward is twice as wide. Rounds are interleaved; ratios are medians of those within a round.

    python experiments/benchmarks/experts.py
"""

import time
from collections.abc import Mapping
from statistics import median
from typing import Any, Literal

import torch
from contenders import Loop
from shapes import Shape
from tables import table
from training_step import interleaved

from windtunnel.config import ModelSpec, Trunk
from windtunnel.config.experts import ExpertFields
from windtunnel.config.shape import upcycled
from windtunnel.config.study import Resources
from windtunnel.train.execution import apply, decide
from windtunnel.train.step import TrainStep

ROUNDS = 9
SHAPES = tuple(
    Shape(width=width, depth=3, rows=rows) for width in (48, 64, 96, 128) for rows in (16, 64)
)
"""On CPU, in fp32: what the native kernels compute."""
FIELDS = ExpertFields(experts=8, top_k=2)
DENSE = "dense"


def measure(*, quick: bool = False) -> dict[str, Any]:
    """A row a shape; `quick`: one shape and few rounds, to see that it runs."""
    torch.set_num_threads(1)
    rounds = 2 if quick else ROUNDS
    rows = [measure_shape(shape, rounds) for shape in SHAPES[: 1 if quick else None]]
    return {"rows": rows, "rounds": rounds, "experts": FIELDS.experts, "top_k": FIELDS.top_k}


def measure_shape(shape: Shape, rounds: int) -> dict[str, Any]:
    """Tokens a second of each, and ratios to the dense model."""
    wide = shape.model.replace(ffn_ratio=shape.model.ffn_ratio * FIELDS.top_k)
    experts = upcycled(shape.model, FIELDS.model_dump())
    loops = {
        DENSE: _loop(shape, wide, "native"),
        "native": _loop(shape, experts, "native"),
        "torch": _loop(shape, experts, "torch"),
    }
    seconds, _ = interleaved(loops, rounds=rounds)
    return {
        "shape": shape.name,
        "batch_tokens": shape.batch_tokens,
        "active": experts.params,
        "total": experts.params_total,
        "tokens_per_second": {
            name: shape.batch_tokens / median(took) for name, took in seconds.items()
        },
        "ratios": {
            name: median(b / a for a, b in zip(took, seconds[DENSE], strict=True))
            for name, took in seconds.items()
        },
    }


def _loop(shape: Shape, model: ModelSpec, kernels: Literal["native", "torch"]) -> Loop:
    """Updates over the shape's batches."""
    resources = Resources(device="cpu", precision="fp32", kernels=kernels, compile="never")
    execution = decide(resources, model, shape.recipe, planned_tokens=0)
    apply(execution)
    step = TrainStep(model, shape.recipe, execution)
    step.state.start(Trunk(model=model, recipe=shape.recipe, stream="-", init_seed=0, data_seed=0))
    batches = shape.batches()

    def run(count: int) -> tuple[float, list[float]]:
        began = time.perf_counter()
        losses = [
            float(step.update(batches[(step.state.step) % len(batches)], 1.0)[0])
            for _ in range(count)
        ]
        return (time.perf_counter() - began) / count, losses

    return run


def page(results: Mapping[str, Any]) -> str:
    """The section of the page."""
    head = ["shape", "tokens an update", "active N", "all", "dense", "experts", "by torch"]
    rows = [
        [
            row["shape"],
            f"{row['batch_tokens']:,}",
            f"{row['active']:,}",
            f"{row['total']:,}",
            f"{row['tokens_per_second'][DENSE]:,.0f}",
            *(
                f"{row['tokens_per_second'][name]:,.0f} (x {row['ratios'][name]:.2f})"
                for name in ("native", "torch")
            ),
        ]
        for row in results["rows"]
    ]
    return "\n\n".join(
        [
            f"Tokens a second of {results['experts']} experts, {results['top_k']} a token, on one "
            "core in fp32, and over those of the dense model with as many active parameters (but "
            f"for the router's); medians of {results['rounds']} interleaved rounds.",
            table(head, rows),
        ]
    )


if __name__ == "__main__":
    print(page(measure()))
