"""What a segment has consumed by an update, counted along its path from update 0.

A branch may change batch, context or model, so nothing of it is a multiple of the update: each
segment of the path adds its own updates.
"""

from collections.abc import Callable
from typing import TypeVar

from windtunnel.accounting import flops_6nd
from windtunnel.spec.segment import Segment, Trunk

Amount = TypeVar("Amount", int, float)


def tokens_at(segment: Segment, step: int) -> int:
    """Tokens read by the first `step` updates."""
    return _along(segment, step, lambda each: each.recipe.batch_tokens)


def rows_at(segment: Segment, step: int) -> int:
    """Rows read by them, whatever their lengths: the number of the next row."""
    return _along(segment, step, rows_per_update)


def flops_6nd_at(segment: Segment, step: int) -> float:
    """6ND of them."""
    return float(
        _along(segment, step, lambda each: flops_6nd(each.model.params, each.recipe.batch_tokens))
    )


def flops_exact_at(segment: Segment, step: int) -> float:
    """FLOPs of them with attention, embedding and head."""
    return float(_along(segment, step, flops_per_update))


def rows_per_update(segment: Segment) -> int:
    """Rows of one update of a segment."""
    return segment.recipe.batch_tokens // segment.model.context


def flops_per_update(segment: Segment) -> int:
    """FLOPs of one update of a segment, with attention, embedding and head."""
    return segment.model.flops_exact_per_token * segment.recipe.batch_tokens


def _along(segment: Segment, step: int, per_update: Callable[[Segment], Amount]) -> Amount:
    own = (step - segment.fork_step) * per_update(segment)
    if isinstance(segment, Trunk):
        return own
    return _along(segment.parent, segment.fork_step, per_update) + own
