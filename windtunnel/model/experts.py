"""MiniCPM-MoE's network: the built-in decoder with experts in place of each feed-forward.

A router gives each token probabilities over E experts, and the K most probable ones compute it
(Shazeer et al. 2017, arXiv 1701.06538; MiniCPM, arXiv 2404.06395, section 7.3). No token is
dropped. Of equal probabilities the expert of lower number goes first.

Axes: as in `model.decoder`, and M tokens of the batch, E experts, K experts of a token, F inner
width of an expert.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from windtunnel.config.experts import ExpertFields
from windtunnel.config.shape import DenseSpec
from windtunnel.model.decoder import Block, Stack, rms_norm
from windtunnel.model.routing import Routing
from windtunnel.mup import Role, SiteMultipliers

BIAS = "balance_bias"


class ExpertBlock(Block):
    """One layer with experts; `routing` records what its router, of layer `number`, does."""

    router: Tensor
    balance_bias: Tensor
    shared_gate_up: Tensor
    shared_down: Tensor

    def __init__(
        self,
        spec: DenseSpec,
        fields: ExpertFields,
        sites: SiteMultipliers,
        routing: Routing,
        number: int,
    ) -> None:
        self.fields, self.routing, self.number = fields, routing, number
        self.inner = spec.ffn_width // fields.granularity
        super().__init__(spec, sites)

    def add_feed_forward(self) -> None:
        """Register router and experts; the experts of a layer are one tensor."""
        fields, width, inner = self.fields, self.spec.width, self.inner
        self.add("gate_up", Role.HIDDEN, fields.experts, 2 * inner, width)
        self.add("down", Role.HIDDEN, fields.experts, width, inner)
        if fields.experts > 1:
            self.add("router", Role.ROUTER, fields.experts, width)
        if fields.shared_experts:
            shared = fields.shared_experts * inner
            self.add("shared_gate_up", Role.HIDDEN, 2 * shared, width)
            self.add("shared_down", Role.HIDDEN, width, shared)
        if self.follows_load:
            self.add(BIAS, Role.GAIN, fields.experts)
            nn.init.zeros_(self.balance_bias.requires_grad_(False))

    @property
    def follows_load(self) -> bool:
        """Whether a bias on the choice follows the load."""
        return self.fields.balance == "bias" and self.fields.experts > 1

    def feed_forward(self, x_BTW: Tensor) -> Tensor:
        """Output of the experts before its residual factor, (B, T, W)."""
        normed_MW = rms_norm(x_BTW, self.norm_ffn).flatten(0, 1)
        out_MW = self.experts(normed_MW, *self.route(normed_MW))
        if self.fields.shared_experts:
            hidden = swiglu(F.linear(normed_MW, self.shared_gate_up))
            out_MW = out_MW + F.linear(hidden, self.shared_down)
        return out_MW.view_as(x_BTW)

    def route(self, normed_MW: Tensor) -> tuple[Tensor, Tensor]:
        """Gates and experts of each token, both (M, K); the router computes in fp32.

        A single expert has no router, and a gate of 1.
        """
        if self.fields.experts == 1:
            ones_MK = normed_MW.new_ones(len(normed_MW), 1)
            return ones_MK, ones_MK.long() - 1
        with torch.autocast(normed_MW.device.type, enabled=False):
            logits_ME = F.linear(normed_MW.float() * self.sites.logits, self.router)
            chosen_MK = self._choose(logits_ME.detach())
            if torch.is_grad_enabled() or self.routing.counts:
                self._count(logits_ME.detach(), chosen_MK)
            if torch.is_grad_enabled():
                gradient_ME = self._balance_gradient(logits_ME.detach(), chosen_MK)
                logits_ME = _add_gradient(logits_ME, gradient_ME)
            gates_MK = logits_ME.softmax(dim=-1).gather(1, chosen_MK)
            if self.fields.normalise_gates:
                gates_MK = gates_MK / gates_MK.sum(dim=-1, keepdim=True)
        return gates_MK, chosen_MK

    def experts(self, normed_MW: Tensor, gates_MK: Tensor, chosen_MK: Tensor) -> Tensor:
        """Sum over a token's experts of gate x output, (M, W)."""
        out = self.each(normed_MW, chosen_MK, self.gate_up, self.down)
        return (out * gates_MK[..., None].to(out.dtype)).sum(dim=1)

    def each(
        self, normed_MW: Tensor, chosen_MK: Tensor, gate_up_EFW: Tensor, down_EWF: Tensor
    ) -> Tensor:
        """Output of each expert of each token, (M, K, W): tokens are gathered by expert."""
        tokens, chosen = chosen_MK.shape
        order = torch.argsort(chosen_MK.flatten(), stable=True)
        counts = torch.bincount(chosen_MK.flatten(), minlength=self.fields.experts).tolist()
        gathered = normed_MW[:, None].expand(-1, chosen, -1).flatten(0, 1)[order]
        outputs = [
            F.linear(swiglu(F.linear(rows, gate_up)), down)
            for rows, gate_up, down in zip(
                torch.split(gathered, counts), gate_up_EFW, down_EWF, strict=True
            )
        ]
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        return torch.cat(outputs)[back].view(tokens, chosen, -1)

    @torch.no_grad()
    def after_update(self) -> None:
        """Move the bias of each expert against its load in the update."""
        rate = self.fields.bias_rate
        if self.follows_load and rate is not None:
            counts_E = self.routing.counts_LE[self.number].to(self.balance_bias)
            self.balance_bias.add_(torch.sign(counts_E.mean() - counts_E), alpha=rate)

    def _choose(self, logits_ME: Tensor) -> Tensor:
        """The K experts of each token, (M, K), most probable first."""
        scores_ME = logits_ME.softmax(dim=-1)
        if self.follows_load:
            scores_ME = scores_ME + self.balance_bias
        return torch.sort(scores_ME, descending=True, stable=True).indices[:, : self.fields.top_k]

    @torch.no_grad()
    def _count(self, logits_ME: Tensor, chosen_MK: Tensor) -> None:
        tokens, experts = logits_ME.shape
        counts_E = torch.bincount(chosen_MK.flatten(), minlength=experts)
        entropy = torch.special.entr(logits_ME.softmax(dim=-1)).sum()
        self.routing.add(self.number, counts_E, entropy, tokens)

    @torch.no_grad()
    def _balance_gradient(self, logits_ME: Tensor, chosen_MK: Tensor) -> Tensor:
        """Gradient of the router's own losses to its logits, (M, E).

        With f an expert's share of all choices of the update and P its mean probability, the Switch
        loss is weight x E x sum of f P, which is the weight at balance; f is a constant in it. The
        losses are means over the update, so the gradient of this batch is divided by its part.
        """
        fields, routing = self.fields, self.routing
        tokens, experts = logits_ME.shape
        probability_ME = logits_ME.softmax(dim=-1)
        gradient_ME = torch.zeros_like(logits_ME)
        if fields.balance == "switch" and fields.balance_weight:
            if routing.shares_LE is not None:
                share_E = routing.shares_LE[self.number]
            else:
                counts_E = torch.bincount(chosen_MK.flatten(), minlength=experts)
                share_E = counts_E / counts_E.sum()
            expected_M1 = (probability_ME * share_E).sum(dim=-1, keepdim=True)
            weight = fields.balance_weight * experts
            gradient_ME += weight * probability_ME * (share_E - expected_M1)
        if fields.z_loss:
            log_sum_M1 = logits_ME.logsumexp(dim=-1, keepdim=True)
            gradient_ME += 2.0 * fields.z_loss * log_sum_M1 * probability_ME
        return gradient_ME * (routing.part / tokens)


class _AddGradient(torch.autograd.Function):
    """The identity, whose backward pass adds a given gradient: of a loss that is not reported."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, added: Tensor) -> Tensor:
        ctx.save_for_backward(added)
        return x.view_as(x)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor
    ) -> tuple[Tensor, None]:
        (added,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradients[0] + added, None


def _add_gradient(x: Tensor, added: Tensor) -> Tensor:
    result: Tensor = _AddGradient.apply(x, added)  # type: ignore[no-untyped-call]
    return result


class ExpertDecoder(Stack):
    """The network of `minicpm-moe`: token ids (B, T) in, logits (B, T, V) out."""

    def __init__(self, spec: DenseSpec, fields: ExpertFields, sites: SiteMultipliers) -> None:
        self.fields, self.router_std = fields, fields.router_std
        self.balances_by_loss = fields.balance == "switch" and fields.experts > 1
        self.routing = Routing(spec.depth, fields.experts)
        super().__init__(spec, sites)
        for name, weight in self.weights().items():
            if weight.dim() == 1 and not name.endswith(BIAS):
                nn.init.ones_(weight)

    def block(self, number: int) -> Block:
        """A new block with experts."""
        return ExpertBlock(self.spec, self.fields, self.sites, self.routing, number)

    @property
    def expert_blocks(self) -> list[ExpertBlock]:
        """The blocks, first to last, with their type."""
        return list(self.blocks)  # type: ignore[arg-type]

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Next-token logits, (B, T, V)."""
        return self.logits(tokens_BT)

    def after_update(self) -> None:
        """Move the biases against the load of the update."""
        for block in self.expert_blocks:
            block.after_update()

    def similarity(self) -> list[float]:
        """Mean cosine between the first matrices of two experts, by layer."""
        return [similarity(block.gate_up) for block in self.expert_blocks]


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) x up, of rows that are gate then up."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


@torch.no_grad()
def similarity(experts: Tensor) -> float:
    """Mean cosine between two of the matrices (E, O, I): 1 of copies, nan of a single one."""
    rows = nn.functional.normalize(experts.flatten(1).float(), dim=1)
    number = len(rows)
    if number < 2:
        return float("nan")
    return float((rows.sum(dim=0).square().sum() - number) / (number * (number - 1)))
