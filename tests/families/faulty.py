"""A small decoder of one's own, and families of it with one planted fault each."""

from dataclasses import replace

import torch
from pydantic import BaseModel
from torch import nn
from torch.nn import functional

from windtunnel.model import Family, Role


class Mixer(nn.Module):
    """Attention with one head, and a matrix after it."""

    def __init__(self, width, *, causal=True):
        super().__init__()
        self.causal = causal
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return x + self.out(mixed)


class Small(nn.Module):
    """Ids in, logits out."""

    def __init__(self, shape, *, causal=True, between=None):
        super().__init__()
        self.token = nn.Embedding(shape.vocab_size, shape.width)
        self.blocks = nn.ModuleList(Mixer(shape.width, causal=causal) for _ in range(shape.depth))
        self.between = between or nn.Identity()
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.vocab_size, bias=False)

    def forward(self, tokens):
        x = self.token(tokens)
        for block in self.blocks:
            x = self.between(block(x))
        return self.head(self.norm(x))


class Sound(Family):
    version = "1"

    class Fields(BaseModel):
        causal: bool = True

    def build(self, shape, sites):
        return Small(shape, causal=shape.fields["causal"])

    def patterns(self):
        vectors = dict.fromkeys(("*.bias", "*norm.weight"), Role.GAIN)
        hidden = dict.fromkeys(("*.qkv.weight", "*.out.weight"), Role.HIDDEN)
        return vectors | hidden | {"token.weight": Role.EMBEDDING, "head.weight": Role.READOUT}


class LooksAhead(Sound):
    def build(self, shape, sites):
        return Small(shape, causal=False)


class OverRows(nn.Module):
    """A norm over the batch, which is also over later positions: BatchNorm's fault."""

    def forward(self, x):
        return x - x.mean(dim=0, keepdim=True)


class MixesRows(Sound):
    def build(self, shape, sites):
        return Small(shape, between=OverRows())


class Counter(nn.Module):
    """State outside the parameters: the scale of an update depends on how many ran before."""

    calls = 0

    def forward(self, x):
        Counter.calls += self.training and torch.is_grad_enabled()
        return x * (1 + 0.01 * Counter.calls)


class KeepsState(Sound):
    def build(self, shape, sites):
        return Small(shape, between=Counter())


class Drops(Sound):
    def build(self, shape, sites):
        return Small(shape, between=nn.Dropout(0.1))


class MiscountsParams(Sound):
    def facts(self, shape):
        facts = super().facts(shape)
        return replace(facts, params=facts.params + 1)


class MiscountsEmbedding(Sound):
    def facts(self, shape):
        facts = super().facts(shape)
        return replace(facts, params_embedding=facts.params_embedding // 2)


class TooManyActive(Sound):
    def facts(self, shape):
        facts = super().facts(shape)
        return replace(facts, params_active=2 * facts.params)


class MiscountsFlops(Sound):
    def facts(self, shape):
        facts = super().facts(shape)
        return replace(facts, flops_exact_per_token=int(1.06 * facts.flops_exact_per_token))


class Loud(nn.Module):
    def forward(self, x):
        return x * torch.linspace(-40.0, 40.0, x.shape[-1])


class LoudLogits(Sound):
    def build(self, shape, sites):
        network = Small(shape)
        network.norm = nn.Sequential(network.norm, Loud())
        return network

    def patterns(self):
        return super().patterns() | {"norm.0.weight": Role.GAIN}


class Deaf(Sound):
    def build(self, shape, sites):
        network = Small(shape)
        network.token.register_forward_hook(lambda module, given, x: x * 0)
        return network


class NoRole(Sound):
    def patterns(self):
        return {each: role for each, role in super().patterns().items() if each != "*.out.weight"}


class TwoRoles(Sound):
    def patterns(self):
        return super().patterns() | {"blocks.*": Role.HIDDEN}


class Breaks(Sound):
    def build(self, shape, sites):
        raise ValueError("no such layer")


class NoBuild(Family):
    version = "1"


class NoVersion(Family):
    def build(self, shape, sites):
        return Small(shape)


class NoPatterns(Family):
    version = "1"

    def build(self, shape, sites):
        return Small(shape)


class WantsMore(Sound):
    def __init__(self, heads):
        self.heads = heads


class Pair(Small):
    def forward(self, tokens):
        return super().forward(tokens), None


class ReturnsPair(Sound):
    def build(self, shape, sites):
        return Pair(shape)


class FailsLater(Small):
    """Fails on more than one row."""

    def forward(self, tokens):
        if len(tokens) > 1:
            raise RuntimeError("too many rows")
        return super().forward(tokens)


class FailsInTraining(Sound):
    def build(self, shape, sites):
        return FailsLater(shape)


class Prints(Sound):
    """As nanoGPT: says how large it is."""

    def build(self, shape, sites):
        print("number of parameters: 0.03M")  # noqa: T201
        return Small(shape)


class ViewsTokens(Small):
    """As nanoGPT: views of its ids, which a slice of rows does not allow."""

    def forward(self, tokens):
        return super().forward(tokens.view(-1).view(tokens.shape))


class Views(Sound):
    def build(self, shape, sites):
        return ViewsTokens(shape)


class BadFields(Sound):
    def fields(self, given, *, width, depth):
        return width // 0


class Incomplete:
    version = "1"
    sites = frozenset()
