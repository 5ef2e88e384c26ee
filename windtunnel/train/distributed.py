"""One model on several devices: rank 0 runs the segment, the others lend it their gradient.

Rank 0 alone knows segment, data and store. It sends every update's rows and rate to all; each
computes the gradient of its contiguous share of every micro-batch, DDP takes the mean, and all
apply the same update to the same weights. So whatever decides an update is decided once, and rows
and their order are those of one device. What is sent are tensors and JSON: nothing is unpickled.
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


class Order(IntEnum):
    """What the leader asks of the others."""

    PREPARE = 0
    FILL = 1
    UPDATE = 2
    END = 3


def leads() -> bool:
    """Whether this process runs segments, alone or with others behind it."""
    return not dist.is_initialized() or dist.get_rank() == LEADER


def send(order: Order, *, sizes: tuple[int, int] = (0, 0), factor: float = 0.0) -> None:
    """Ask all others for something."""
    dist.broadcast(torch.tensor([order, *sizes, factor], dtype=torch.float64), LEADER)


def receive() -> tuple[Order, tuple[int, int], float]:
    """What the leader asks for next: the order, the sizes of what follows, and a rate factor."""
    heard = torch.empty(4, dtype=torch.float64)
    dist.broadcast(heard, LEADER)
    order, rows, columns, factor = heard.tolist()
    return Order(int(order)), (int(rows), int(columns)), factor


class Peers:
    """The other devices of one train step, as its leader sees them."""

    def __init__(self, model: ModelSpec, recipe: Recipe, execution: Execution) -> None:
        self._filled: int | None = None
        shape = [each.model_dump(mode="json") for each in (model, recipe, execution)]
        text = torch.tensor(bytearray(json.dumps(shape).encode()), dtype=torch.uint8)
        send(Order.PREPARE, sizes=(len(text), 0))
        dist.broadcast(text, LEADER)

    def update(self, state: TrainState, rows: np.ndarray, factor: float) -> None:
        """Set all others to the same update of the same rows, those of all devices."""
        if self._filled != state.fills:
            send(Order.FILL)
            fill(state)
            self._filled = state.fills
        whole = torch.from_numpy(rows).long()
        send(Order.UPDATE, sizes=(whole.shape[0], whole.shape[1]), factor=factor)
        dist.broadcast(whole, LEADER)


def fill(state: TrainState) -> None:
    """Give the others the leader's weights and moments."""
    weights, moments = state.tensors()
    for tensor in (*weights.values(), *moments.values()):
        dist.broadcast(tensor, LEADER)


def share_of(rows: np.ndarray, execution: Execution) -> np.ndarray:
    """This rank's contiguous part of each micro-batch, of `micro_batch_rows` rows a device.

    Raises:
        ConfigError: The batch does not divide.
    """
    together = execution.micro_batch_rows * execution.devices
    if len(rows) % together:
        raise ConfigError(
            f"{len(rows)} rows an update do not divide by {execution.devices} devices of "
            f"{execution.micro_batch_rows} rows at once; change resources.devices_per_trial"
        )
    pieces = rows.reshape(-1, execution.devices, execution.micro_batch_rows, rows.shape[1])
    return np.ascontiguousarray(pieces[:, dist.get_rank()].reshape(-1, rows.shape[1]))


class Averaged:
    """A model whose gradient, and loss, are the mean over all devices.

    DDP lays its buckets out anew after the first gradient, and with three devices or more the sums
    then round otherwise. A resumed run starts with the final layout too: two gradients are taken
    here that nobody uses.
    """

    def __init__(self, model: torch.nn.Module, sample: Tensor) -> None:
        self.model = DistributedDataParallel(model)
        self.model.broadcast_buffers = False  # the same constants everywhere
        for _ in range(2):
            self.model(sample).backward()
        self.model.zero_grad(set_to_none=True)

    def __call__(self, *arguments: Any) -> Tensor:
        """What the model says of this device's rows."""
        loss: Tensor = self.model(*arguments)
        return loss

    def adding(self, *, last: bool) -> AbstractContextManager[None]:
        """Around a micro-batch: gradients are exchanged with the last one only."""
        return nullcontext() if last else self.model.no_sync()

    def mean(self, loss: Tensor) -> Tensor:
        """The mean of all devices' losses."""
        total = loss.clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()
