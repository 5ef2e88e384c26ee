"""The memory of one batch shape: what the backward pass needs of the forward pass, and scratch.

Axes: M tokens of the batch, W width, F ffn width, V vocabulary, K head size; B, T, P as in
attention.cpp.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from windtunnel.spec.model import ModelSpec

PAD = 16
"""Positions of a head are padded to a multiple of it (attention.cpp)."""


@dataclass
class Layer:
    """What the backward pass of one layer needs of its forward pass."""

    x: Tensor
    inverse: Tensor
    normed: Tensor
    qkv: Tensor
    heads: Tensor
    largest: Tensor
    inverse_sum: Tensor
    mixed: Tensor
    middle: Tensor
    inverse_ffn: Tensor
    normed_ffn: Tensor
    gate_up: Tensor
    hidden: Tensor


class Buffers:
    """Buffers for `sequences` rows; with fewer layers than the model's, layers share them.

    The residual stream and its gradient are fp32; what feeds a matrix product has `dtype`.
    """

    def __init__(self, spec: ModelSpec, sequences: int, layers: int, dtype: torch.dtype) -> None:
        self.sequences, self.length = sequences, spec.context
        self.tokens = tokens = sequences * spec.context
        width, ffn = spec.width, spec.ffn_width
        self.row_shape = (sequences, spec.context, width)
        self.stream_shape = (tokens, width)
        self.head_shape = (sequences, spec.context, spec.num_heads, spec.kv_heads, spec.head_dim)
        padded = -(-spec.context // PAD) * PAD
        all_heads = spec.num_heads + 2 * spec.kv_heads

        def floats(*shape: int) -> Tensor:
            return torch.zeros(shape)

        def typed(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=dtype)

        self.layers = [
            Layer(
                x=floats(tokens, width),
                inverse=floats(tokens),
                normed=typed(tokens, width),
                qkv=typed(tokens, all_heads * spec.head_dim),
                heads=floats(sequences, all_heads, padded, spec.head_dim),
                largest=floats(sequences, spec.num_heads, padded),
                inverse_sum=floats(sequences, spec.num_heads, padded),
                mixed=typed(tokens, width),
                middle=floats(tokens, width),
                inverse_ffn=floats(tokens),
                normed_ffn=typed(tokens, width),
                gate_up=typed(tokens, 2 * ffn),
                hidden=typed(tokens, ffn),
            )
            for _ in range(layers)
        ]
        self.rows = torch.zeros((sequences, spec.context + 1), dtype=torch.int64)
        self.x, self.inverse = floats(tokens, width), floats(tokens)
        self.normed, self.delta = typed(tokens, width), typed(tokens, width)
        self.logits = typed(tokens, spec.vocab_size)
        self.row_of_logits = floats(spec.vocab_size + PAD)
        # Two transposed blocks and one straight, two rows of weights a query, three heads.
        self.scratch = floats(
            3 * PAD * spec.head_dim + 2 * padded * PAD + 3 * padded * spec.head_dim
        )
        self.dx = floats(tokens, width)
        self.dx_cast = self.dx if dtype is torch.float32 else typed(tokens, width)
        self.dnormed, self.dmixed = typed(tokens, width), typed(tokens, width)
        self.dhidden = typed(tokens, ffn)
        self.dqkv = typed(tokens, all_heads * spec.head_dim)

    def layer(self, number: int) -> Layer:
        """The buffers of a layer."""
        return self.layers[number % len(self.layers)]
