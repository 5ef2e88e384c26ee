"""Upcycling: a dense checkpoint as the start of a mixture of experts.

Every feed-forward becomes E copies of itself with a fresh router (Komatsuzaki et al. 2023, arXiv
2212.05055; MiniCPM-MoE, arXiv 2404.06395, section 7.3). A share of each copy's inner units may
start anew, so that the copies differ (drop-upcycling, Nakamura et al. 2025, arXiv 2502.19261): rows
of gate and up, and columns of down, are drawn with the mean and the spread of the whole matrix.

Axes: as in `model.experts`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from windtunnel.config import Branch, ModelChange
from windtunnel.errors import Refused
from windtunnel.model import LanguageModel, initialise
from windtunnel.model.build import generator_of

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""Of AdamW, for each parameter."""

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Upcycling:
    """How a branch makes its mixture of the dense model at the fork."""

    branch: Branch
    change: ModelChange

    @torch.no_grad()
    def __call__(
        self, model: LanguageModel, weights: Tensors, moments: Tensors
    ) -> tuple[Tensors, Tensors]:
        """Weights and moments of the mixture.

        The count of updates in the moments goes on; a fresh router has moments of zero.

        Args:
            model: The mixture; its parameters are overwritten.
            weights: Of the dense model, by name.
            moments: Of the dense model, by `name/moment`.

        Raises:
            Refused: The checkpoint has no moments to copy.
        """
        if not moments and self.change.moments == "copied":
            raise Refused(
                "no-moments",
                "the checkpoint has no moments of the optimizer to copy; write `moments: zeroed`, "
                "or fork where they are kept",
                moments=self.change.moments,
            )
        initialise(model, self.branch.recipe, init_seed=self.branch.root.init_seed)
        found: Tensors = {}
        of_optimizer: Tensors = {}
        for name, fresh in model.weights().items():
            if name not in weights:
                found[name] = fresh.detach().clone()
                own = _first_moments(fresh, moments)
            else:
                found[name] = weights[name]
                own = {key: moments[f"{name}/{key}"] for key in MOMENTS if moments}
                if fresh.dim() > weights[name].dim():
                    found[name], own = self._copies(name, weights[name], own)
            of_optimizer |= {f"{name}/{key}": value for key, value in own.items()}
        return found, of_optimizer

    def _copies(self, name: str, dense: Tensor, moments: Tensors) -> tuple[Tensor, Tensors]:
        """E copies of a matrix, (E, O, I), and their moments."""
        experts = self.change.model.experts

        def copies(matrix: Tensor) -> Tensor:
            return matrix.expand(experts, -1, -1).clone()

        weight = copies(dense)
        kept = 1.0 if self.change.moments == "copied" else 0.0
        own = {key: copies(value) * kept for key, value in moments.items() if value.dim()}
        for expert in range(experts) if self.change.reset else ():
            fresh = self._fresh(name, dense, expert)
            drawn = torch.randn(dense.shape, generator=self._generator(f"{name}/{expert}/reset"))
            weight[expert] = torch.where(fresh, drawn * dense.std() + dense.mean(), dense)
            for value in own.values():
                value[expert].masked_fill_(fresh, 0.0)
        return weight, moments | own

    def _fresh(self, name: str, dense: Tensor, expert: int) -> Tensor:
        """Where a matrix belongs to an inner unit that starts anew: a mask that fits it."""
        layer, _, matrix = name.rpartition(".")
        units = dense.shape[1] if matrix == "down" else dense.shape[0] // 2
        order = torch.randperm(units, generator=self._generator(f"{layer}/{expert}/units"))
        fresh = torch.zeros(units, dtype=torch.bool)
        fresh[order[: round(self.change.reset * units)]] = True
        return fresh[None, :] if matrix == "down" else torch.cat([fresh, fresh])[:, None]

    def _generator(self, name: str) -> torch.Generator:
        return generator_of(self.branch.root.init_seed, name)


def _first_moments(weight: Tensor, moments: Tensors) -> Tensors:
    """Moments of zero; their count of updates is that of the others."""
    count = next((value for name, value in moments.items() if name.endswith("/step")), None)
    if count is None:
        return {}
    zeros = torch.zeros_like(weight)
    return {"step": count.clone(), "exp_avg": zeros, "exp_avg_sq": zeros.clone()}
