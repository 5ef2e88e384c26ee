"""From a recipe and a target shape to the numbers that a trainer takes: the role table, applied."""

from dataclasses import asdict

from windtunnel.accounting import flops_6nd
from windtunnel.errors import ConfigError
from windtunnel.export.handoff import Counts, Multipliers, RoleValues, Steps
from windtunnel.parametrization import Role
from windtunnel.spec import ModelSpec, Recipe
from windtunnel.spec.config import ScheduleConfig


def counts_of(model: ModelSpec, tokens: int) -> Counts:
    """Sizes of the model and of its training on so many tokens."""
    return Counts(
        params=model.params,
        params_embedding=model.params_embedding,
        params_active=model.params_active,
        num_heads=model.num_heads,
        ffn_width=model.ffn_width,
        tokens=tokens,
        tokens_per_param=tokens / model.params,
        flops_6nd=flops_6nd(model.params, tokens),
        flops_exact=float(model.flops_exact_per_token) * tokens,
    )


def roles_of(recipe: Recipe, model: ModelSpec) -> dict[Role, RoleValues]:
    """Values of every role that the model has."""
    found = {}
    for role in Role:
        if role is Role.READOUT and model.tied:
            continue
        scale = recipe.scale(role, model)
        found[role] = RoleValues(
            lr=recipe.lr * scale.lr,
            init_std=recipe.init_std * scale.init_std,
            weight_decay=recipe.weight_decay * scale.weight_decay,
            eps=recipe.eps * scale.eps,
        )
    return found


def multipliers_of(recipe: Recipe, model: ModelSpec, *, proxy_head_dim: int) -> Multipliers:
    """Forward factors; a head size other than the proxies' is compensated in the attention.

    Trained queries and keys are aligned, so their product grows as head_dim: 1 / head_dim keeps the
    logits of the softmax (Tensor Programs V, arXiv 2203.03466, definition 4.1), anchored at the
    proxies' 1 / sqrt(head_dim), where the two are the same.
    """
    sites = asdict(recipe.multipliers(model))
    sites["attention"] = proxy_head_dim**0.5 / model.head_dim
    return Multipliers(**sites)


def steps_of(schedule: ScheduleConfig, *, warmup: int, end: int, batch_tokens: int) -> Steps:
    """Warmup, stable phase and decay of `end` updates.

    Raises:
        ConfigError: Warmup and decay do not fit into them.
    """
    decay_start = decay_start_of(schedule, warmup=warmup, end=end)
    return Steps(
        warmup=warmup,
        decay_start=decay_start,
        end=end,
        shape=schedule.shape,
        final_factor=schedule.final_factor,
        warmup_tokens=warmup * batch_tokens,
        stable_tokens=(decay_start - warmup) * batch_tokens,
        decay_tokens=(end - decay_start) * batch_tokens,
    )


def decay_start_of(schedule: ScheduleConfig, *, warmup: int, end: int) -> int:
    """First update of the decay, as a study's branches have it.

    Raises:
        ConfigError: Warmup and decay do not fit into `end` updates.
    """
    share = schedule.decay_share
    start = warmup if share == 1.0 else end - max(1, round(share * end))
    if not warmup <= start < end:
        raise ConfigError(
            f"{end} updates: too few for {warmup} of warmup and a decay of {share:.0%}; give more "
            "tokens (--tokens, --flops, --tokens-per-param) or a smaller batch (--batch-tokens)"
        )
    return start
