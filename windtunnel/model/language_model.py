"""A language model of any family: rows of token ids in, mean loss out.

Loss mask: a token whose prediction is masked is stored as its bitwise complement, ~id, and is still
read as `id`. The first token of a row is never predicted, masked or not.

Axes: B sequences, T positions, V vocabulary.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from windtunnel.config.shape import ModelSpec
from windtunnel.model.routing import Routed
from windtunnel.mup import Role


def has_loss_mask(rows: np.ndarray) -> bool:
    """Whether the loss of any token in (n, T + 1) rows is masked."""
    return bool((rows < 0).any())


def predictions_per_counted(rows: np.ndarray) -> float:
    """All predictions in (n, T + 1) rows over those that count; exactly 1 without a mask.

    The factor turns a mean over all predictions, masked ones at 0, into a mean over those that
    count. Where every prediction is masked the mean stays 0.
    """
    predictions = rows[:, 1:]
    return predictions.size / max(1, int(np.count_nonzero(predictions >= 0)))


def token_ids(rows: Tensor) -> Tensor:
    """Token ids without their loss mask."""
    return torch.where(rows < 0, ~rows, rows)


class LanguageModel(nn.Module, ABC):
    """A decoder whose parameters have roles."""

    spec: ModelSpec

    @abstractmethod
    def weights(self) -> dict[str, nn.Parameter]:
        """Every parameter once, by the name that checkpoints, ids of draws and exports use."""

    @abstractmethod
    def roles(self) -> dict[str, Role]:
        """The role of every parameter, in the order of `weights`."""

    @abstractmethod
    def logits(self, tokens_BT: Tensor) -> Tensor:
        """Next-token logits, (B, T, V)."""

    @abstractmethod
    def first_values(self, name: str) -> Tensor:
        """What a gain starts at, by its name in `weights`."""

    @property
    def routed(self) -> Routed | None:
        """The network with its routers; None of a model without experts."""
        return None

    def forward(self, rows: Tensor, masked: bool = False) -> Tensor:
        """Mean loss in nats per token over rows of (B, T + 1) token ids.

        With `masked`, rows may carry a loss mask: a masked prediction adds 0 to the sum, and the
        sum is still divided by all B T predictions.
        """
        if masked:
            return self._masked_loss(rows)
        logits_BTV = self.logits(rows[:, :-1])
        targets_BT = rows[:, 1:]
        return F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten())

    def _masked_loss(self, rows: Tensor) -> Tensor:
        logits_BTV = self.logits(token_ids(rows[:, :-1]))
        targets = rows[:, 1:].flatten().clamp(min=-1)
        summed = F.cross_entropy(
            logits_BTV.flatten(0, 1).float(), targets, ignore_index=-1, reduction="sum"
        )
        return summed / targets.numel()
