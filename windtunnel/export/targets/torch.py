"""`torch`: one runnable train.py, the reference that the other targets are checked against."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from windtunnel.config import DenseSpec, FamilySpec
from windtunnel.export.handoff import Handoff
from windtunnel.export.targets.template import environment, title
from windtunnel.family import load_family
from windtunnel.mup import Role
from windtunnel.schedule import DecayShape

DECAYS: dict[DecayShape, str] = {
    "exponential": "FINAL_FACTOR**done",
    "linear": "FINAL_FACTOR + (1 - FINAL_FACTOR) * (1 - done)",
    "one_minus_sqrt": "FINAL_FACTOR + (1 - FINAL_FACTOR) * (1 - math.sqrt(done))",
    "cosine": "FINAL_FACTOR + (1 - FINAL_FACTOR) * 0.5 * (1 + math.cos(math.pi * done))",
}
"""windtunnel.schedule.Decay, by shape."""

LAYER_NUMBER = re.compile(r"\.\d+\.")


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
            family=family_source(handoff.model) if isinstance(handoff.model, FamilySpec) else None,
        )
    )
    path = folder / "train.py"
    path.write_text(text, encoding="utf-8")
    return [path]


@dataclass(frozen=True, kw_only=True)
class FamilySource:
    """Code that makes and calls the network of another family.

    Attributes:
        imports: Lines of import.
        network: The expression that builds it.
        call: Its arguments, and what takes the logits out of its result.
        constants: Assignments that `network` reads.
    """

    imports: str
    network: str
    call: str
    constants: tuple[str, ...]


def family_source(model: FamilySpec) -> FamilySource:
    """How a training script has the model: transformers' own class, or the user's."""
    from windtunnel.model.hf import HuggingFace

    family = load_family(model.family)
    sites = {name: f"SITES[{name!r}]" for name in sorted(model.sites)}
    if model.family.startswith("hf:"):
        assert isinstance(family, HuggingFace)
        config = family.config(model.shape, dict.fromkeys(family.sites, 1.0))
        scaled = family.config_of_sites(sites)
        settings = ", ".join(f"{name!r}: {value}" for name, value in scaled.items())
        return FamilySource(
            imports="from transformers import AutoConfig, AutoModelForCausalLM",
            network="AutoModelForCausalLM.from_config("
            f"AutoConfig.for_model({family.name!r}, **CONFIG), dtype=torch.float32)",
            call="input_ids=tokens, use_cache=False).logits",
            constants=(f"CONFIG = {config}" + (f" | {{{settings}}}" if settings else ""),),
        )
    module, _, name = model.family.partition(":")
    shape = ", ".join(f"{key}={value!r}" for key, value in asdict(model.shape).items())
    return FamilySource(
        imports=f"from {module} import {name}\nfrom windtunnel.model import Shape",
        network=f"{name}().build(Shape({shape}), SITES)",
        call="tokens.contiguous())",
        constants=(),
    )


def patterns_of(roles: Mapping[str, Role]) -> dict[str, Role]:
    """Roles by name with `*` for the number of a layer, so that each is written once."""
    return {LAYER_NUMBER.sub(".*.", name): role for name, role in roles.items()}


def _constants(handoff: Handoff) -> list[str]:
    """Assignments of the target's numbers, one per line."""
    model, steps, recipe = handoff.model, handoff.schedule, handoff.recipe
    update = (handoff.batch.rows, recipe.clip, (recipe.beta1, recipe.beta2))
    phases = (steps.warmup, steps.decay_start, steps.end, steps.final_factor)
    kept = [each.step for each in handoff.checkpoints]
    lines = [
        *(_of_family(handoff) if isinstance(model, FamilySpec) else _of_dense(handoff)),
        f"ROWS, CLIP, BETAS = {_row(update)}",
        f"WARMUP, DECAY_START, END, FINAL_FACTOR = {_row(phases)}",
        f"KEEP, MOMENTS = {kept}, ('step', 'exp_avg', 'exp_avg_sq')",
        "ROLES = {  # lr is the peak; AdamW decays a weight by lr x weight_decay",
    ]
    for role, values in handoff.roles.items():
        lines.append(f'    "{role}": {json.dumps(values.model_dump())},')
    return [*lines, "}"]


def _of_dense(handoff: Handoff) -> list[str]:
    model, sites = handoff.model, handoff.multipliers
    assert isinstance(model, DenseSpec)
    shape = (model.width, model.depth, model.ffn_width, model.vocab_size, model.context)
    heads = (model.num_heads, model.kv_heads, model.head_dim, model.rope_base)
    factors = (sites.embed, sites.residual, sites.logits, sites.attention)
    return [
        f"WIDTH, DEPTH, FFN_WIDTH, VOCAB_SIZE, CONTEXT = {_row(shape)}",
        f"HEADS, KV_HEADS, HEAD_DIM, ROPE_BASE = {_row(heads)}",
        f"EMBED, RESIDUAL, LOGITS, ATTENTION = {_row(factors)}",
    ]


def _of_family(handoff: Handoff) -> list[str]:
    from windtunnel.model.network import roles_in

    model = handoff.model
    assert isinstance(model, FamilySpec)
    sites = {name: getattr(handoff.multipliers, name) for name in sorted(model.sites)}
    patterns = patterns_of(roles_in(model)).items()
    return [
        f"CONTEXT = {model.context}",
        f"SITES = {sites}",
        *family_source(model).constants,
        "PATTERNS = {  # the role of a parameter, by its name",
        *(f'    "{pattern}": "{role}",' for pattern, role in patterns),
        "}",
    ]


def _row(values: tuple[object, ...]) -> str:
    return ", ".join(map(repr, values))
