"""The same training four ways: ours, and three ways to train that network with transformers.

Libraries that only some contenders need are imported where they are used: start-up is measured.
"""

import importlib.util
import itertools
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import numpy as np
import torch
from shapes import BATCHES, Precision, Shape, device, settle
from torch import Tensor

from windtunnel.config.study import Resources
from windtunnel.errors import ConfigError
from windtunnel.train.execution import NATIVE, Execution, apply, decide
from windtunnel.train.step import TrainStep

Loop = Callable[[int], tuple[float, list[float]]]
"""Run so many updates more; the seconds of one update and the loss of each."""

LONG_RUN = 60
"""Tokens a parameter of the run that ours is told to expect."""

NAMES = {
    "ours": "ours",
    "loop": "plain loop",
    "trainer": "Trainer",
    "loop compiled": "compiled loop",
}
"""The contenders of every table, and how a table calls them."""

CHOICES: dict[str, dict[str, str]] = {
    "ours": {},
    "native": {"kernels": "native", "compile": "never"},
    "eager": {"kernels": "torch", "compile": "never"},
    "compiled": {"kernels": "torch", "compile": "always"},
}
"""Ours by what a study asks for: nothing, or one way to compute the step outright."""


def contender(name: str, shape: Shape, precision: Precision, *, same: bool = True) -> Loop:
    """The loop of that name, before its first update.

    `same`: the transformers models start from our weights, not from an init of their own.
    """
    if name in CHOICES:
        step = our_step(name, shape, precision)
        return looped(shape, lambda rows: step.update(rows, 1.0)[0])
    if name == "trainer":
        return trainer(shape, precision, same=same)
    return plain(shape, precision, same=same, compiled=name == "loop compiled")


def missing() -> dict[str, str]:
    """Contenders that cannot run here, and why."""
    if importlib.util.find_spec("accelerate") is None:
        return {"trainer": "transformers' Trainer needs the package accelerate"}
    return {}


def execution_of(
    name: str, shape: Shape, precision: Precision, *, tokens: float | None = None
) -> Execution:
    """How ours, asked for by that name, runs `tokens`; by default 60 a parameter."""
    resources = Resources.model_validate({"precision": precision, **CHOICES[name]})
    planned = int(LONG_RUN * shape.model.params if tokens is None else tokens)
    return decide(resources, shape.model, shape.recipe, planned_tokens=planned)


def way(execution: Execution) -> str:
    """The one word for how ours computes its step."""
    if execution.kernels.startswith(NATIVE):
        return NATIVE
    return "compiled" if execution.compile else "eager"


def ways(shape: Shape, precision: Precision) -> list[str]:
    """The ways that this machine has."""
    found: list[str] = []
    for name in ("native", "eager", "compiled"):
        with suppress(ConfigError):
            if way(execution_of(name, shape, precision)) == name:
                found.append(name)
    return found


def our_step(name: str, shape: Shape, precision: Precision) -> TrainStep:
    """Our step, its state filled."""
    execution = execution_of(name, shape, precision)
    apply(execution)
    step = TrainStep(shape.model, shape.recipe, execution)
    step.state.start(shape.trunk)
    return step


def plain(shape: Shape, precision: Precision, *, same: bool, compiled: bool) -> Loop:
    """A plain loop over Granite, its model compiled or not."""
    from granite import granite, optimizer

    model = granite(shape, same=same)
    adamw = optimizer(shape, model)
    parameters = list(model.parameters())
    forward = torch.compile(model) if compiled else model

    def update(rows: np.ndarray) -> Tensor:
        batch = torch.from_numpy(rows).to(device(), non_blocking=True)
        with autocast(precision):
            logits = forward(input_ids=batch[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, shape.recipe.clip)
        adamw.step()
        adamw.zero_grad()
        return loss.detach()

    return looped(shape, update)


def trainer(shape: Shape, precision: Precision, *, same: bool) -> Loop:
    """Granite and the same optimizer in transformers' Trainer.

    Each call is one `train()`; timed are the updates after its first.
    """
    from granite import granite, optimizer
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
    from transformers.utils import logging

    logging.set_verbosity_error()
    model = granite(shape, same=same)
    adamw = optimizer(shape, model)
    batches = torch.from_numpy(shape.batches())
    done = itertools.count()
    losses: list[Tensor] = []
    marks: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: object, state: Any, control: object, **_: object) -> None:
            if state.global_step in {1, state.max_steps}:
                settle()
                marks.append(time.perf_counter())

    def example(row: Tensor) -> dict[str, Tensor]:
        return {"input_ids": row[:-1], "labels": row[1:], "shift_labels": row[1:]}

    def run(count: int) -> tuple[float, list[float]]:
        losses.clear()
        marks.clear()
        arguments = TrainingArguments(
            output_dir=tempfile.gettempdir(),
            max_steps=count,
            per_device_train_batch_size=shape.rows,
            optim="adamw_torch_fused",
            max_grad_norm=shape.recipe.clip,
            lr_scheduler_type="constant",
            train_sampling_strategy="sequential",
            remove_unused_columns=False,
            bf16=precision == "bf16",
            use_cpu=device() == "cpu",
            dataloader_pin_memory=device() == "cuda",
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        updates = [batches[next(done) % BATCHES] for _ in range(count)]
        run_of_updates = Trainer(
            model=model,
            args=arguments,
            train_dataset=[example(row) for batch in updates for row in batch],
            optimizers=(adamw, None),
            callbacks=[Clock()],
        )
        run_of_updates.remove_callback(PrinterCallback)
        run_of_updates.train()
        return (marks[-1] - marks[0]) / max(1, count - 1), [float(loss) for loss in losses]

    model.register_forward_hook(lambda _model, _inputs, found: losses.append(found.loss.detach()))
    return run


def looped(shape: Shape, update: Callable[[np.ndarray], Tensor | float]) -> Loop:
    """Calls of `update` on one batch after the other."""
    batches = shape.batches()
    done = itertools.count()

    def run(count: int) -> tuple[float, list[float]]:
        settle()
        began = time.perf_counter()
        losses = [update(batches[next(done) % BATCHES]) for _ in range(count)]
        settle()
        return (time.perf_counter() - began) / count, [float(loss) for loss in losses]

    return run


def autocast(precision: Precision) -> AbstractContextManager[object]:
    """Autocast to bf16, or nothing."""
    if precision == "bf16":
        return torch.autocast(device(), dtype=torch.bfloat16)
    return nullcontext()
