"""What the routers of a mixture of experts did in one update, and how their load is balanced.

Balance is a property of the whole update: of its tokens over all micro-batches and devices. So the
share of tokens that an expert has is counted over the update, and no result depends on how the
update is cut (global-batch balance, Qiu et al. 2025, arXiv 2501.11873).

Axes: L layers, E experts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LayerRouting:
    """The routing of one layer in one update.

    Attributes:
        load_entropy: Of the experts' shares of the tokens, over ln E: 1 is a balanced load.
        largest_share: Of the tokens, by the expert that has most; at balance 1 / E.
        router_entropy: Mean entropy of a token's probabilities, over ln E: near 0 the router is
            sure of every token.
    """

    load_entropy: float
    largest_share: float
    router_entropy: float


class Routing:
    """The routing of the present update, by layer.

    Attributes:
        counts_LE: Tokens that chose each expert, of this update so far.
        entropy_L: Sum over tokens of the entropy of a router's probabilities, in nats.
        tokens: Of this update so far, in one layer.
        shares_LE: Share of each expert in the whole update; None while it is one batch, whose own
            shares are meant.
        part: Share of this batch in the update.
        counts: Whether forward passes are counted: those of an update, not of an evaluation.
    """

    def __init__(self, layers: int, experts: int) -> None:
        self.layers, self.experts = layers, experts
        self.counts = False
        self.begin(1, torch.device("cpu"))

    def begin(self, batches: int, device: torch.device) -> None:
        """Begin an update of so many batches of equal size on this device."""
        self.shares_LE: Tensor | None = None
        self.part = 1.0 / batches
        self.counts_LE = torch.zeros(self.layers, self.experts, device=device)
        self.entropy_L = torch.zeros(self.layers, device=device)
        self.tokens = 0

    def fix_shares(self) -> None:
        """Take what has been counted as the shares of the whole update, and count anew."""
        self.shares_LE = self.counts_LE / self.counts_LE.sum(dim=1, keepdim=True)
        self.counts_LE = torch.zeros_like(self.counts_LE)
        self.entropy_L = torch.zeros_like(self.entropy_L)
        self.tokens = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count forward passes in the body, though they record no graph."""
        self.counts = True
        try:
            yield
        finally:
            self.counts = False

    def sum_over_devices(self) -> None:
        """Add what the other devices of the trial have counted."""
        tokens = torch.tensor([float(self.tokens)], device=self.counts_LE.device)
        for counted in (self.counts_LE, self.entropy_L, tokens):
            dist.all_reduce(counted)
        self.tokens = int(tokens)

    def add(self, layer: int, counts_E: Tensor, entropy: Tensor, tokens: int) -> None:
        """Count a batch in one layer; `entropy` is summed over its tokens."""
        self.counts_LE[layer] += counts_E
        self.entropy_L[layer] += entropy
        self.tokens += tokens if layer == 0 else 0

    def of_layers(self) -> list[LayerRouting]:
        """The routing of the update, by layer."""
        shares_LE = self.counts_LE / self.counts_LE.sum(dim=1, keepdim=True).clamp(min=1.0)
        most = torch.log(torch.tensor(float(max(2, self.experts))))
        load_L = torch.special.entr(shares_LE).sum(dim=1) / most
        router_L = self.entropy_L / max(1, self.tokens) / most
        return [
            LayerRouting(load_entropy=load, largest_share=largest, router_entropy=router)
            for load, largest, router in zip(
                load_L.tolist(), shares_LE.amax(dim=1).tolist(), router_L.tolist(), strict=True
            )
        ]


@runtime_checkable
class Routed(Protocol):
    """A network with routers.

    Attributes:
        routing: What they do in the present update.
        router_std: Their init std at base width.
        balances_by_loss: Whether a loss balances their load, which needs the load of the whole
            update before its first gradient.
    """

    routing: Routing
    router_std: float
    balances_by_loss: bool

    def after_update(self) -> None:
        """Change what follows the load of the update, when that is done."""

    def similarity(self) -> list[float]:
        """Mean cosine between the weights of two experts, by layer; nan of one expert."""
