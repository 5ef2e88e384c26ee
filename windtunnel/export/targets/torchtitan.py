"""`torchtitan`: a config module for its `--module`, with the muP that it lacks.

Facts are those of torchtitan 0.3.0: docs/export/torchtitan.md says which and where.
"""

import math
from pathlib import Path

from windtunnel.export.handoff import Handoff
from windtunnel.export.prenorm import PreNormDecoder, prenorm_decoder
from windtunnel.export.targets.template import environment, title
from windtunnel.export.targets.torch import DECAYS
from windtunnel.family import MINICPM
from windtunnel.mup import Role
from windtunnel.schedule import DecayShape

MODULE = "windtunnel_handoff"

DECAY_TYPES: dict[DecayShape, str] = {
    "linear": "linear",
    "one_minus_sqrt": "sqrt",
    "cosine": "cosine",
}
"""Theirs with our formula; they have no exponential decay, so that one is written out."""

LOSS_CHUNKS = 8  # theirs; they must divide the sequence
CHECKPOINTS_OF_A_RUN = 20  # beside those of the Handoff


def write(handoff: Handoff, folder: Path) -> list[Path]:
    """Write windtunnel_handoff.py.

    Raises:
        ConfigError: The model is another decoder.
    """
    model, shape = prenorm_decoder(handoff, "torchtitan"), handoff.schedule.shape
    template = environment().get_template("torchtitan.py.jinja")
    text = template.render(
        title=title(handoff, "for torchtitan"),
        module=MODULE,
        built_in=model.family == MINICPM,
        model=model,
        ranks=math.gcd(8, handoff.batch.rows),
        constants=_constants(handoff, model),
        exponential=shape not in DECAY_TYPES,
        decay_type=DECAY_TYPES.get(shape),
        hold=handoff.schedule.hold,
        decay=DECAYS[shape],
    )
    path = folder / f"{MODULE}.py"
    path.write_text(text, encoding="utf-8")
    return [path]


def _constants(handoff: Handoff, model: PreNormDecoder) -> list[str]:
    """Assignments of the target's numbers, one per line."""
    steps, recipe, sites = handoff.schedule, handoff.recipe, model.sites
    falls = []
    if steps.hold is not None:
        falls = [f"HOLD_POWER, HOLD_UPDATES = {steps.hold.power}, {steps.hold_updates}"]
    lines = [
        f"WIDTH, DEPTH, HEAD_DIM = {model.width}, {model.depth}, {model.head_dim}",
        f"HEADS, KV_HEADS, FFN_WIDTH = {model.num_heads}, {model.kv_heads}, {model.ffn_width}",
        f"VOCAB_SIZE, CONTEXT, ROPE_BASE = {model.vocab_size}, {model.context}, {model.rope_base}",
        f"TIED, QK_NORM, NORM_EPS = {model.tied}, {model.qk_norm}, {model.norm_eps}",
        f"EMBED, RESIDUAL = {sites.embed}, {sites.residual}",
        f"LOGITS, ATTENTION = {sites.logits}, {sites.attention}",
        f"ROWS, CLIP = {handoff.batch.rows}, {recipe.clip}",
        f"BETAS = ({recipe.beta1}, {recipe.beta2})",
        f"WARMUP, DECAY_START, END = {steps.warmup}, {steps.decay_start}, {steps.end}",
        f"FINAL_FACTOR = {steps.final_factor}",
        *falls,
        f"LOSS_CHUNKS = {math.gcd(LOSS_CHUNKS, model.context)}",
        f"INTERVAL = {max(1, steps.end // CHECKPOINTS_OF_A_RUN)}",
        f"KEEP = {sorted({kept.step for kept in handoff.checkpoints})}",
        "ROLES = {  # lr is the peak; AdamW decays a weight by lr * weight_decay",
    ]
    for role, values in handoff.roles.items():
        lines.append(f'    "{role}": {{')
        lines += [f'        "{name}": {value},' for name, value in values.model_dump().items()]
        lines.append("    },")
    lines += ["}", "PATTERNS = {  # of parameter names; a name that fits none is an error there"]
    lines += [f'    "{role}": r"{_pattern(role, tied=model.tied)}",' for role in handoff.roles]
    return [*lines, "}"]


def _pattern(role: Role, *, tied: bool) -> str:
    """What ends the names of a role's parameters in their Qwen3; wrappers add prefixes only."""
    match role:
        case Role.EMBEDDING:
            return r"(tok_embeddings|lm_head)\.weight$" if tied else r"tok_embeddings\.weight$"
        case Role.READOUT:
            return r"lm_head\.weight$"
        case Role.HIDDEN:
            return r"\.(wqkv|wo|w1|w2|w3)\.weight$"
        case Role.ROUTER:
            raise AssertionError("a PreNormDecoder has no experts")
        case Role.GAIN:
            return r"norm\.weight$"
