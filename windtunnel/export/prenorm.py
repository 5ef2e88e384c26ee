"""The decoder of Megatron-LM, torchtitan and nanotron: what they read of a model.

It norms before each block (RMSNorm), rotates all of a head by halves, groups queries, gates its
feed-forward by SiLU and has no bias. MiniCPM's decoder is one, and some of transformers are. A
field of a configuration is either carried, at the value that this decoder computes, or without
effect on an update; any other is refused by its name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from windtunnel.config import DenseSpec, FamilySpec
from windtunnel.config.shape import NORM_EPS
from windtunnel.errors import ConfigError
from windtunnel.export.handoff import Handoff, Multipliers
from windtunnel.family import MINICPM, load_family

QK_NORM: Final[Mapping[str, bool]] = {
    "granite": False,
    "llama": False,
    "mistral": False,
    "qwen3": True,
}
"""Model types of transformers that are this decoder, and whether they norm queries and keys per
head. Checked against transformers 5.23.0 (`models/TYPE/modeling_TYPE.py`), and by
tests/export/test_prenorm.py."""

LACKS: Final[Mapping[str, str]] = {
    "gemma": "scaled embeddings, norms by 1 + gain and a GELU gate",
    "gemma2": "norms after each block, norms by 1 + gain and capped logits",
    "gemma3_text": "norms after each block, norms by 1 + gain and a second rotary base",
    "gpt2": "learned positions, LayerNorm, biases and a feed-forward without a gate",
    "gpt_neox": "LayerNorm, biases and a feed-forward without a gate",
    "olmo": "LayerNorm without gains",
    "olmo2": "norms after each block, and over all heads of queries and keys at once",
    "olmo3": "norms after each block, and over all heads of queries and keys at once",
    "qwen2": "biases of queries, keys and values",
    "smollm3": "layers without rotary embedding",
}
"""What the written decoder lacks, of other model types."""

EXPORTED = frozenset(
    {
        "head_dim",
        "intermediate_size",
        "num_attention_heads",
        "num_key_value_heads",
        "rms_norm_eps",
        "rope_theta",
        "tie_word_embeddings",
    }
)
"""Fields of a configuration that `PreNormDecoder` has."""

FIXED: Final[Mapping[str, tuple[object, ...]]] = {
    "attention_bias": (False,),
    "attention_dropout": (0.0,),
    "hidden_act": ("silu", "swish"),
    "mlp_bias": (False,),
    "pad_token_id": (None,),  # its row of the embedding would not be trained
}
"""Fields that must have one of these values, where a configuration has them."""

OF_WINDOW = frozenset({"layer_types", "max_window_layers", "sliding_window", "use_sliding_window"})
"""Fields that `_window` checks."""

WITHOUT_EFFECT = frozenset(
    {"bos_token_id", "eos_token_id", "initializer_range", "pretraining_tp", "use_cache"}
)
"""Fields that no update depends on: matrices are drawn by role, and no cache is kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreNormDecoder:
    """A shape of this decoder.

    Attributes:
        family: `minicpm`, or `hf:NAME`.
        size: WIDTHxDEPTH.
        width: Of the residual stream.
        depth: Layers.
        num_heads: Query heads; together they may be wider or narrower than `width`.
        kv_heads: Key and value heads.
        head_dim: Dimension of a head.
        ffn_width: Inner width of the feed-forward.
        vocab_size: Tokens of the vocabulary.
        context: Tokens of a row.
        rope_base: Of the rotary embedding.
        norm_eps: Of every norm.
        tied: Whether the embedding is the head.
        qk_norm: Whether queries and keys are normed per head.
        sites: Factors of the forward pass; `attention` takes the place of 1 / sqrt(head_dim) in a
            family of which the study scales nothing, too.
    """

    family: str
    size: str
    width: int
    depth: int
    num_heads: int
    kv_heads: int
    head_dim: int
    ffn_width: int
    vocab_size: int
    context: int
    rope_base: float
    norm_eps: float
    tied: bool
    qk_norm: bool
    sites: Multipliers


def prenorm_decoder(handoff: Handoff, target: str) -> PreNormDecoder:
    """The target model as `target` has it.

    Raises:
        ConfigError: It is another decoder, or a field of it has a value that it does not follow.
    """
    model = handoff.model
    if isinstance(model, DenseSpec):
        return PreNormDecoder(
            family=MINICPM,
            size=model.size,
            width=model.width,
            depth=model.depth,
            num_heads=model.num_heads,
            kv_heads=model.kv_heads,
            head_dim=model.head_dim,
            ffn_width=model.ffn_width,
            vocab_size=model.vocab_size,
            context=model.context,
            rope_base=model.rope_base,
            norm_eps=NORM_EPS,
            tied=model.tied,
            qk_norm=model.qk_norm,
            sites=handoff.multipliers,
        )
    name = model.family.removeprefix("hf:")
    if name == model.family or name not in QK_NORM:
        raise _other_family(model.family, LACKS.get(name), target)
    config = _configuration(model)
    for field, value, allowed in _unsupported(model, config):
        raise _not_written(target, field, value, allowed)
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or model.width // heads
    scaled = "attention" in model.sites
    sites = handoff.multipliers
    return PreNormDecoder(
        family=model.family,
        size=model.size,
        width=model.width,
        depth=model.depth,
        num_heads=heads,
        kv_heads=config["num_key_value_heads"],
        head_dim=head_dim,
        ffn_width=config["intermediate_size"],
        vocab_size=model.vocab_size,
        context=model.context,
        rope_base=float(config["rope_parameters"]["rope_theta"]),
        norm_eps=config["rms_norm_eps"],
        tied=config["tie_word_embeddings"],
        qk_norm=QK_NORM[name],
        sites=sites if scaled else sites.model_copy(update={"attention": head_dim**-0.5}),
    )


def _configuration(model: FamilySpec) -> dict[str, Any]:
    """All fields of the model's configuration, defaults of the installed transformers included."""
    from windtunnel.model.hf import HuggingFace

    family = load_family(model.family)
    assert isinstance(family, HuggingFace)
    return family.configuration(model.shape, dict.fromkeys(family.sites, 1.0))


def _unsupported(
    model: FamilySpec, config: Mapping[str, Any]
) -> Iterator[tuple[str, object, tuple[object, ...]]]:
    """Fields that the written decoder would not follow: name, value, allowed values."""
    known = EXPORTED | FIXED.keys() | OF_WINDOW | WITHOUT_EFFECT
    for field, value in model.fields.items():
        if field not in known:
            yield field, value, ()
    for field, allowed in FIXED.items():
        if field in config and config[field] not in allowed:
            yield field, config[field], allowed
    rope = config["rope_parameters"]
    for field, value in rope.items():
        fixed = {"rope_type": "default", "partial_rotary_factor": 1.0}
        if field != "rope_theta" and fixed.get(field) != value:
            yield f"rope_parameters.{field}", value, (fixed[field],) if field in fixed else ()
    yield from _window(model, config)


def _window(
    model: FamilySpec, config: Mapping[str, Any]
) -> Iterator[tuple[str, object, tuple[object, ...]]]:
    """A sliding window that hides a token of the row, which a window of the context does not."""
    window, kinds = config.get("sliding_window"), config.get("layer_types")
    if kinds and (other := set(kinds) - {"full_attention", "sliding_attention"}):
        yield "layer_types", min(other), ("full_attention",)
    slides = kinds is None or "sliding_attention" in kinds
    if window is not None and slides and window < model.context:
        yield "sliding_window", window, (f">= {model.context}",)


def _other_family(family: str, lacks: str | None, target: str) -> ConfigError:
    known = [f"hf:{name}" for name in QK_NORM]
    why = f"has {lacks}" if lacks else "is not known to be that decoder"
    return ConfigError(
        "unsupported-model",
        f"export to {target}: {family} {why}. This export writes a decoder with RMSNorm before "
        "each block, rotary embedding, gated SiLU and no biases: MiniCPM's, "
        f"{', '.join(known)}. Export to `torch`, to `json`, or, if it is one of transformers, to "
        "`hf`",
        target=target,
        field="family",
        value=family,
        allowed=[MINICPM, *known],
    )


def _not_written(
    target: str, field: str, value: object, allowed: tuple[object, ...]
) -> ConfigError:
    what = " or ".join(map(str, allowed)) or "no such field"
    return ConfigError(
        "unsupported-model",
        f"export to {target}: model.shape.{field} = {value}: the decoder that is written has no "
        f"such setting; allowed: {what}. Export to `hf`, to `torch` or to `json`",
        target=target,
        field=field,
        value=value,
        allowed=list(allowed),
    )
