"""`torch`: one runnable train.py, the reference that the other targets are checked against."""

import json
from pathlib import Path

from windtunnel.export.handoff import Handoff
from windtunnel.export.targets.template import environment, title
from windtunnel.schedule import DecayShape

DECAYS: dict[DecayShape, str] = {
    "exponential": "FINAL_FACTOR**done",
    "linear": "FINAL_FACTOR + (1 - FINAL_FACTOR) * (1 - done)",
    "one_minus_sqrt": "FINAL_FACTOR + (1 - FINAL_FACTOR) * (1 - math.sqrt(done))",
    "cosine": "FINAL_FACTOR + (1 - FINAL_FACTOR) * 0.5 * (1 + math.cos(math.pi * done))",
}
"""windtunnel.schedule.Decay, by shape."""


def write(handoff: Handoff, folder: Path) -> list[Path]:
    """Write train.py."""
    text = (
        environment()
        .get_template("train.py.jinja")
        .render(
            title=title(handoff, "in torch on one device"),
            model=handoff.model,
            constants=_constants(handoff),
            decay=DECAYS[handoff.schedule.shape],
            hold=handoff.schedule.hold,
            kv_init_std=handoff.recipe.kv_init_std(handoff.model),
        )
    )
    path = folder / "train.py"
    path.write_text(text, encoding="utf-8")
    return [path]


def _constants(handoff: Handoff) -> list[str]:
    """Assignments of the target's numbers, one per line."""
    model, steps, recipe = handoff.model, handoff.schedule, handoff.recipe
    sites = handoff.multipliers
    shape = (model.width, model.depth, model.ffn_width, model.vocab_size, model.context)
    heads = (model.num_heads, model.kv_heads, model.head_dim, model.rope_base)
    factors = (sites.embed, sites.residual, sites.logits, sites.attention)
    update = (handoff.batch.rows, recipe.clip, (recipe.beta1, recipe.beta2))
    phases = (steps.warmup, steps.decay_start, steps.end, steps.final_factor)
    kept = [each.step for each in handoff.checkpoints]
    lines = [
        f"WIDTH, DEPTH, FFN_WIDTH, VOCAB_SIZE, CONTEXT = {_row(shape)}",
        f"HEADS, KV_HEADS, HEAD_DIM, ROPE_BASE = {_row(heads)}",
        f"EMBED, RESIDUAL, LOGITS, ATTENTION = {_row(factors)}",
        f"ROWS, CLIP, BETAS = {_row(update)}",
        f"WARMUP, DECAY_START, END, FINAL_FACTOR = {_row(phases)}",
        f"KEEP, MOMENTS = {kept}, ('step', 'exp_avg', 'exp_avg_sq')",
        "ROLES = {  # lr is the peak; AdamW decays a weight by lr x weight_decay",
    ]
    for role, values in handoff.roles.items():
        lines.append(f'    "{role}": {json.dumps(values.model_dump())},')
    return [*lines, "}"]


def _row(values: tuple[object, ...]) -> str:
    return ", ".join(map(repr, values))
