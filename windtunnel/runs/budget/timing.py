"""Timings of the updates, evaluations and checkpoints of one shape, as a worker runs them.

`calibration` starts this module as a process: one job per input line, one timing per output line.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from windtunnel.config import Trunk
from windtunnel.config.study import Resources
from windtunnel.data import Dataset
from windtunnel.errors import WindtunnelError
from windtunnel.runs.budget.calibration import Timing
from windtunnel.runs.worker import CurveWriter
from windtunnel.train import checkpoint
from windtunnel.train.execution import apply, decide
from windtunnel.train.loop import (
    EVALUATION_TOKENS,
    UPDATES_TOGETHER,
    Diverged,
    Stream,
    evaluate,
    train,
)
from windtunnel.train.step import TrainStep

ENOUGH_SECONDS = 2.0
"""Seconds of updates timed per shape."""

FEWEST_GROUPS = 3
"""Groups of updates that are timed, however long they take; their median counts."""

GROUP_SECONDS = 0.3

GOES = 5
"""Repetitions of an evaluation and of a checkpoint; their median counts."""


def main() -> None:
    """Time every job."""
    number = int(sys.argv[1])
    for line in sys.stdin:
        try:
            sys.stdout.write(time_shape(json.loads(line), number).model_dump_json() + "\n")
            sys.stdout.flush()
        except WindtunnelError as problem:
            sys.exit(str(problem))


def time_shape(job: dict[str, Any], number: int) -> Timing:
    """Time one shape in process `number` of those side by side."""
    trunk = Trunk.model_validate(job["trunk"])
    resources = Resources.model_validate(job["resources"])
    if resources.gpus_per_trial:
        each_holds = int(1 / resources.gpus_per_trial + 1e-9)
        torch.cuda.set_device(number // each_holds % max(1, torch.cuda.device_count()))
    execution = decide(resources, trunk.model, trunk.recipe, planned_tokens=job["planned_tokens"])
    apply(execution)
    began = time.perf_counter()
    step = TrainStep(trunk.model, trunk.recipe, execution)
    step.state.start(trunk)
    stream: Stream = _RandomRows(trunk)
    if job["dataset"]:
        stream = Dataset.open(Path(job["dataset"])).stream(trunk.model.context)
    scratch = Path(job["scratch"]) / f"{number}"
    scratch.mkdir(exist_ok=True)

    def updates(count: int) -> float:
        """Seconds of some updates of the real loop, curve included."""
        before = time.perf_counter()
        with CurveWriter(scratch / "curve.jsonl", after=0) as writer:
            until = step.state.step + count
            try:
                train(step, trunk, stream, until=until, write=writer.write)
            except Diverged:
                step.state.start(trunk)
        return time.perf_counter() - before

    first = updates(1)  # compiles
    rows = _RandomRows(trunk).rows(0, max(1, EVALUATION_TOKENS // trunk.model.context), data_seed=0)
    evaluate(step, rows)
    prepared = time.perf_counter() - began
    together = max(1, min(UPDATES_TOGETHER, int(GROUP_SECONDS / updates(1))))
    groups: list[float] = []
    while len(groups) < FEWEST_GROUPS or sum(groups) < ENOUGH_SECONDS:
        groups.append(updates(together))
    update = median(groups) / together
    evaluation = _seconds(lambda: evaluate(step, rows)) / (len(rows) * trunk.model.context)
    fork = _seconds(lambda: _save(step, scratch, with_optimizer=True))
    end = _seconds(lambda: _save(step, scratch, with_optimizer=False))
    shutil.rmtree(scratch)
    return Timing(
        update=update,
        evaluation=evaluation,
        fork=fork,
        end=end,
        prepare=max(0.0, prepared - min(first, update)),
        updates=len(groups) * together,
        device_kind=execution.device_kind,
        kernels=execution.kernels,
        compile=execution.compile,
    )


def _save(step: TrainStep, scratch: Path, *, with_optimizer: bool) -> None:
    checkpoint.save(step.state, scratch / "checkpoint", with_optimizer=with_optimizer)
    shutil.rmtree(scratch / "checkpoint")


def _seconds(what: Callable[[], object]) -> float:
    """Median seconds of the repetitions."""
    seconds = []
    for _ in range(GOES):
        before = time.perf_counter()
        what()
        seconds.append(time.perf_counter() - before)
    return median(seconds)


class _RandomRows:
    """Random token ids, used while no data is prepared."""

    def __init__(self, trunk: Trunk) -> None:
        self._vocab_size, self._context = trunk.model.vocab_size, trunk.model.context

    def rows(self, first: int, count: int, *, data_seed: int) -> np.ndarray:
        """Token ids (count, context + 1)."""
        rng = np.random.default_rng((data_seed, first))
        return rng.integers(0, self._vocab_size, size=(count, self._context + 1))


if __name__ == "__main__":
    main()
