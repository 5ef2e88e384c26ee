"""The other devices of a data-parallel trial: they do what rank 0 says until it is done."""

import json

import torch
import torch.distributed as dist

from windtunnel.spec import ModelSpec, Recipe
from windtunnel.train.execution import Execution, apply
from windtunnel.train.parallel import LEADER, Order, fill, receive
from windtunnel.train.step import TrainStep


def follow() -> None:
    """Lend this device to rank 0 until it says END."""
    step: TrainStep | None = None
    while True:
        order, sizes, factor = receive()
        match order:
            case Order.PREPARE:
                step = None  # its memory is a model's
                step = _prepared(sizes[0])
            case Order.FILL if step:
                fill(step.state)
            case Order.UPDATE if step:
                rows = torch.empty(sizes, dtype=torch.long)
                dist.broadcast(rows, LEADER)
                step.update(rows.numpy(), factor)
            case Order.END:
                return


def _prepared(length: int) -> TrainStep:
    text = torch.empty(length, dtype=torch.uint8)
    dist.broadcast(text, LEADER)
    model, recipe, made = json.loads(bytes(text.tolist()))
    execution = Execution.model_validate(made)
    apply(execution)
    return TrainStep(ModelSpec.model_validate(model), Recipe.model_validate(recipe), execution)
