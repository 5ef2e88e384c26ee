"""Tokens per second of an update: ours against three ways to train that network in transformers.

Same shapes, batches, dtype, threads (one), optimizer (fused AdamW in the same groups), clip and
attention kernel (SDPA), in one process. First every contender trains the same updates from the same
weights, and their losses are compared: who does other work does not count. Then rounds of a few
updates each, interleaved; medians over rounds, and the median of the ratios within a round.

    python experiments/benchmarks/training_step.py
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from statistics import median
from typing import Any

import torch
from contenders import NAMES, Loop, contender, execution_of, missing, way
from shapes import Precision, Shape, device, ladder, settle
from tables import table

ROUNDS = 7
ROUND_SECONDS = 0.5
"""Of the slowest contender, in one round."""

LEAST_UPDATES, MOST_UPDATES = 4, 100
CHECKED_UPDATES = 30
ALLOWED: dict[Precision, float] = {"fp32": 1e-3, "bf16": 2e-2}
"""Largest relative difference of a loss from ours within the checked updates."""

OTHERS = tuple(name for name in NAMES if name != "ours")

# Squares, and the tall matrices that a step multiplies: tokens x width x inner width.
PRODUCTS = {
    "cpu": ((256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (1024, 256, 1280)),
    "cuda": ((4096, 4096, 4096), (8192, 8192, 8192), (16384, 1344, 6720)),
}


def measure(*, quick: bool = False) -> dict[str, Any]:
    """Rows of both dtypes; `quick`: one small shape and few rounds, to see that it runs."""
    torch.set_num_threads(1)
    shapes = (Shape(width=32, depth=3),) if quick else ladder()
    rows: list[dict[str, Any]] = []
    for precision in ALLOWED:
        for shape in shapes:
            rows.append(measure_shape(shape, precision, quick=quick))
            print(*cells(rows[-1]), sep="  ", flush=True)
    return {"rows": rows, "missing": missing(), "rounds": 2 if quick else ROUNDS}


def measure_shape(shape: Shape, precision: Precision, *, quick: bool = False) -> dict[str, Any]:
    """Differences, tokens per second and ratios of every contender at one shape."""
    skipped = set(missing())
    if quick:
        skipped.add("loop compiled")
    loops = {name: contender(name, shape, precision) for name in NAMES if name not in skipped}
    curves = {name: loop(CHECKED_UPDATES)[1] for name, loop in loops.items()}
    seconds, peak = interleaved(
        loops,
        rounds=2 if quick else ROUNDS,
        also=lambda: matmul_peak(precision, quick=quick),
    )
    flops = shape.batch_tokens * shape.model.flops_exact_per_token
    return {
        "shape": shape.name,
        "precision": precision,
        "params": shape.model.params,
        "way": way(execution_of("ours", shape, precision)),
        "peak": max(peak),
        "contenders": {
            name: {
                "tokens_per_second": shape.batch_tokens / median(took),
                "of_peak": flops / median(took) / max(peak),
                "times_faster": median(b / a for a, b in zip(seconds["ours"], took, strict=True)),
                "difference": difference(curves[name], curves["ours"]),
            }
            for name, took in seconds.items()
        },
    }


def interleaved(
    loops: Mapping[str, Loop], *, rounds: int, also: Callable[[], float] = lambda: 0.0
) -> tuple[dict[str, list[float]], list[float]]:
    """Seconds of an update of each loop, round by round, and what `also` said in each round.

    Every second round goes backwards, so that nobody always follows the same neighbour.
    """
    slowest = max(loop(LEAST_UPDATES)[0] for loop in loops.values())
    updates = min(MOST_UPDATES, max(LEAST_UPDATES, math.ceil(ROUND_SECONDS / slowest)))
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    others = []
    for number in range(rounds):
        others.append(also())
        for name in list(loops)[:: -1 if number % 2 else 1]:
            seconds[name].append(loops[name](updates)[0])
    return seconds, others


def matmul_peak(precision: Precision, *, quick: bool = False) -> float:
    """FLOP/s of the fastest of a few matrix products."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    best = 0.0
    for m, k, n in PRODUCTS[device()][: 1 if quick else None]:
        left = torch.randn(m, k, dtype=dtype, device=device())
        right = torch.randn(k, n, dtype=dtype, device=device())
        for _ in range(4):
            settle()
            began = time.perf_counter()
            torch.mm(left, right)
            settle()
            best = max(best, 2 * m * k * n / (time.perf_counter() - began))
    return best


def difference(losses: Iterable[float], reference: Iterable[float]) -> float:
    """Largest relative difference of two curves."""
    return max(abs(a / b - 1) for a, b in zip(losses, reference, strict=True))


def counts(row: Mapping[str, Any], name: str) -> bool:
    """Whether the contender has done the work that ours has."""
    return bool(row["contenders"][name]["difference"] <= ALLOWED[row["precision"]])


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row of the table."""
    found = row["contenders"]
    return [
        row["shape"],
        f"{row['params']:,}",
        row["way"],
        *(speed(row, name) for name in NAMES),
        *(f"{found[name]['times_faster']:.2f}" if name in found else "" for name in OTHERS),
        f"{max(found[name]['difference'] for name in found):.0e}",
    ]


def speed(row: Mapping[str, Any], name: str) -> str:
    """Tokens per second and share of the peak, or that they do not count."""
    if name not in row["contenders"]:
        return ""
    found = row["contenders"][name]
    text = f"{found['tokens_per_second']:,.0f} ({found['of_peak']:.0%})"
    return text if counts(row, name) else f"{text}, does not count"


def page(results: Mapping[str, Any]) -> str:
    """The section of the page: one table a dtype."""
    head = ["shape", "N", "way"] + [f"{name}, tokens/s" for name in NAMES.values()]
    head += [f"ours / {NAMES[name]}" for name in OTHERS] + ["difference"]
    lines = [
        "Tokens per second of a whole update on one thread, and in brackets the share of the "
        "fastest matrix product measured beside it in the same dtype. *way*: how ours computes it. "
        "*ours / other*: median over rounds of the ratio of speeds within a round. *difference*: "
        f"the largest relative difference of a loss from ours in {CHECKED_UPDATES} updates from "
        "the same weights on the same batches.",
        *(f"Left out: {NAMES[name]} ({why})." for name, why in results["missing"].items()),
    ]
    for precision, allowed in ALLOWED.items():
        rows = [row for row in results["rows"] if row["precision"] == precision]
        peaks = [row["peak"] / 1e9 for row in rows]
        lines += [
            f"### {precision}",
            f"Peak {min(peaks):,.0f} to {max(peaks):,.0f} GFLOP/s over the rows; a contender whose "
            f"losses are more than {allowed:g} away does not count.",
            table(head, map(cells, rows)),
        ]
    return "\n\n".join(lines)


if __name__ == "__main__":
    print(page(measure()))
