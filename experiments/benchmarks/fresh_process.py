"""What a Python process that has just begun is asked to do and to time; its last line is JSON.

Nothing is imported at the top that a contender has to import itself.

    python experiments/benchmarks/fresh_process.py TASK '{"argument": "value"}'
"""

import importlib
import json
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

OURS = ("torch", "windtunnel.train.step")
GRANITE = ("torch", "transformers.models.granite.modeling_granite")
IMPORTS = {
    "loop": GRANITE,
    "loop compiled": GRANITE,
    "trainer": (*GRANITE, "transformers.trainer"),
}
"""What a contender has to import before it can train; what is not named here is ours."""


def start(*, contender: str, size: str, other: str | None) -> dict[str, float]:
    """Seconds of the imports, and of a first trial to the end of its first update.

    With a size `other` also of the next trial of the same size, and of a first one of `other`.
    """
    found = {"imports": seconds(lambda: imports(contender))}
    trials: list[Callable[[], object]] = []
    found["first"] = seconds(lambda: trials.append(begin(contender, size)))
    if other is not None:
        found["again"] = seconds(trials[0])
        found["other"] = seconds(lambda: begin(contender, other))
    return found


def whole(*, contender: str, size: str, tokens: float) -> dict[str, float]:
    """Seconds from "imports done" to the end of a segment of so many tokens."""
    imports(contender)
    import contenders as all_of_them
    from shapes import rung, usual_precision

    shape = rung(size)
    updates = int(tokens / shape.batch_tokens)

    def train() -> None:
        all_of_them.contender(contender, shape, usual_precision(), same=False)(updates)

    return {"seconds": seconds(train), "tokens": updates * shape.batch_tokens}


def rates(*, size: str) -> dict[str, float]:
    """Tokens per second of ours by each way that there is here."""
    from contenders import contender, ways
    from shapes import rung, usual_precision
    from training_step import interleaved

    shape, precision = rung(size), usual_precision()
    loops = {name: contender(name, shape, precision) for name in ways(shape, precision)}
    took, _ = interleaved(loops, rounds=5)
    return {name: shape.batch_tokens / median(seconds) for name, seconds in took.items()}


def imports(contender: str) -> None:
    """Import what the contender needs, and what all need here."""
    import torch

    for module in IMPORTS.get(contender, OURS):
        importlib.import_module(module)
    torch.set_num_threads(1)


def begin(contender: str, size: str) -> Callable[[], object]:
    """Run the first update of a trial; what a second trial of the size does up to there."""
    from contenders import CHOICES, our_step
    from contenders import contender as loop_of
    from shapes import rung, usual_precision

    shape, precision = rung(size), usual_precision()
    if contender not in CHOICES:
        loop_of(contender, shape, precision, same=False)(1)
        return lambda: begin(contender, size)
    step = our_step(contender, shape, precision)
    rows = shape.batches()[0]

    def refilled() -> None:
        step.state.start(shape.trunk)
        float(step.update(rows, 1.0)[0])

    float(step.update(rows, 1.0)[0])
    return refilled


def seconds(task: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    began = time.perf_counter()
    task()
    return time.perf_counter() - began


def main(task: str, arguments: str) -> None:
    """Run one task and print what it found."""
    tasks: dict[str, Callable[..., Any]] = {"start": start, "whole": whole, "rates": rates}
    found = tasks[task](**json.loads(arguments))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
