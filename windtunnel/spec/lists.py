"""Lists of values as a study file writes them: none too long, no value twice."""

from collections.abc import Hashable
from typing import TypeVar

Item = TypeVar("Item", bound=Hashable)

MOST_LISTED = 1000
"""Values of one list: horizons, seeds, an axis (assumed: a study of more is a mistake)."""


def differing(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """The same items.

    Raises:
        ValueError: Two are equal.
    """
    seen = set[Item]()
    for item in items:
        if item in seen:
            raise ValueError(f"{item} is there twice; write it once")
        seen.add(item)
    return items
