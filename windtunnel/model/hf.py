"""`hf:NAME`: a decoder of transformers, from its configuration alone.

Nothing is downloaded and no remote code runs: NAME is a model type of the installed transformers,
such as `llama`. The study's shape fields become the configuration's (`head_dim`, `ffn_ratio`, kv
heads, `tied`, `rope_base`); others are given under `model.shape` by the configuration's own names.
Dropout is off, and no token is special, so that an update depends on rows and weights alone.
"""

import inspect
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from windtunnel.errors import Refused, did_you_mean
from windtunnel.family import Shape, Value
from windtunnel.model.family import Family, unknown_field
from windtunnel.mup import Role, SiteName

SITES: Mapping[str, Mapping[SiteName, str]] = {
    "granite": {
        "embed": "embedding_multiplier",
        "residual": "residual_multiplier",
        "attention": "attention_multiplier",
        "logits": "logits_scaling",
    }
}
"""Configuration fields of forward multipliers, by model type; `logits_scaling` divides."""

FFN_WIDTH = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
KV_HEADS = ("num_key_value_heads", "num_kv_heads")
"""Names that configurations have for one field."""

OWN = {
    "hidden_size": "the width of model.sizes",
    "num_hidden_layers": "the depth of model.sizes",
    "vocab_size": "the study's tokenizer",
    "max_position_embeddings": "model.context",
}
"""Fields that the study sets elsewhere."""

NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
"""What a configuration must name, for a study to set it."""

DEFAULTS = {"ffn_ratio": 2.5, "rope_base": 10000.0}
"""Of the study's shape fields that some configurations have no place for."""

SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")


class CausalDecoder(nn.Module):
    """A causal decoder of transformers, whose output is its logits alone."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """The decoder's own, by its own names."""
        return self.decoder.named_parameters(*args, **kwargs)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Next-token logits, (B, T, V)."""
        logits_BTV: Tensor = self.decoder(input_ids=tokens_BT, use_cache=False).logits
        return logits_BTV


class HuggingFace(Family):
    """The family of one model type of transformers.

    Raises:
        Refused: transformers is not installed, or has no causal decoder of this type.
    """

    version = "1"
    takes = frozenset({"head_dim", "ffn_ratio", "heads_per_kv", "kv_heads", "tied", "rope_base"})

    def __init__(self, name: str) -> None:
        try:
            from transformers import AutoConfig
            from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        except ImportError:
            raise Refused(
                "family-not-importable",
                f"hf:{name}: needs transformers; install it with `pip install 'windtunnel[hf]'`",
                family=f"hf:{name}",
                module="transformers",
            ) from None
        known = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
        if name not in known:
            raise Refused(
                "unknown-family",
                f"hf:{name}: the installed transformers has no causal decoder of this type"
                f"{did_you_mean(name, known) or '.'} For example: hf:llama, hf:qwen3, hf:olmo2",
                family=f"hf:{name}",
            )
        self.name, self._config_of = name, AutoConfig.for_model
        self.sites = frozenset(SITES.get(name, {}))
        missing = [each for each in NEEDED if each not in self._defaults]
        if missing:
            raise Refused(
                "unknown-family",
                f"hf:{name}: its configuration has no {', '.join(missing)}, so that sizes cannot "
                "be set; derive a family from windtunnel.model.hf.HuggingFace, or take another",
                family=f"hf:{name}",
                missing=missing,
            )

    @cached_property
    def _defaults(self) -> dict[str, Any]:
        """Fields of the configuration, each with its default, by the name that it has here."""
        with _quiet():
            config = self._config_of(self.name)
        aliases = {alias: getattr(config, alias, None) for alias in config.attribute_map}
        found: dict[str, Any] = aliases | config.to_dict()
        return found

    def fields(self, given: Mapping[str, Value], *, width: int, depth: int) -> dict[str, Value]:
        """Fields of the configuration that the study's shape and its own fields give.

        Raises:
            Refused: A field that the configuration lacks, or that the study sets elsewhere.
        """
        del depth
        own = {name: value for name, value in given.items() if name not in self.takes}
        for name, value in own.items():
            if name in self._set_elsewhere:
                raise Refused(
                    "set-elsewhere",
                    f"{name} is {self._set_elsewhere[name]}; leave it out here",
                    field=name,
                )
            if name not in self._defaults:
                raise unknown_field(
                    name, [each for each in self._defaults if each not in self._set_elsewhere]
                )
            if _drops(name) and value:
                raise Refused(
                    "dropout",
                    f"{name} = {value}: an update is a function of weights, moments and rows "
                    "alone; leave it out, which sets it to 0",
                    module=name,
                    p=value,
                )
        return self._shared(given, width=width) | own

    @cached_property
    def _set_elsewhere(self) -> dict[str, str]:
        """Fields that would be overwritten, each with what sets it."""
        sites = {
            name: f"the recipe's multiplier of the site `{site}`"
            for site, name in SITES.get(self.name, {}).items()
        }
        rope = {"rope_parameters": "model.rope_base"} if self._has_one_rope else {}
        return OWN | sites | rope

    def _shared(self, given: Mapping[str, Value], *, width: int) -> dict[str, Value]:
        """What the study's own shape fields say, by the configuration's names."""
        head_dim, ffn_ratio = given["head_dim"], given["ffn_ratio"]
        assert isinstance(head_dim, int)
        assert isinstance(ffn_ratio, float)
        if width % head_dim:
            raise Refused(
                "not-a-multiple",
                f"width = {width} is not a multiple of head_dim = {head_dim}",
                width=width,
                head_dim=head_dim,
            )
        if not (ffn_ratio * width).is_integer():
            raise Refused(
                "not-whole",
                f"ffn_ratio x width = {ffn_ratio:g} x {width} is not a whole number",
                ffn_ratio=ffn_ratio,
                width=width,
            )
        heads, per_kv = width // head_dim, given["heads_per_kv"]
        assert isinstance(per_kv, int)
        kv_heads = given["kv_heads"] or max(1, heads // per_kv)
        assert isinstance(kv_heads, int)
        if heads % kv_heads:
            raise Refused(
                "not-a-multiple",
                f"{heads} heads do not divide among {kv_heads} kv heads",
                heads=heads,
                kv_heads=kv_heads,
            )
        self._refuse_unknown(given)
        names = [name for name in (*FFN_WIDTH, *KV_HEADS) if name in self._defaults]
        found: dict[str, Value] = {
            "num_attention_heads": heads,
            "head_dim": head_dim,
            "tie_word_embeddings": given["tied"],
        }
        found |= {name: int(ffn_ratio * width) for name in names if name in FFN_WIDTH}
        found |= {name: kv_heads for name in names if name in KV_HEADS}
        if not set(KV_HEADS) & set(names) and kv_heads != heads:
            raise Refused(
                "unknown-shape-field",
                f"hf:{self.name} has as many kv heads as heads; leave out heads_per_kv and "
                "kv_heads",
                field="kv_heads",
                known=sorted(self._defaults),
            )
        if self._has_one_rope:
            found["rope_theta"] = given["rope_base"]
        return {
            name: value
            for name, value in found.items()
            if name in self._defaults or name == "rope_theta"
        }

    @property
    def _has_one_rope(self) -> bool:
        """Whether all layers rotate by one base."""
        rope = self._defaults.get("rope_parameters", {})
        return "rope_parameters" in self._defaults and (
            rope is None or not any(isinstance(each, dict) for each in rope.values())
        )

    def _refuse_unknown(self, given: Mapping[str, Value]) -> None:
        """Refuse a shape field of the study's that the configuration has no place for.

        Raises:
            Refused: It was given, and would be ignored.
        """
        places = {"ffn_ratio": any(name in self._defaults for name in FFN_WIDTH)}
        places["rope_base"] = self._has_one_rope
        for name, has_place in places.items():
            if not has_place and given[name] != DEFAULTS[name]:
                raise Refused(
                    "unknown-shape-field",
                    f"hf:{self.name} has no one field for {name}; leave it out, and write its own "
                    "fields under `shape:`",
                    field=name,
                    known=sorted(self._defaults),
                )

    def build(self, shape: Shape, sites: Mapping[SiteName, float]) -> nn.Module:
        """The decoder of this shape, freshly drawn in fp32 by transformers."""
        from transformers import AutoModelForCausalLM

        with _quiet():
            config = self._config_of(self.name, **self.config(shape, sites))
            decoder = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                config, dtype=torch.float32
            )
        return CausalDecoder(decoder)

    def config(self, shape: Shape, sites: Mapping[SiteName, float]) -> dict[str, Any]:
        """Arguments of the configuration class."""
        fields: dict[str, Any] = {
            "hidden_size": shape.width,
            "num_hidden_layers": shape.depth,
            "vocab_size": shape.vocab_size,
            "max_position_embeddings": shape.context,
            **dict.fromkeys(SPECIAL),
            **{name: 0.0 for name, value in self._defaults.items() if _drops(name) and value},
            **shape.fields,
        }
        theta = fields.pop("rope_theta", None)
        if theta is not None:
            fields["rope_parameters"] = {"rope_type": "default", "rope_theta": theta}
        for site, name in SITES.get(self.name, {}).items():
            fields[name] = 1.0 / sites[site] if site == "logits" else sites[site]
        return {name: value for name, value in fields.items() if name in self._defaults}

    def configuration(self, shape: Shape, sites: Mapping[SiteName, float]) -> dict[str, Any]:
        """Every field of the configuration, those that nobody gave included."""
        with _quiet():
            found: dict[str, Any] = self._config_of(
                self.name, **self.config(shape, sites)
            ).to_dict()
        return found

    def config_of_sites(self, sites: Mapping[SiteName, str]) -> dict[str, str]:
        """Fields of the configuration that hold multipliers, each from an expression of one."""
        named = SITES.get(self.name, {}).items()
        return {name: f"1.0 / {sites[s]}" if s == "logits" else sites[s] for s, name in named}

    def roles(self, network: nn.Module) -> dict[str, Role]:
        """Embedding and readout as transformers names them, matrices hidden, vectors gains.

        Raises:
            Refused: A parameter of more than one axis that is no weight of a linear layer.
        """
        from transformers.pytorch_utils import Conv1D

        assert isinstance(network, CausalDecoder)
        decoder: Any = network.decoder
        embedding = decoder.get_input_embeddings().weight
        readout = decoder.get_output_embeddings().weight
        found: dict[str, Role] = {}
        for name, weight in network.named_parameters():
            owner = decoder.get_submodule(name.rpartition(".")[0])
            if weight is embedding or isinstance(owner, nn.Embedding):
                found[name] = Role.EMBEDDING
            elif weight is readout:
                found[name] = Role.READOUT
            elif weight.ndim == 1:
                found[name] = Role.GAIN
            elif weight.ndim == 2 and isinstance(owner, nn.Linear | Conv1D):
                found[name] = Role.HIDDEN
            else:
                raise Refused(
                    "no-role",
                    f"hf:{self.name}: parameter {name!r} {tuple(weight.shape)} has no role that "
                    "follows from its module; derive a family from "
                    "windtunnel.model.hf.HuggingFace whose `roles` names it",
                    parameter=name,
                    roles=list(Role),
                )
        return found

    def source_files(self) -> tuple[Path, ...]:
        """The files of the decoder and of its configuration in the installed transformers."""
        from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

        config = type(self._config_of(self.name))
        classes: tuple[Any, ...] = (MODEL_FOR_CAUSAL_LM_MAPPING[config], config)
        return tuple(Path(inspect.getfile(each)) for each in classes)


def _drops(name: str) -> bool:
    """Whether a field of a configuration is a share of inputs to drop."""
    return "dropout" in name or name.endswith("pdrop")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' remarks about token ids, which no family here has, off the screen."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
