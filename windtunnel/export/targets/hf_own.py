"""A model of an `hf:` family as its own class, which transformers loads without remote code."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from windtunnel.config import FamilySpec
from windtunnel.errors import ConfigError
from windtunnel.export.targets.hf_files import Job
from windtunnel.export.targets.hf_weights import FLOAT_BYTES, refuse_full_disk
from windtunnel.model import build, initialise
from windtunnel.model.hf import CausalDecoder
from windtunnel.model.network import Network
from windtunnel.mup import Role
from windtunnel.train import checkpoint as checkpoints


def filled(job: Job, *, init_seed: int, checkpoint: Path | None) -> Network:
    """The model in memory: freshly initialised, or with the weights of a checkpoint.

    Raises:
        ConfigError: The family is none of transformers.
        StoreError: The checkpoint is damaged or cannot be read.
    """
    assert isinstance(job.model, FamilySpec)
    model = build(job.model, job.recipe)
    assert isinstance(model, Network)
    if not isinstance(model.network, CausalDecoder):
        raise ConfigError(
            "unsupported-model",
            f"export to hf: the model is of family {job.model.family}, and transformers has no "
            "class of it; export to `torch`, which trains the family's own class, or to `json`",
            target="hf",
            field="family",
            value=job.model.family,
        )
    if checkpoint is None:
        initialise(model, job.recipe, init_seed=init_seed)
        return model
    checkpoints.verify(checkpoint)
    saved = load_file(checkpoint / checkpoints.WEIGHTS)
    for name, weight in model.weights().items():
        weight.data.copy_(saved[name])
    return model


def names_by_role(model: Network) -> dict[Role, tuple[str, ...]]:
    """The names of the parameters of each role."""
    roles = model.roles()
    return {
        role: tuple(name for name in roles if roles[name] is role)
        for role in Role
        if role in roles.values()
    }


def write_weights(
    model: Network, folder: Path, *, end_id: int | None, shard_bytes: int
) -> list[Path]:
    """Write config.json, generation_config.json and the weights.

    Raises:
        ConfigError: The disk has no room for them.
    """
    spec = model.spec
    refuse_full_disk(folder, (spec.params_total + spec.params_embedding) * FLOAT_BYTES)
    assert isinstance(model.network, CausalDecoder)
    decoder: Any = model.network.decoder
    before = set(folder.iterdir())
    for config in (decoder.config, decoder.generation_config):
        config.eos_token_id = end_id
    decoder.save_pretrained(folder, max_shard_size=shard_bytes)
    return sorted(set(folder.iterdir()) - before)
