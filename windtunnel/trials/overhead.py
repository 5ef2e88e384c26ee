"""Where a segment's seconds go beside training: evaluations and checkpoints."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

Part = Literal["evaluation_seconds", "checkpoint_seconds"]

PARTS: tuple[Part, ...] = ("evaluation_seconds", "checkpoint_seconds")


class Overhead:
    """Seconds over a segment's life, repeats counted.

    They are written with every checkpoint and into the record; a crash loses what came after the
    last of these.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)

    def go_on_from(self, *written: Mapping[str, Any]) -> None:
        """Continue from the largest value in what was written before; absent counts as zero."""
        for part in PARTS:
            self.seconds[part] = max(each.get(part, 0.0) for each in written)

    @contextmanager
    def timing(self, part: Part) -> Iterator[None]:
        """Add the body's wall time to a part."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - began
