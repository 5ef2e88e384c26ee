"""An architecture of one's own: GPT-2's layers, with learned positions, LayerNorm and GELU.

`SmallGpt` knows nothing of windtunnel. `Gpt` says how to build one, and what each parameter is.
"""

from pydantic import BaseModel, Field
from torch import nn
from torch.nn import functional

from windtunnel.model import Family, Role


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        heads = self.qkv(self.norm_1(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = heads.transpose(1, 3).unbind(2)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(functional.gelu(self.up(self.norm_2(x))))


class SmallGpt(nn.Module):
    def __init__(self, vocab_size, context, width, depth, head_dim):
        super().__init__()
        self.token, self.position = nn.Embedding(vocab_size, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, width // head_dim) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocab_size, bias=False)

    def forward(self, tokens):
        x = self.token(tokens) + self.position.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Gpt(Family):
    version = "1"  # raise it when the same weights give other logits

    class Fields(BaseModel):
        head_dim: int = Field(16, ge=1)

    def build(self, shape, sites):
        head_dim = shape.fields["head_dim"]
        return SmallGpt(shape.vocab_size, shape.context, shape.width, shape.depth, head_dim)

    def patterns(self):
        matrices = ("*.qkv.weight", "*.out.weight", "*.up.weight", "*.down.weight")
        tables = {"token.weight": Role.EMBEDDING, "position.weight": Role.EMBEDDING}
        vectors = dict.fromkeys(("*.bias", "*norm*.weight"), Role.GAIN)
        return (
            dict.fromkeys(matrices, Role.HIDDEN) | vectors | tables | {"head.weight": Role.READOUT}
        )
