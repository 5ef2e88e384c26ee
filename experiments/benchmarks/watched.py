"""What recording the training dynamics costs: the train loop with it and without, curves and all.

Both write their rows as a study does. Rounds of the two are interleaved; the ratio is the median of
those within a round.

    python experiments/benchmarks/watched.py
"""

import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from contenders import Loop, our_step, way
from shapes import Shape, usual_precision
from tables import table
from training_step import interleaved

from windtunnel.config.study import DynamicsConfig
from windtunnel.runs.store import DYNAMICS
from windtunnel.runs.worker import CurveWriter
from windtunnel.train.dynamics import Dynamics
from windtunnel.train.loop import CurveRow, train

ROUNDS = 15
SHAPES = tuple(Shape(width=width, depth=3, rows=4) for width in (32, 64, 128))
"""Batches of 512 tokens, as in the studies: what the hook takes does not depend on them."""
WITHOUT = "without"
CHOICES: dict[str, DynamicsConfig | None] = {
    WITHOUT: None,
    "every update": DynamicsConfig(),
    "every 10th": DynamicsConfig(every=10),
}


class Batches:
    """The batches of a shape over and over, as an endless stream."""

    def __init__(self, shape: Shape) -> None:
        self.table = np.concatenate(list(shape.batches()))

    def rows(self, first: int, count: int, *, data_seed: int) -> np.ndarray:
        """Rows from number `first` on."""
        del data_seed
        return self.table[np.arange(first, first + count) % len(self.table)]


def measure(*, quick: bool = False) -> dict[str, Any]:
    """A row a shape; `quick`: one shape and few rounds, to see that it runs."""
    torch.set_num_threads(1)
    rounds = 2 if quick else ROUNDS
    rows = [measure_shape(shape, rounds) for shape in SHAPES[: 1 if quick else None]]
    return {"rows": rows, "rounds": rounds, "batch_tokens": SHAPES[0].batch_tokens}


def measure_shape(shape: Shape, rounds: int) -> dict[str, Any]:
    """Seconds of an update in each way, and ratios to the way without."""
    with ExitStack() as opened:
        scratch = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        loops = {
            name: _loop(shape, config, scratch / str(number), opened)
            for number, (name, config) in enumerate(CHOICES.items())
        }
        seconds, _ = interleaved(loops, rounds=rounds)
    plain = seconds[WITHOUT]
    return {
        "shape": shape.name,
        "params": shape.model.params,
        "way": way(our_step("ours", shape, usual_precision()).execution),
        "seconds": {name: median(took) for name, took in seconds.items()},
        "ratios": {
            name: median(a / b for a, b in zip(took, plain, strict=True))
            for name, took in seconds.items()
        },
    }


def _loop(shape: Shape, config: DynamicsConfig | None, folder: Path, opened: ExitStack) -> Loop:
    """The train loop over the shape's batches, which writes its rows into a folder."""
    folder.mkdir()
    step = our_step("ours", shape, usual_precision())
    dynamics = None if config is None else Dynamics(step.state, config, first_step=0)
    recorders = {} if dynamics is None else {DYNAMICS: dynamics}
    writer = CurveWriter(folder / "curve.jsonl", after=0, recorders=recorders)
    opened.enter_context(writer)
    stream = Batches(shape)

    def run(count: int) -> tuple[float, list[float]]:
        losses: list[float] = []

        def write(rows: list[CurveRow]) -> None:
            writer.write(rows)
            losses.extend(row.loss for row in rows)

        began = time.perf_counter()
        until = step.state.step + count
        train(
            step, shape.trunk, stream, until=until, write=write, watches=tuple(recorders.values())
        )
        return (time.perf_counter() - began) / count, losses

    return run


def page(results: Mapping[str, Any]) -> str:
    """The section of the page."""
    names = [name for name in CHOICES if name != WITHOUT]
    head = ["shape", "N", "way", "an update without", *(f"x {name}" for name in names)]
    rows = [
        [
            row["shape"],
            f"{row['params']:,}",
            row["way"],
            f"{1e3 * row['seconds'][WITHOUT]:.2f} ms",
            *(f"{row['ratios'][name]:.3f}" for name in names),
        ]
        for row in results["rows"]
    ]
    return "\n\n".join(
        [
            "Seconds of an update with `dynamics` over those without, in the train loop with all "
            f"that it writes; {results['batch_tokens']} tokens an update, median of the ratios "
            f"within {results['rounds']} interleaved rounds. With larger batches it costs less.",
            table(head, rows),
        ]
    )


if __name__ == "__main__":
    print(page(measure()))
