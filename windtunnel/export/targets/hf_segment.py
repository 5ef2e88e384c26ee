"""A finished segment of a study by its id, and the checkpoint at its end. Loads no torch."""

from dataclasses import dataclass
from pathlib import Path

from windtunnel.errors import ConfigError, StoreError
from windtunnel.spec import Segment
from windtunnel.spec.path import tokens_at
from windtunnel.trials.completion import outcome_of
from windtunnel.trials.plan import PlannedSegment
from windtunnel.trials.study import Study

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
            f"{what} has diverged: its weights are of no use; export one of outcome `finished`"
        )
    if record is None or outcome != "finished":
        raise ConfigError(
            f"{what} is not finished; run `windtunnel sweep {study.file}` first, or export another"
        )
    step = int(record["reached"])
    if not folder.has_checkpoint(step):
        why = "was freed by `gc`" if folder.is_released(step) else "is missing"
        raise StoreError(
            f"{what}: its checkpoint after {step} updates {why}; export a segment whose end is "
            "kept, or train it again in a store of its own (`store:` in the study file)"
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
            f"--segment {segment_id}: {len(found)} segments of {study.config.study} begin so: "
            f"{named}{more}; give more digits"
        )
    elsewhere = [each for each in study.store.segment_ids() if each.startswith(segment_id or "-")]
    raise ConfigError(
        f"--segment {segment_id}: "
        + (
            f"in {study.store.root}, but not planned by {study.config.study}; give the file of a "
            "study that plans it"
            if elsewhere
            else f"{study.config.study} plans no such segment; ids are 16 hex digits, in the "
            "column `segment` of runs.csv and in the plan"
        )
    )
