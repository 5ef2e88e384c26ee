"""`megatron`: arguments for Megatron-LM, and a thin module in the place of its pretrain_gpt.py.

Its muP flags carry what they mean the same by: rate of hidden matrices, multipliers of embedding,
logits and attention. The module carries the rest; docs/export/megatron.md has the table.

A family that scales no logits has muP by init and rates alone. Megatron's muP cannot be that: it
keeps the readout's rate and init, and turns a --mup-output-mult of 1 into the inverse of the width
ratio. There the ratio is 1, and the module carries the rates of hidden matrices and readout, too.
"""

import math
from pathlib import Path

from windtunnel.errors import ConfigError
from windtunnel.export.handoff import Handoff
from windtunnel.export.prenorm import PreNormDecoder, prenorm_decoder
from windtunnel.export.targets.template import environment, title
from windtunnel.mup import Role
from windtunnel.schedule import DecayShape

COMMIT = "d98e8a64ddf34856e74b24714e3bedb2f5a39553"

DECAYS: dict[DecayShape, str] = {
    "exponential": "exponential",
    "linear": "linear",
    "one_minus_sqrt": "minus_sqrt",
    "cosine": "cosine",
}
"""megatron/training/config/training_config.py, `lr_wsd_decay_style`."""


def write(handoff: Handoff, folder: Path) -> list[Path]:
    """Write arguments.sh and windtunnel_megatron.py.

    Raises:
        ConfigError: The model is another decoder, or the base of its rotary embedding is not a
            whole number.
    """
    model = prenorm_decoder(handoff, "megatron")
    values = {
        "title": title(handoff, "in Megatron-LM"),
        "commit": COMMIT[:10],
        "by_rates": by_rates(handoff),
        "readout": by_rates(handoff) and Role.READOUT in handoff.roles,
    }
    arguments = environment().get_template("megatron_arguments.sh.jinja")
    module = environment().get_template("megatron_entry.py.jinja")
    texts = {
        "arguments.sh": arguments.render(
            **values, **_header(handoff, model), groups=groups(handoff, model)
        ),
        "windtunnel_megatron.py": module.render(**values),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def groups(handoff: Handoff, model: PreNormDecoder) -> dict[str, list[str]]:
    """Lines of the argument array, by heading."""
    return {
        "Model": _model(model),
        "Init and multipliers": _sites(handoff, model),
        "Optimizer: of the embedding, except clip and betas": _optimizer(handoff),
        "Schedule, in updates": _schedule(handoff),
    }


def by_rates(handoff: Handoff) -> bool:
    """Whether muP is by init and rates alone, so that the readout has its own."""
    return handoff.recipe.parametrization != "standard" and "logits" not in handoff.model.sites


def matrix_wd_mult(handoff: Handoff) -> float:
    """Weight decay of hidden matrices over that of the embedding."""
    hidden, embedding = (handoff.roles[role] for role in (Role.HIDDEN, Role.EMBEDDING))
    return hidden.weight_decay / embedding.weight_decay if embedding.weight_decay else 1.0


def _model(model: PreNormDecoder) -> list[str]:
    if not model.rope_base.is_integer():
        raise ConfigError(
            "unsupported-model",
            f"model.rope_base = {model.rope_base:g}: Megatron-LM's --rotary-base takes a whole "
            "number; export to another trainer, or train the study with a whole rope_base",
            target="megatron",
            field="rope_base",
            value=model.rope_base,
        )
    return [
        f"--num-layers {model.depth} --hidden-size {model.width}",
        f"--ffn-hidden-size {model.ffn_width} --swiglu",
        f"--num-attention-heads {model.num_heads} --kv-channels {model.head_dim}",
        f"--group-query-attention --num-query-groups {model.kv_heads}",
        f"--seq-length {model.context} --max-position-embeddings {model.context}",
        "--position-embedding-type rope --rotary-percent 1.0",
        f"--rotary-base {int(model.rope_base)}",
        f"--normalization RMSNorm --norm-epsilon {model.norm_eps}",
        "--disable-bias-linear --attention-dropout 0.0 --hidden-dropout 0.0",
        f"--vocab-size {model.vocab_size} --padded-vocab-size {model.vocab_size}",
        *(["--untie-embeddings-and-output-weights"] if not model.tied else []),
        *(["--qk-layernorm"] if model.qk_norm else []),
    ]


def _sites(handoff: Handoff, model: PreNormDecoder) -> list[str]:
    """Its muP at the study's base width; under `standard`, or by rates, with every ratio 1.

    Of completep it has no flag, nor needs one: the residual factor is the module's, and eps is
    divided by the depth ratio beforehand.
    """
    recipe, sites = handoff.recipe, model.sites
    hidden, embedding = (handoff.roles[role].init_std for role in (Role.HIDDEN, Role.EMBEDDING))
    is_mup = recipe.parametrization != "standard" and not by_rates(handoff)
    readout = []
    if by_rates(handoff) and Role.READOUT in handoff.roles:
        readout = [f"--windtunnel-readout-init-std {handoff.roles[Role.READOUT].init_std!r}"]
    base_head_dim = (sites.attention * model.head_dim) ** 2  # solved for from its formula
    return [
        f"--use-mup --mup-base-hidden-size {recipe.base_width if is_mup else model.width}",
        f"--init-method-std {embedding if is_mup else hidden!r}",
        f"--embedding-init-method-std {embedding!r}",
        f"--mup-embedding-mult {sites.embed!r}",
        f"--mup-output-mult {sites.logits!r}",
        f"--mup-base-head-dim {base_head_dim:.12g} --mup-attn-scale-power 1.0",
        f"--windtunnel-residual-mult {sites.residual!r}",
        *readout,
    ]


def _optimizer(handoff: Handoff) -> list[str]:
    recipe, embedding = handoff.recipe, handoff.roles[Role.EMBEDDING]
    eps = recipe.eps / recipe.depth_ratio(handoff.model)  # its muP divides by the width ratio
    rates = []
    if by_rates(handoff):
        eps = embedding.eps
        rates = _rates(handoff)
    return [
        f"--optimizer adam --lr {embedding.lr!r}",
        f"--adam-beta1 {recipe.beta1} --adam-beta2 {recipe.beta2} --adam-eps {eps!r}",
        f"--windtunnel-vector-eps {embedding.eps!r}",
        f"--weight-decay {embedding.weight_decay!r}",
        f"--windtunnel-matrix-wd-mult {matrix_wd_mult(handoff)!r}",
        *rates,
        f"--clip-grad {recipe.clip}",
    ]


def _rates(handoff: Handoff) -> list[str]:
    """What hidden matrices and readout have of their own, where Megatron's muP scales nothing."""
    embedding, hidden = handoff.roles[Role.EMBEDDING], handoff.roles[Role.HIDDEN]
    lines = [f"--windtunnel-matrix-lr-mult {hidden.lr / embedding.lr!r}"]
    if (readout := handoff.roles.get(Role.READOUT)) is not None:
        lines += [
            f"--windtunnel-readout-lr-mult {readout.lr / embedding.lr!r}",
            f"--windtunnel-readout-weight-decay {readout.weight_decay!r}",
            f"--windtunnel-readout-eps {readout.eps!r}",
        ]
    return lines


def _schedule(handoff: Handoff) -> list[str]:
    steps, peak = handoff.schedule, handoff.roles[Role.EMBEDDING].lr
    falls = []
    if steps.hold is not None:
        falls = [
            f"--windtunnel-hold-power {steps.hold.power!r} "
            f"--windtunnel-hold-iters {steps.hold_updates}"
        ]
    return [
        f"--global-batch-size {handoff.batch.rows} --train-iters {steps.end}",
        f"--lr-warmup-iters {steps.warmup} --lr-decay-iters {steps.end}",
        f"--lr-decay-style WSD --lr-wsd-decay-style {DECAYS[steps.shape]}",
        f"--lr-wsd-decay-iters {steps.end - steps.decay_start}",
        f"--min-lr {steps.final_factor * peak!r}",
        *falls,
    ]


def _header(handoff: Handoff, model: PreNormDecoder) -> dict[str, object]:
    """Values of the comment above the arguments."""
    shape, sites = handoff.schedule.shape, model.sites
    embedding, hidden = handoff.roles[Role.EMBEDDING], handoff.roles[Role.HIDDEN]
    if shape == "exponential":
        decay = "its exponential is 2 x 0.5^p - 1 at progress p: the module's (min-lr / lr)^p"
    else:
        decay = f"its {DECAYS[shape]} from lr to min-lr is the study's"
    return {
        "processes": math.gcd(8, handoff.batch.rows),  # of one node, that share the rows evenly
        "residual": f"{sites.residual:.6g}",
        "attention": f"{sites.attention:.6g}",
        "hidden_std": f"{hidden.init_std:.6g}",
        "embedding_std": f"{embedding.init_std:.6g}",
        "untied": not model.tied,
        "roles": {str(role): values for role, values in handoff.roles.items()},
        "eps": f"{embedding.eps:.6g}",
        "matrix_wd": f"{matrix_wd_mult(handoff):.6g}",
        "decay": decay,
        "hold": handoff.schedule.hold,
        "hold_updates": handoff.schedule.hold_updates,
        "vocab": model.vocab_size,
        "checkpoints": handoff.checkpoints,
    }
