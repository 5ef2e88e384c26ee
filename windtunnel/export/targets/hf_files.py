"""The exported model and its JSON documents: config.json, generation_config.json, optimizer.json.

Keys of config.json are those of GraniteConfig (transformers 5.23.0).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from windtunnel.config import DenseSpec, ModelSpec, Recipe
from windtunnel.config.shape import NORM_EPS
from windtunnel.errors import ConfigError, Diagnostic
from windtunnel.export.handoff import Multipliers, RoleValues
from windtunnel.mup import Role
from windtunnel.schedule import Schedule

NAMES: dict[Role, tuple[str, ...]] = {
    Role.EMBEDDING: ("embed_tokens.weight",),
    Role.HIDDEN: (
        "q_proj.weight",
        "k_proj.weight",
        "v_proj.weight",
        "o_proj.weight",
        "gate_proj.weight",
        "up_proj.weight",
        "down_proj.weight",
    ),
    Role.READOUT: ("lm_head.weight",),
    Role.GAIN: ("norm.weight",),
}
"""What ends the Granite names of the parameters of each role; wrappers only add in front."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One model and its training, whether it is a target or a proxy of the study."""

    model: ModelSpec
    recipe: Recipe
    roles: dict[Role, RoleValues]
    multipliers: Multipliers
    schedule: Schedule
    end: int
    rows: int
    tokenizer: str
    title: str
    origin: str
    end_of_text: str | None = None
    warnings: tuple[Diagnostic, ...] = ()
    names: Mapping[Role, tuple[str, ...]] = field(default_factory=lambda: NAMES)

    @property
    def dense(self) -> DenseSpec:
        """The model, of the built-in family."""
        assert isinstance(self.model, DenseSpec)
        return self.model


def refuse_unequal(model: ModelSpec) -> None:
    """Refuse a model that Granite does not compute exactly.

    Raises:
        ConfigError: It has norms of queries and keys.
    """
    if isinstance(model, DenseSpec) and model.qk_norm:
        raise ConfigError(
            "unsupported-model",
            "model.qk_norm = true: transformers' Granite, which has our forward factors, has no "
            "norm of queries and keys; export to a target that has (`--to torch`), or tune a study "
            "with qk_norm: false",
            target="hf",
            field="qk_norm",
            value=True,
        )


def config_json(job: Job, *, end_id: int | None) -> dict[str, Any]:
    """config.json; `end_id` ends a text.

    No padding id: transformers would cut that token's row off from the embedding's gradient.
    """
    model, sites = job.dense, job.multipliers
    return {
        "architectures": ["GraniteForCausalLM"],
        "model_type": "granite",
        "dtype": "float32",
        "vocab_size": model.vocab_size,
        "hidden_size": model.width,
        "intermediate_size": model.ffn_width,
        "num_hidden_layers": model.depth,
        "num_attention_heads": model.num_heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": model.context,
        "rms_norm_eps": NORM_EPS,
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rope_base},
        "rope_theta": model.rope_base,  # read by transformers before 5
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": model.tied,
        "embedding_multiplier": sites.embed,
        "residual_multiplier": sites.residual,
        "logits_scaling": 1.0 / sites.logits,  # it divides
        "attention_multiplier": sites.attention,
        "initializer_range": job.roles[Role.HIDDEN].init_std,
        "bos_token_id": None,
        "eos_token_id": end_id,
        "pad_token_id": None,
        "use_cache": True,
    }


def generation_json(*, end_id: int | None) -> dict[str, Any]:
    """generation_config.json."""
    return {"bos_token_id": None, "eos_token_id": end_id, "pad_token_id": end_id}


def optimizer_json(job: Job) -> dict[str, Any]:
    """optimizer.json: AdamW's groups by parameter name, clip, schedule and batch."""
    recipe, decay, hold = job.recipe, job.schedule.decay, job.schedule.hold
    return {
        "optimizer": "AdamW",
        "betas": [recipe.beta1, recipe.beta2],
        "clip": recipe.clip,
        "groups": [
            {"role": role, "names": list(job.names[role]), **values.model_dump()}
            for role, values in job.roles.items()
        ],
        "schedule": {
            "warmup": job.schedule.warmup,
            "decay_start": decay and decay.start,
            "end": job.end,
            "shape": decay and decay.shape,
            "rate": decay and decay.rate,
            "final_factor": decay and decay.final_factor / decay.rate,
            "hold": hold and {"power": hold.power, "updates": hold.tokens // hold.batch},
        },
        "batch": {
            "rows": job.rows,
            "context": job.model.context,
            "tokens": job.rows * job.model.context,
        },
    }
