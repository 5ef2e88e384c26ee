"""Data-parallel training of one model: rank 0 runs the segment, the other ranks follow it.

Only rank 0 knows the segment, the data and the store. It broadcasts the rows and the learning-rate
factor of every update. Each rank computes the gradient of its contiguous share of each micro-batch,
DDP averages the gradients, and all ranks apply the same update. So every decision is made once, and
rows keep the order of one device. Messages are tensors and JSON; nothing is unpickled.
"""

import json
from contextlib import AbstractContextManager, nullcontext
from enum import IntEnum
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from windtunnel.config import ModelSpec, Recipe
from windtunnel.errors import ConfigError
from windtunnel.train.execution import Execution
from windtunnel.train.state import TrainState

LEADER = 0


class Command(IntEnum):
    """A command from rank 0 to its followers."""

    PREPARE = 0
    FILL = 1
    UPDATE = 2
    END = 3


def is_leader() -> bool:
    """Whether this process is rank 0, or trains alone."""
    return not dist.is_initialized() or dist.get_rank() == LEADER


def send(command: Command, *, sizes: tuple[int, int] = (0, 0), factor: float = 0.0) -> None:
    """Send a command from rank 0 to all followers."""
    dist.broadcast(torch.tensor([command, *sizes, factor], dtype=torch.float64), LEADER)


def receive() -> tuple[Command, tuple[int, int], float]:
    """The next command of rank 0, the shape of the payload, and the learning-rate factor."""
    message = torch.empty(4, dtype=torch.float64)
    dist.broadcast(message, LEADER)
    command, rows, columns, factor = message.tolist()
    return Command(int(command)), (int(rows), int(columns)), factor


class Broadcaster:
    """Rank 0's side of a train step: it sends shapes, states and updates to the followers."""

    def __init__(self, model: ModelSpec, recipe: Recipe, execution: Execution) -> None:
        self._filled: int | None = None
        shape = [part.model_dump(mode="json") for part in (model, recipe, execution)]
        text = torch.tensor(bytearray(json.dumps(shape).encode()), dtype=torch.uint8)
        send(Command.PREPARE, sizes=(len(text), 0))
        dist.broadcast(text, LEADER)

    def update(self, state: TrainState, rows: np.ndarray, factor: float) -> None:
        """Start the same update on every follower; `rows` are the batch of all devices."""
        if self._filled != state.fills:
            send(Command.FILL)
            broadcast_state(state)
            self._filled = state.fills
        batch = torch.from_numpy(rows).long()
        send(Command.UPDATE, sizes=(batch.shape[0], batch.shape[1]), factor=factor)
        dist.broadcast(batch, LEADER)


def broadcast_state(state: TrainState) -> None:
    """Copy rank 0's weights and moments to every follower, in place."""
    weights, moments = state.tensors()
    for tensor in (*weights.values(), *moments.values()):
        dist.broadcast(tensor, LEADER)


def rows_of_rank(rows: np.ndarray, execution: Execution) -> np.ndarray:
    """This rank's contiguous `micro_batch_rows` rows of each micro-batch.

    Raises:
        ConfigError: The batch is not a whole number of micro-batches.
    """
    together = execution.micro_batch_rows * execution.devices
    if len(rows) % together:
        raise ConfigError(
            "not-a-multiple",
            f"{len(rows)} rows an update do not divide by {execution.devices} devices of "
            f"{execution.micro_batch_rows} rows at once; change resources.devices_per_trial",
            rows=len(rows),
            devices=execution.devices,
            micro_batch_rows=execution.micro_batch_rows,
        )
    pieces = rows.reshape(-1, execution.devices, execution.micro_batch_rows, rows.shape[1])
    return np.ascontiguousarray(pieces[:, dist.get_rank()].reshape(-1, rows.shape[1]))


class AveragedGradients:
    """A model in DDP, whose loss and gradient are means over all devices.

    DDP rebuilds its buckets after the first gradient, which changes rounding with three devices or
    more. Two throw-away gradients here give fresh and resumed runs the same final layout.
    """

    def __init__(self, model: torch.nn.Module, sample: Tensor) -> None:
        self.model = DistributedDataParallel(model)
        self.model.broadcast_buffers = False  # they are the same constants on every rank
        for _ in range(2):
            self.model(sample).backward()
        self.model.zero_grad(set_to_none=True)

    def __call__(self, *arguments: Any) -> Tensor:
        """Loss on this device's rows."""
        loss: Tensor = self.model(*arguments)
        return loss

    def accumulate(self, *, last: bool) -> AbstractContextManager[None]:
        """A context around one micro-batch; only the last one exchanges gradients."""
        return nullcontext() if last else self.model.no_sync()

    def mean(self, loss: Tensor) -> Tensor:
        """Mean of `loss` over all devices."""
        total = loss.clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()
