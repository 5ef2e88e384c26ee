"""`hf`: a folder that transformers' `AutoModelForCausalLM.from_pretrained` loads, as a Granite.

Granite (transformers 5.23.0, `models/granite`) computes what our decoder does: the same forward
factors, norms, rotary pairs and feed-forward. Its config has one init std where we have one a role,
so weights are written, not left to be drawn; rates, decays and eps are in optimizer.json, and
param_groups.py hands them to a Trainer. It has no norm of queries and keys: such models are
refused. Nothing here imports transformers.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from windtunnel.export.derive import roles_of
from windtunnel.export.handoff import Handoff, Multipliers
from windtunnel.export.targets.hf_files import (
    Job,
    config_json,
    generation_json,
    optimizer_json,
    refuse_unequal,
)
from windtunnel.export.targets.hf_segment import find_trained
from windtunnel.export.targets.hf_tokenizer import write_tokenizer
from windtunnel.export.targets.template import environment
from windtunnel.export.targets.torch import DECAYS
from windtunnel.trials.study import Study

if TYPE_CHECKING:
    from windtunnel.export.targets.hf_weights import TensorOf

TEMPLATES = {"param_groups.py": "hf_param_groups.py.jinja", "README.md": "hf_card.md.jinja"}

SHARD_BYTES = 5_000_000_000
"""Largest file of weights (assumed: several GB are easy to move, and each is read at once)."""


def write(
    handoff: Handoff, folder: Path, *, init_seed: int = 0, shard_bytes: int = SHARD_BYTES
) -> list[Path]:
    """Write the target model freshly initialised, and the study's tokenizer if it is still there.

    Raises:
        ConfigError: Granite has no equal of the model, or the disk has no room.
    """
    job = Job(
        model=handoff.model,
        recipe=handoff.recipe,
        roles=handoff.roles,
        multipliers=handoff.multipliers,
        schedule=handoff.schedule.schedule,
        end=handoff.schedule.end,
        rows=handoff.batch.rows,
        tokenizer=handoff.inputs.tokenizer,
        end_of_text=handoff.inputs.end_of_text,
        title=f"{handoff.model.size} of study {handoff.study}, untrained",
        origin=f"Freshly initialised with seed {init_seed}; no update has been made. "
        "`handoff.json` says what its numbers rest on.",
    )
    refuse_unequal(job.model)
    from windtunnel.export.targets.hf_weights import drawn

    return _write(job, folder, drawn(job, init_seed), shard_bytes)


def write_segment(
    study: Study, segment_id: str, folder: Path, *, shard_bytes: int = SHARD_BYTES
) -> list[Path]:
    """Write a trained proxy: the weights at the end of a segment, and the study's tokenizer.

    Args:
        study: One that plans the segment.
        segment_id: Its id, or the first digits of it.
        folder: An empty folder.
        shard_bytes: Largest file of weights.

    Raises:
        ConfigError: No such segment, it is not finished, or Granite has no equal of its model.
        StoreError: Its last checkpoint was freed, is damaged or cannot be read.
    """
    found = find_trained(study, segment_id)
    segment = found.segment
    refuse_unequal(segment.model)
    job = Job(
        model=segment.model,
        recipe=segment.recipe,
        roles=roles_of(segment.recipe, segment.model),
        multipliers=Multipliers(**asdict(segment.recipe.multipliers(segment.model))),
        schedule=segment.schedule,
        end=found.step,
        rows=segment.recipe.batch_tokens // segment.model.context,
        tokenizer=study.tokenizer,
        end_of_text=study.config.data.end_of_text,
        title=f"{segment.model.size} of study {study.config.study}, a trained proxy",
        origin=found.origin,
    )
    from windtunnel.export.targets.hf_weights import read_from

    return _write(job, folder, read_from(found.checkpoint), shard_bytes)


def _write(job: Job, folder: Path, tensor_of: "TensorOf", shard_bytes: int) -> list[Path]:
    from windtunnel.export.targets.hf_weights import write_weights

    files = write_weights(job, tensor_of, folder, shard_bytes=shard_bytes)
    tokenizer = write_tokenizer(
        job.tokenizer,
        folder,
        vocab_size=job.model.vocab_size,
        context=job.model.context,
        end_of_text=job.end_of_text,
    )
    documents = {
        "config.json": config_json(job, end_id=tokenizer.end_id),
        "generation_config.json": generation_json(end_id=tokenizer.end_id),
        "optimizer.json": optimizer_json(job),
    }
    for name, document in documents.items():
        path = folder / name
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        files.append(path)
    decay = job.schedule.decay
    values = {"job": job, "tokenizer": tokenizer, "decay": decay and DECAYS[decay.shape]}
    for name, template in TEMPLATES.items():
        path = folder / name
        path.write_text(environment().get_template(template).render(values), encoding="utf-8")
        files.append(path)
    return [*files, *tokenizer.files]
