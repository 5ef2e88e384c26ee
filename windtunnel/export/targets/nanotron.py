"""`nanotron`: its YAML, and a module that gives each parameter what the YAML has no key for.

nanotron knows spectral muP, one rate rule and one init rule for every matrix by its two fans; it is
another parametrization than ours (docs/export/nanotron.md), so its switch stays off and the values
of each role stand in a section of their own, which nanotron's plain trainer refuses to load.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from windtunnel.errors import ConfigError
from windtunnel.export.handoff import Handoff
from windtunnel.export.prenorm import PreNormDecoder, prenorm_decoder
from windtunnel.export.targets.template import environment
from windtunnel.family import MINICPM
from windtunnel.mup import Role
from windtunnel.schedule import DecayShape

COMMIT = "2411b022a75fb7f7561a1bb4166706da5e1b76de"  # of huggingface/nanotron, read for all of this
CONFIG, ENTRY = "nanotron.yaml", "windtunnel_nanotron.py"

# Their names; they have no exponential decay, and the module's schedule replaces theirs anyway.
DECAY_STYLES: dict[DecayShape, str] = {
    "exponential": "linear",
    "linear": "linear",
    "one_minus_sqrt": "1-sqrt",
    "cosine": "cosine",
}
CHECKPOINTS_OF_A_RUN = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class SpectralRow:
    """Values of nanotron's spectral muP for one matrix, relative to the Handoff.

    Attributes:
        lr: its rate where `learning_rate` is ours for hidden matrices, over ours for this matrix.
        std: its init std, over ours.
    """

    matrix: str
    fan_out: int
    fan_in: int
    lr: float
    std: float


def write(handoff: Handoff, folder: Path) -> list[Path]:
    """Write nanotron.yaml and windtunnel_nanotron.py.

    Raises:
        ConfigError: The model is another decoder, norms queries and keys, or has heads that
            together are not as wide as it is.
    """
    model = prenorm_decoder(handoff, "nanotron")
    _refuse_unequal(model)
    return [
        _rendered("nanotron.yaml.jinja", folder / CONFIG, handoff, model),
        _rendered("nanotron_train.py.jinja", folder / ENTRY, handoff, model),
    ]


def _refuse_unequal(model: PreNormDecoder) -> None:
    """Refuse what nanotron's Qwen2 cannot compute.

    Raises:
        ConfigError: Queries and keys are normed, or heads are not width / num_heads wide.
    """
    if model.qk_norm:
        own = model.family == MINICPM
        raise ConfigError(
            "unsupported-model",
            f"export to nanotron: {'model.qk_norm = true' if own else model.family}: its Qwen2 "
            "model has no norm of queries and keys; export to torch, torchtitan or megatron, or "
            f"search again with {'qk_norm: false' if own else 'hf:llama'}",
            target="nanotron",
            field="qk_norm" if own else "family",
            value=True if own else model.family,
        )
    if model.num_heads * model.head_dim != model.width:
        raise ConfigError(
            "unsupported-model",
            f"export to nanotron: {model.num_heads} heads of {model.head_dim} in width "
            f"{model.width}: its head_dim is width / heads; export to torch, torchtitan or "
            "megatron",
            target="nanotron",
            field="head_dim",
            value=model.head_dim,
            allowed=[model.width // model.num_heads],
        )


def spectral_rows(handoff: Handoff) -> list[SpectralRow]:
    """Spectral muP as nanotron's scaling/parametrization.py has it, against the Handoff's values.

    A matrix gets std = min(1, sqrt(fan_out / fan_in)) / sqrt(fan_in) and rate x fan_out / fan_in,
    with fused matrices (qkv, gate and up) taken as one; the embedding std = 1 and the plain rate.
    """
    hidden = handoff.roles[Role.HIDDEN]
    rows = []
    for matrix, (fan_out, fan_in) in _matrices(prenorm_decoder(handoff, "nanotron")).items():
        ours = handoff.roles[Role.READOUT] if matrix == "lm_head" else hidden
        std = min(1.0, math.sqrt(fan_out / fan_in)) / math.sqrt(fan_in)
        lr = hidden.lr * fan_out / fan_in
        rows.append(
            SpectralRow(
                matrix=matrix,
                fan_out=fan_out,
                fan_in=fan_in,
                lr=lr / ours.lr,
                std=std / ours.init_std,
            )
        )
    return rows


def _matrices(model: PreNormDecoder) -> dict[str, tuple[int, int]]:
    """Their matrices with (fan out, fan in)."""
    width, ffn = model.width, model.ffn_width
    matrices = {
        "qkv_proj": (width + 2 * model.kv_heads * model.head_dim, width),
        "o_proj": (width, width),
        "gate_up_proj": (2 * ffn, width),
        "down_proj": (width, ffn),
    }
    return matrices if model.tied else matrices | {"lm_head": (model.vocab_size, width)}


def _rendered(template: str, path: Path, handoff: Handoff, model: PreNormDecoder) -> Path:
    """Write one template with the Handoff's values."""
    steps = handoff.schedule
    text = (
        environment()
        .get_template(template)
        .render(
            handoff=handoff,
            model=model,
            recipe=handoff.recipe,
            roles={str(role): values.model_dump() for role, values in handoff.roles.items()},
            sites=model.sites.model_dump(),
            steps=steps,
            spectral=spectral_rows(handoff),
            decay_style=DECAY_STYLES[steps.shape],
            checkpoint_interval=max(1, steps.end // CHECKPOINTS_OF_A_RUN),
            commit=COMMIT,
            config=CONFIG,
            entry=ENTRY,
            number=number,
        )
    )
    path.write_text(text, encoding="utf-8")
    return path


def number(value: float) -> str:
    """A float that YAML 1.1 too reads as one: PyYAML takes 1e-05, without a dot, for a string."""
    text = repr(float(value))
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}.0e{exponent}" if e and "." not in mantissa else text
