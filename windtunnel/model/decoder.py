"""The MiniCPM decoder: RMSNorm, RoPE, grouped-query attention, gated SiLU feed-forward.

Every parameter has a muP role; width rules live in `windtunnel.mup`, and forward factors come in as
`SiteMultipliers`. Queries, keys and values share one matrix, and so do gate and up: they have the
same role and fan-in, and one larger matmul is faster than three.

Loss mask: a token whose prediction is masked is stored as its bitwise complement, ~id, and is still
read as `id`. The first token of a row is never predicted, masked or not.

Axes: B sequences, T positions, W width, H query heads, G kv heads, K head size, F ffn width,
V vocabulary.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from windtunnel.config.model import NORM_EPS, ModelSpec, Recipe
from windtunnel.mup import Role, SiteMultipliers


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


class RoleParameters(nn.Module):
    """A module that records the muP role of each parameter it registers."""

    def __init__(self) -> None:
        super().__init__()
        self.role_of: dict[str, Role] = {}

    def add(self, name: str, role: Role, *shape: int) -> None:
        """Register an uninitialised parameter under its role."""
        self.register_parameter(name, nn.Parameter(torch.empty(*shape)))
        self.role_of[name] = role


class Block(RoleParameters):
    """One pre-norm layer: attention and feed-forward, each scaled into the residual stream."""

    norm_attention: Tensor
    qkv: Tensor
    out: Tensor
    norm_ffn: Tensor
    gate_up: Tensor
    down: Tensor
    norm_q: Tensor
    norm_k: Tensor

    def __init__(self, spec: ModelSpec, sites: SiteMultipliers) -> None:
        super().__init__()
        self.spec, self.sites = spec, sites
        width, head = spec.width, spec.head_dim
        self.add("norm_attention", Role.GAIN, width)
        self.add("qkv", Role.HIDDEN, width + 2 * spec.kv_heads * head, width)
        self.add("out", Role.HIDDEN, width, width)
        self.add("norm_ffn", Role.GAIN, width)
        self.add("gate_up", Role.HIDDEN, 2 * spec.ffn_width, width)
        self.add("down", Role.HIDDEN, width, spec.ffn_width)
        if spec.qk_norm:
            self.add("norm_q", Role.GAIN, head)
            self.add("norm_k", Role.GAIN, head)

    def forward(self, x_BTW: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
        """Residual stream after this layer, (B, T, W)."""
        residual = self.sites.residual
        x_BTW = torch.add(x_BTW, self.attention(x_BTW, cos_TK, sin_TK), alpha=residual)
        return torch.add(x_BTW, self.feed_forward(x_BTW), alpha=residual)

    def attention(self, x_BTW: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
        """Output of the attention branch before its residual factor, (B, T, W)."""
        return F.linear(self.mixed_values(x_BTW, cos_TK, sin_TK), self.out)

    def mixed_values(self, x_BTW: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
        """The attention-weighted values of all query heads, the input of `out`, (B, T, W)."""
        spec = self.spec
        batch, length, width = x_BTW.shape
        normed = rms_norm(x_BTW, self.norm_attention)
        heads = F.linear(normed, self.qkv).view(batch, length, -1, spec.head_dim).transpose(1, 2)
        rotated, v_BGTK = torch.split(heads, [spec.num_heads + spec.kv_heads, spec.kv_heads], dim=1)
        if spec.qk_norm:
            q_BHTK, k_BGTK = torch.split(rotated, [spec.num_heads, spec.kv_heads], dim=1)
            q_BHTK, k_BGTK = rms_norm(q_BHTK, self.norm_q), rms_norm(k_BGTK, self.norm_k)
            rotated = torch.cat([q_BHTK, k_BGTK], dim=1)
        rotated = rotate(rotated, cos_TK, sin_TK)  # queries and keys in one call
        q_BHTK, k_BGTK = torch.split(rotated, [spec.num_heads, spec.kv_heads], dim=1)
        mixed_BHTK = F.scaled_dot_product_attention(
            q_BHTK,
            k_BGTK,
            v_BGTK,
            is_causal=True,
            scale=self.sites.attention,
            enable_gqa=spec.kv_heads != spec.num_heads,
        )
        return mixed_BHTK.transpose(1, 2).reshape(batch, length, width)

    def feed_forward(self, x_BTW: Tensor) -> Tensor:
        """Output of the feed-forward branch before its residual factor, (B, T, W)."""
        return F.linear(self.gated(x_BTW), self.down)

    def gated(self, x_BTW: Tensor) -> Tensor:
        """The gated inner activations, the input of `down`, (B, T, F)."""
        gate_BTF, up_BTF = F.linear(rms_norm(x_BTW, self.norm_ffn), self.gate_up).chunk(2, dim=-1)
        return F.silu(gate_BTF) * up_BTF


class Decoder(RoleParameters):
    """The language model: token ids in, mean loss out."""

    embedding: Tensor
    norm_final: Tensor
    readout: Tensor
    cos_TK: Tensor
    sin_TK: Tensor

    def __init__(self, spec: ModelSpec, sites: SiteMultipliers) -> None:
        super().__init__()
        self.spec, self.sites = spec, sites
        self.add("embedding", Role.EMBEDDING, spec.vocab_size, spec.width)
        self.blocks = nn.ModuleList(Block(spec, sites) for _ in range(spec.depth))
        self.add("norm_final", Role.GAIN, spec.width)
        if not spec.tied:
            self.add("readout", Role.READOUT, spec.vocab_size, spec.width)
        cos_TK, sin_TK = rotary_tables(spec)
        self.register_buffer("cos_TK", cos_TK, persistent=False)
        self.register_buffer("sin_TK", sin_TK, persistent=False)

    @property
    def layers(self) -> list[Block]:
        """The blocks, first to last, with their type."""
        return list(self.blocks)  # type: ignore[arg-type]

    def roles(self) -> dict[str, Role]:
        """Full parameter name -> role, in the order of `named_parameters`."""
        of_modules = {
            f"{prefix}.{name}" if prefix else name: role
            for prefix, module in self.named_modules()
            if isinstance(module, RoleParameters)
            for name, role in module.role_of.items()
        }
        return {name: of_modules[name] for name, _ in self.named_parameters()}

    def hidden(self, tokens_BT: Tensor) -> Tensor:
        """Residual stream after the final norm, (B, T, W)."""
        x_BTW = F.embedding(tokens_BT, self.embedding) * self.sites.embed
        length = tokens_BT.shape[1]
        cos_TK, sin_TK = self.cos_TK[:length], self.sin_TK[:length]
        for block in self.blocks:
            x_BTW = block(x_BTW, cos_TK, sin_TK)
        return rms_norm(x_BTW, self.norm_final)

    def logits(self, tokens_BT: Tensor) -> Tensor:
        """Next-token logits, (B, T, V); the hidden state is scaled before the projection."""
        matrix = self.embedding if self.spec.tied else self.readout
        return F.linear(self.hidden(tokens_BT) * self.sites.logits, matrix)

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


def rms_norm(x: Tensor, gain: Tensor) -> Tensor:
    """RMSNorm of `x` over its last axis, times the gain (Zhang and Sennrich, arXiv 1910.07467)."""
    return F.rms_norm(x, gain.shape, gain, NORM_EPS)


def rotary_tables(spec: ModelSpec) -> tuple[Tensor, Tensor]:
    """Cosine and signed sine, (T, K), that rotate pairs (i, i + K / 2) (RoFormer, eq. 34)."""
    half = spec.head_dim // 2
    frequency = spec.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.outer(torch.arange(spec.context, dtype=torch.float64), frequency)
    cos, sin = angle.cos().float(), angle.sin().float()
    return torch.cat([cos, cos], dim=1), torch.cat([-sin, sin], dim=1)


def rotate(x: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
    """Queries or keys (B, heads, T, K) with rotary position embedding applied."""
    first, second = x.chunk(2, dim=-1)
    return (x * cos_TK + torch.cat([second, first], dim=-1) * sin_TK).to(x.dtype)


@torch.no_grad()
def initialise(model: Decoder, recipe: Recipe, *, init_seed: int) -> None:
    """Initialise every parameter by its role, in place."""
    roles = model.roles()
    for name, parameter in model.named_parameters():
        std = recipe.init_std * recipe.scale(roles[name], model.spec).init_std
        parameter.copy_(initial_weight(name, parameter.shape, std=std, init_seed=init_seed))
        scale_kv(name, parameter, model.spec, recipe)


@torch.no_grad()
def scale_kv(name: str, weight: Tensor, spec: ModelSpec, recipe: Recipe) -> None:
    """Give the rows of keys and values of a new `qkv` their own init std, in place."""
    if name.endswith("qkv"):
        weight[spec.width :] *= recipe.kv_init_std(spec)


def initial_weight(name: str, shape: Sequence[int], *, std: float, init_seed: int) -> Tensor:
    """Initial value of parameter `name`: normal with `std`, or ones where `std` is 0 (gains).

    Each parameter has its own generator, so its values depend on (init_seed, name) alone.
    """
    if std == 0.0:
        return torch.ones(*shape)
    digest = hashlib.sha256(f"{init_seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.randn(*shape, generator=generator).mul_(std)


def build(spec: ModelSpec, recipe: Recipe) -> Decoder:
    """A decoder with uninitialised parameters and the recipe's forward multipliers."""
    return Decoder(spec, recipe.multipliers(spec))
