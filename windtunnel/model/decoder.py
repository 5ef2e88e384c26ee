"""The MiniCPM decoder: RMSNorm, RoPE, grouped-query attention, gated SiLU feed-forward.

Every parameter has a muP role; width rules live in `windtunnel.mup`, and forward factors come in as
`SiteMultipliers`. Queries, keys and values share one matrix, and so do gate and up: they have the
same role and fan-in, and one larger matmul is faster than three.

Axes: B sequences, T positions, W width, H query heads, G kv heads, K head size, F ffn width,
V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from windtunnel.config.shape import NORM_EPS, DenseSpec
from windtunnel.model.language_model import LanguageModel
from windtunnel.mup import Role, SiteMultipliers


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

    def __init__(self, spec: DenseSpec, sites: SiteMultipliers) -> None:
        super().__init__()
        self.spec, self.sites = spec, sites
        width, head = spec.width, spec.head_dim
        self.add("norm_attention", Role.GAIN, width)
        self.add("qkv", Role.HIDDEN, width + 2 * spec.kv_heads * head, width)
        self.add("out", Role.HIDDEN, width, width)
        self.add("norm_ffn", Role.GAIN, width)
        self.add_feed_forward()
        if spec.qk_norm:
            self.add("norm_q", Role.GAIN, head)
            self.add("norm_k", Role.GAIN, head)

    def add_feed_forward(self) -> None:
        """Register the parameters of the feed-forward."""
        width, inner = self.spec.width, self.spec.ffn_width
        self.add("gate_up", Role.HIDDEN, 2 * inner, width)
        self.add("down", Role.HIDDEN, width, inner)

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


class Stack(RoleParameters):
    """The decoder without its loss: embedding, blocks, final norm and head."""

    spec: DenseSpec
    embedding: Tensor
    norm_final: Tensor
    readout: Tensor
    cos_TK: Tensor
    sin_TK: Tensor

    def __init__(self, spec: DenseSpec, sites: SiteMultipliers) -> None:
        super().__init__()
        self.spec, self.sites = spec, sites
        self.add("embedding", Role.EMBEDDING, spec.vocab_size, spec.width)
        self.blocks = nn.ModuleList(self.block(number) for number in range(spec.depth))
        self.add("norm_final", Role.GAIN, spec.width)
        if not spec.tied:
            self.add("readout", Role.READOUT, spec.vocab_size, spec.width)
        cos_TK, sin_TK = rotary_tables(spec)
        self.register_buffer("cos_TK", cos_TK, persistent=False)
        self.register_buffer("sin_TK", sin_TK, persistent=False)

    def block(self, number: int) -> Block:
        """A new block, of layer `number` from 0."""
        del number
        return Block(self.spec, self.sites)

    @property
    def layers(self) -> list[Block]:
        """The blocks, first to last, with their type."""
        return list(self.blocks)  # type: ignore[arg-type]

    def weights(self) -> dict[str, nn.Parameter]:
        """Every parameter by its name in `named_parameters`."""
        return dict(self.named_parameters())

    def roles(self) -> dict[str, Role]:
        """Full parameter name -> role, in the order of `weights`."""
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

    def first_values(self, name: str) -> Tensor:
        """Ones."""
        return torch.ones_like(self.get_parameter(name))


class Decoder(Stack, LanguageModel):
    """The built-in family: MiniCPM's decoder."""

    spec: DenseSpec


def rms_norm(x: Tensor, gain: Tensor) -> Tensor:
    """RMSNorm of `x` over its last axis, times the gain (Zhang and Sennrich, arXiv 1910.07467)."""
    return F.rms_norm(x, gain.shape, gain, NORM_EPS)


def rotary_tables(spec: DenseSpec) -> tuple[Tensor, Tensor]:
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
