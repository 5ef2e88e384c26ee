"""What in a Handoff does not go together: its own numbers say the same thing twice in places."""

import math
from collections.abc import Iterator

from windtunnel.export.handoff import Handoff
from windtunnel.export.recipe import counts_of, roles_of

SAME = 1e-6
"""Relative; numbers go through text."""


def contradictions(handoff: Handoff) -> Iterator[str]:
    """A sentence for each, its place first; none for what `windtunnel export` has written."""
    if not 0 < handoff.level < 1:
        yield f"level: {handoff.level:g}, allowed: above 0 and below 1"
    yield from _of_the_model(handoff)
    yield from _of_the_schedule(handoff)
    for name, estimate in handoff.forecast.items():
        if estimate.value <= 0:
            yield f"forecast.{name}.value: {estimate.value:g}, allowed: a loss above 0"
    if handoff.inputs.fits and handoff.inputs.fits.keys() != handoff.forecast.keys():
        known = ", ".join(handoff.inputs.fits)
        yield f"forecast: of {', '.join(handoff.forecast)}, and inputs.fits has {known}"
    for name, count in handoff.bytes_per_token.items():
        if count is not None and count <= 0:
            yield f"bytes_per_token.{name}: {count:g}, allowed: above 0"
    for name, (low, high) in handoff.law.domain.items():
        if not 0 < low <= high:
            yield f"law.domain.{name}: {low:g} to {high:g}, allowed: above 0, the smaller first"


def _of_the_model(handoff: Handoff) -> Iterator[str]:
    derived = counts_of(handoff.model, handoff.counts.tokens)
    for name in ("params", "params_embedding", "num_heads", "ffn_width", "tokens_per_param"):
        mine, theirs = getattr(handoff.counts, name), getattr(derived, name)
        if not math.isclose(mine, theirs, rel_tol=SAME):
            yield f"counts.{name}: {mine:.9g}, where the model's shape and tokens give {theirs:.9g}"
    roles = roles_of(handoff.recipe, handoff.model)
    if handoff.roles.keys() != roles.keys():
        yield f"roles: {', '.join(handoff.roles)}, where the model has {', '.join(roles)}"
    for role, values in handoff.roles.items():
        if values.lr <= 0:
            yield f"roles.{role}.lr: {values.lr:g}, allowed: above 0"
    if not handoff.width_ratio > 0:
        yield f"width_ratio: {handoff.width_ratio:g}, allowed: above 0"


def _of_the_schedule(handoff: Handoff) -> Iterator[str]:
    steps, batch = handoff.schedule, handoff.batch
    if batch.batch_tokens < 1 or batch.rows * handoff.model.context != batch.batch_tokens:
        yield (
            f"batch.batch_tokens: {batch.batch_tokens}, where {batch.rows} rows of "
            f"{handoff.model.context} tokens are {batch.rows * handoff.model.context}"
        )
    if not 0 <= steps.warmup <= steps.decay_start < steps.end:
        yield (
            f"schedule: warmup {steps.warmup}, decay_start {steps.decay_start}, end {steps.end}; "
            "allowed: 0 or more, in this order"
        )
    for kept in handoff.checkpoints:
        if not 0 <= kept.step <= steps.end or kept.tokens < 0:
            yield f"checkpoints: step {kept.step}, allowed: from 0 to schedule.end, {steps.end}"
