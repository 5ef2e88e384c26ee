"""`hf`: a folder that transformers' `AutoModelForCausalLM.from_pretrained` loads.

A model of an `hf:` family is written as its own class (`hf_own`); ours, as a Granite.
Granite (transformers 5.23.0, `models/granite`) computes what our decoder does: the same forward
factors, norms, rotary pairs and feed-forward. Its config has one init std where we have one a role,
so weights are written, not left to be drawn; rates, decays and eps are in optimizer.json, and
param_groups.py hands them to a Trainer. It has no norm of queries and keys: such models are
refused. Nothing here imports transformers.

A finished segment of a study by its id, and the checkpoint at its end. Loads no torch.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from windtunnel.config import FamilySpec, Segment
from windtunnel.config.segment import tokens_at
from windtunnel.errors import ConfigError, StoreError
from windtunnel.export.handoff import Handoff, Multipliers, roles_of
from windtunnel.export.targets.hf_files import (
    Job,
    config_json,
    generation_json,
    optimizer_json,
    refuse_unequal,
)
from windtunnel.export.targets.hf_tokenizer import WrittenTokenizer, write_tokenizer
from windtunnel.export.targets.template import environment
from windtunnel.export.targets.torch import DECAYS
from windtunnel.runs.completion import outcome_of
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.study import Study

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
        warnings=handoff.warnings,
    )
    refuse_unequal(job.model)
    if isinstance(job.model, FamilySpec):
        return _write_own(job, folder, init_seed=init_seed, shard_bytes=shard_bytes)
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
        warnings=study.token_diagnostics,
    )
    if isinstance(job.model, FamilySpec):
        return _write_own(job, folder, checkpoint=found.checkpoint, shard_bytes=shard_bytes)
    from windtunnel.export.targets.hf_weights import read_from

    return _write(job, folder, read_from(found.checkpoint), shard_bytes)


def _write(job: Job, folder: Path, tensor_of: "TensorOf", shard_bytes: int) -> list[Path]:
    from windtunnel.export.targets.hf_weights import write_weights

    files = write_weights(job, tensor_of, folder, shard_bytes=shard_bytes)
    tokenizer = _tokenizer(job, folder)
    for name, document in {
        "config.json": config_json(job, end_id=tokenizer.end_id),
        "generation_config.json": generation_json(end_id=tokenizer.end_id),
    }.items():
        path = folder / name
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        files.append(path)
    return [*files, *_documents(job, folder, tokenizer)]


def _write_own(
    job: Job,
    folder: Path,
    *,
    shard_bytes: int,
    init_seed: int = 0,
    checkpoint: Path | None = None,
) -> list[Path]:
    from windtunnel.export.targets.hf_own import filled, names_by_role, write_weights

    model = filled(job, init_seed=init_seed, checkpoint=checkpoint)
    tokenizer = _tokenizer(job, folder)
    job = replace(job, names=names_by_role(model))
    files = write_weights(model, folder, end_id=tokenizer.end_id, shard_bytes=shard_bytes)
    return [*files, *_documents(job, folder, tokenizer)]


def _tokenizer(job: Job, folder: Path) -> WrittenTokenizer:
    """Write the study's tokenizer, if it is still there."""
    return write_tokenizer(
        job.tokenizer,
        folder,
        vocab_size=job.model.vocab_size,
        context=job.model.context,
        end_of_text=job.end_of_text,
    )


def _documents(job: Job, folder: Path, tokenizer: WrittenTokenizer) -> list[Path]:
    """Write the optimizer's numbers, the code that applies them, and the card."""
    path = folder / "optimizer.json"
    path.write_text(json.dumps(optimizer_json(job), indent=1) + "\n", encoding="utf-8")
    files = [path]
    decay = job.schedule.decay
    values = {"job": job, "tokenizer": tokenizer, "decay": decay and DECAYS[decay.shape]}
    for name, template in TEMPLATES.items():
        path = folder / name
        path.write_text(environment().get_template(template).render(values), encoding="utf-8")
        files.append(path)
    return [*files, *tokenizer.files]


SHOWN = 5
"""Ids of an ambiguous answer that are named."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A segment, the updates behind its weights, and where these lie."""

    segment: Segment
    step: int
    checkpoint: Path
    origin: str


def find_trained(study: Study, segment_id: str) -> Trained:
    """The finished segment with this id, or the only one whose id begins with it.

    Raises:
        ConfigError: There is none or more than one, or it has not been finished.
        StoreError: Its last checkpoint was freed.
    """
    planned = _planned(study, segment_id)
    folder = study.store.segment(planned.id)
    record = folder.record
    outcome = outcome_of(record, planned)
    what = f"segment {planned.id} of {study.config.study}"
    if outcome == "diverged":
        raise ConfigError(
            "diverged",
            f"{what} has diverged: its weights are of no use; export one of outcome `finished`",
            segment=planned.id,
            study=study.config.study,
        )
    if record is None or outcome != "finished":
        raise ConfigError(
            "not-finished",
            f"{what} is not finished; run `windtunnel sweep {study.file}` first, or export another",
            segment=planned.id,
            study=study.config.study,
        )
    step = int(record["reached"])
    if not folder.has_checkpoint(step):
        why = "was freed by `gc`" if folder.is_released(step) else "is missing"
        raise StoreError(
            "missing-checkpoint",
            f"{what}: its checkpoint after {step} updates {why}; export a segment whose end is "
            "kept, or train it again in a store of its own (`store:` in the study file)",
            segment=planned.id,
            step=step,
            released=folder.is_released(step),
        )
    tokens = tokens_at(planned.segment, step)
    losses = folder.measurements.get(step, {})
    measured = ", ".join(f"{m['nats_per_token']:.4f} on {name}" for name, m in losses.items())
    origin = (
        f"Segment `{planned.id}` (a {planned.segment.kind}) after {step:,} updates, {tokens:.4g} "
        f"tokens. A small model made to fit a law, not to be used. "
        f"Its validation loss in nats per token: {measured or 'not measured'}."
    )
    return Trained(
        segment=planned.segment, step=step, checkpoint=folder.checkpoint(step), origin=origin
    )


def _planned(study: Study, segment_id: str) -> PlannedSegment:
    by_id = study.plan.by_id()
    found = [each for each in by_id if segment_id and each.startswith(segment_id)]
    if len(found) == 1:
        return by_id[found[0]]
    if found:
        named = ", ".join(found[:SHOWN])
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise ConfigError(
            "ambiguous-segment",
            f"--segment {segment_id}: {len(found)} segments of {study.config.study} begin so: "
            f"{named}{more}; give more digits",
            segment=segment_id,
            study=study.config.study,
            found=found,
        )
    elsewhere = [each for each in study.store.segment_ids() if each.startswith(segment_id or "-")]
    raise ConfigError(
        "unknown-segment",
        f"--segment {segment_id}: "
        + (
            f"in {study.store.root}, but not planned by {study.config.study}; give the file of a "
            "study that plans it"
            if elsewhere
            else f"{study.config.study} plans no such segment; ids are 16 hex digits, in the "
            "column `segment` of runs.csv and in the plan"
        ),
        segment=segment_id,
        study=study.config.study,
        in_store=bool(elsewhere),
    )
