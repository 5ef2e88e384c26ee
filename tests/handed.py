"""A small Handoff without a study, and its reference train.py as a module."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from windtunnel.config import DenseSpec, FamilySpec, Recipe, Size
from windtunnel.config.model import ModelFamily, ScheduleConfig
from windtunnel.export.handoff import (
    BatchChoice,
    Estimate,
    Handoff,
    Kept,
    Law,
    LrRule,
    counts_of,
    kv_init_std_of,
    roles_of,
)
from windtunnel.export.prenorm import prenorm_decoder
from windtunnel.export.recipe import multipliers_of, steps_of
from windtunnel.export.targets import torch as torch_target

SHAPE = {
    "width": 96, "depth": 3, "head_dim": 16, "kv_heads": 2, "ffn_ratio": 2.5, "vocab_size": 256,
    "context": 32, "rope_base": 20000.0,
}  # fmt: skip
RECIPE = {
    "lr": 8e-3, "base_width": 32, "batch_tokens": 256, "warmup_steps": 10, "init_std": 0.15,
    "scale_emb": 4.0, "scale_depth": 1.4, "eps": 1e-8, "weight_decay": 0.1,
}  # fmt: skip


def planted_handoff(
    *,
    model: dict[str, Any] | FamilySpec | None = None,
    recipe: dict[str, Any] | None = None,
    schedule: dict[str, Any] | None = None,
    end: int = 60,
    proxy_head_dim: int = 16,
) -> Handoff:
    """A Handoff of a small untrained model; its numbers of roles, sites and steps are derived."""
    shape = model if isinstance(model, FamilySpec) else DenseSpec(**(SHAPE | (model or {})))
    taken = Recipe(**(RECIPE | (recipe or {})))
    config = ScheduleConfig(**({"shape": "linear", "decay_fraction": 0.2} | (schedule or {})))
    batch = taken.batch_tokens
    steps = steps_of(config, shape, warmup=taken.warmup_steps, end=end, batch_tokens=batch)
    return Handoff(
        study="planted",
        written="2026-01-01T00:00:00Z",
        asked={"shape": shape.size},
        model=shape,
        counts=counts_of(shape, end * batch),
        sized="as asked",
        recipe=taken,
        width_ratio=taken.width_ratio(shape),
        roles=roles_of(taken, shape),
        kv_init_std=kv_init_std_of(taken, shape),
        multipliers=multipliers_of(taken, shape, proxy_head_dim=proxy_head_dim),
        batch=BatchChoice(
            batch_tokens=batch, rows=batch // shape.context, how="study", evidence="planted"
        ),
        lr_rule=LrRule(
            rule="none", exponent=0.0, factor=1.0, tuned_lr=taken.lr, tuned_batch_tokens=batch,
            evidence="planted",
        ),
        schedule=steps,
        checkpoints=(
            Kept(step=steps.decay_start, tokens=steps.decay_start * batch, why="decay starts"),
            Kept(step=end, tokens=end * batch, why="end"),
        ),
        loss_unit="nats per token",
        level=0.9,
        forecast={"mean": Estimate(value=2.5, low=2.25, high=2.75)},
        bytes_per_token={},
        best=None,
        winners=(),
        law=Law(
            law="chinchilla", formula="", coefficients={}, intervals={}, domain={},
            flop_rule="6ND", params_convention="", rows=0, trunks=0,
        ),
        inputs={
            "study": "planted", "study_sha256": "", "stream": "", "tokenizer": "bytes",
            "end_of_text": None,
            "validation": {}, "runs": "", "fits": {}, "companions": {},
            "git_commit": None, "windtunnel": "",
            "versions": {}, "executions": (),
        },
        warnings=(),
    )  # fmt: skip


def transformers_spec(
    name: str, *, size: str = "96x3", fields: dict[str, Any] | None = None, **shape: Any
) -> FamilySpec:
    """A model of transformers of `SHAPE`; `fields` are its configuration's own."""
    family = ModelFamily(
        **{
            "family": f"hf:{name}", "sizes": (Size.parse(size),), "head_dim": 16, "kv_heads": 2,
            "context": 32, "rope_base": 20000.0, "tied": False,
            "shape": {"rms_norm_eps": 1e-5} | (fields or {}),
        } | shape
    )  # fmt: skip
    spec = family.spec(family.sizes[0], vocab_size=256)
    assert isinstance(spec, FamilySpec)
    return spec


def built_in(handoff: Handoff) -> Handoff:
    """The Handoff with its family's model as the built-in decoder: the same arithmetic and roles.

    Its train.py has the names that tests know; test_prenorm.py shows that both train alike.
    """
    if isinstance(handoff.model, DenseSpec):
        return handoff
    model = prenorm_decoder(handoff, "torchtitan")
    dense = DenseSpec(
        width=model.width,
        depth=model.depth,
        head_dim=model.head_dim,
        kv_heads=model.kv_heads,
        ffn_ratio=model.ffn_width / model.width,
        vocab_size=model.vocab_size,
        context=model.context,
        rope_base=model.rope_base,
        tied=model.tied,
        qk_norm=model.qk_norm,
    )
    return handoff.model_copy(update={"model": dense, "multipliers": model.sites})


def load_reference(handoff: Handoff, folder: Path) -> ModuleType:
    """The generated train.py of a Handoff, imported."""
    folder.mkdir(parents=True, exist_ok=True)
    (path,) = torch_target.write(handoff, folder)
    spec = importlib.util.spec_from_file_location("reference_train", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
