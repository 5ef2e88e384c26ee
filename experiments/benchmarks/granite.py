"""Our network in transformers: Granite has muP's four multipliers, so nothing is left over.

With the weights copied and the same rates, decays and eps it trains the same curve as ours.
"""

import torch
from shapes import Shape, device
from torch import Tensor
from transformers import GraniteConfig, GraniteForCausalLM

from windtunnel.config import DenseSpec
from windtunnel.config.shape import NORM_EPS
from windtunnel.model import Decoder, build, initialise
from windtunnel.mup import Role, SiteMultipliers
from windtunnel.train.state import role_groups


def granite(shape: Shape, *, same: bool) -> GraniteForCausalLM:
    """Granite in this shape; `same`: with the weights that ours starts from."""
    if same:
        decoder = build(shape.model, shape.recipe)
        initialise(decoder, shape.recipe, init_seed=shape.trunk.init_seed)
        model = granite_like(decoder)
    else:
        model = GraniteForCausalLM(config(shape.model, shape.recipe.multipliers(shape.model)))
    return model.to(torch.device(device()))


def granite_like(decoder: Decoder) -> GraniteForCausalLM:
    """The same network in transformers, weights copied."""
    model = GraniteForCausalLM(config(decoder.spec, decoder.sites))
    model.load_state_dict(weights(decoder))
    return model


def config(spec: DenseSpec, sites: SiteMultipliers) -> GraniteConfig:
    """Our shape and muP's factors in Granite's words."""
    return GraniteConfig(
        vocab_size=spec.vocab_size,
        hidden_size=spec.width,
        intermediate_size=spec.ffn_width,
        num_hidden_layers=spec.depth,
        num_attention_heads=spec.num_heads,
        num_key_value_heads=spec.kv_heads,
        max_position_embeddings=spec.context,
        rms_norm_eps=NORM_EPS,
        tie_word_embeddings=spec.tied,
        embedding_multiplier=sites.embed,
        residual_multiplier=sites.residual,
        attention_multiplier=sites.attention,
        logits_scaling=1 / sites.logits,
        use_cache=False,
        attn_implementation="sdpa",
    )


def weights(decoder: Decoder) -> dict[str, Tensor]:
    """Our weights under Granite's names."""
    spec = decoder.spec
    found = {
        "model.embed_tokens.weight": decoder.embedding,
        "model.norm.weight": decoder.norm_final,
        "lm_head.weight": decoder.embedding if spec.tied else decoder.readout,
    }
    kv_width = spec.kv_heads * spec.head_dim
    for number, block in enumerate(decoder.layers):
        at = f"model.layers.{number}."
        q, k, v = block.qkv.split([spec.width, kv_width, kv_width])
        gate, up = block.gate_up.chunk(2)
        found |= {
            f"{at}self_attn.q_proj.weight": q,
            f"{at}self_attn.k_proj.weight": k,
            f"{at}self_attn.v_proj.weight": v,
            f"{at}self_attn.o_proj.weight": block.out,
            f"{at}mlp.gate_proj.weight": gate,
            f"{at}mlp.up_proj.weight": up,
            f"{at}mlp.down_proj.weight": block.down,
            f"{at}input_layernorm.weight": block.norm_attention,
            f"{at}post_attention_layernorm.weight": block.norm_ffn,
        }
    return {name: weight.detach() for name, weight in found.items()}


def optimizer(shape: Shape, model: GraniteForCausalLM) -> torch.optim.AdamW:
    """Fused AdamW with our group of each role."""
    groups, _ = role_groups(build(shape.model, shape.recipe), shape.recipe)
    for group in groups:
        group["params"] = [p for n, p in model.named_parameters() if _role(n) is group["role"]]
    return torch.optim.AdamW(groups, lr=shape.recipe.lr, fused=True)


def _role(name: str) -> Role:
    for part, role in (("embed", Role.EMBEDDING), ("norm", Role.GAIN), ("lm_head", Role.READOUT)):
        if part in name:
            return role
    return Role.HIDDEN
