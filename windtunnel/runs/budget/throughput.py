"""Throughput: seconds of a segment on one slot, from calibration, finished runs or a guess.

`Timers` records the seconds of a segment's evaluations and checkpoints.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from windtunnel.accounting import BACKWARD_FACTOR
from windtunnel.config import ModelSpec, Trunk
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.study import Study

ASSUMED_FLOPS_PER_SECOND = 7e10
"""One CPU core in fp32, used before anything is measured (assumed; measured with AVX-512 at widths
32 to 256: 7e10 to 9e10)."""

Shape = tuple[ModelSpec, int]
"""A model and its batch_tokens, which decide the time of an update."""


@dataclass(frozen=True, kw_only=True)
class ShapeTimes:
    """Timings of one shape in seconds, with every slot busy.

    Attributes:
        update: One update, with its row reads and curve writes.
        evaluation: One token of a validation set.
        fork: Writing a checkpoint with moments.
        end: Writing one without.
        prepare: Preparation of the shape in a worker process, compilation included.
    """

    update: float
    evaluation: float
    fork: float = 0.0
    end: float = 0.0
    prepare: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Seconds of a study's segments. Unknown shapes run at `flops_per_second`."""

    source: Literal["calibrated", "measured", "assumed"]
    flops_per_second: float
    shapes: Mapping[Shape, ShapeTimes]
    sets: int
    fork_tokens: int
    end_tokens: int
    checkpoint_seconds: float

    def of(self, shape: Shape) -> ShapeTimes:
        """Timings of a shape."""
        known = self.shapes.get(shape)
        if known is not None:
            return known
        model, batch_tokens = shape
        per_token = model.flops_exact_per_token / self.flops_per_second
        return ShapeTimes(update=batch_tokens * per_token, evaluation=per_token / BACKWARD_FACTOR)

    def seconds(self, planned: PlannedSegment, updates: int | None = None) -> float:
        """Seconds of a segment, or of so many of its updates, with evaluations and checkpoints."""
        count = planned.steps if updates is None else updates
        share = count / planned.steps if planned.steps else 1.0
        shape = self.of(shape_of(planned))
        training = count * shape.update
        if isinstance(planned.segment, Trunk):
            stops, tokens, saving = len(planned.forks), self.fork_tokens, shape.fork
        else:
            saving = shape.fork if planned.forks else shape.end
            stops, tokens = 1, self.end_tokens
        at_stops = stops * (saving + self.sets * tokens * shape.evaluation)
        resumable = training // self.checkpoint_seconds * shape.fork
        return training + share * at_stops + resumable + shape.prepare


def shape_of(planned: PlannedSegment) -> Shape:
    """The shape of a segment."""
    return planned.segment.model, planned.segment.recipe.batch_tokens


def throughput_of(study: Study, calibrated: Mapping[Shape, ShapeTimes] | None = None) -> Throughput:
    """The best known throughput: calibrated, else measured on finished segments, else assumed.

    `calibrated` has the timings of a calibration that is still valid, if there is one.
    """
    source: Literal["calibrated", "measured", "assumed"] = "assumed"
    shapes: dict[Shape, ShapeTimes] = {}
    speed = ASSUMED_FLOPS_PER_SECOND
    if calibrated:
        source, shapes = "calibrated", dict(calibrated)
        speed = median(_speed(shape, times) for shape, times in shapes.items())
    elif measured := _measured(study):
        source = "measured"
        speed = median(rate for rates in measured.values() for rate in rates)
        for (model, batch_tokens), rates in measured.items():
            per_token = model.flops_exact_per_token / median(rates)
            shapes[(model, batch_tokens)] = ShapeTimes(
                update=batch_tokens * per_token, evaluation=per_token / BACKWARD_FACTOR
            )
    validation = study.config.data.validation
    return Throughput(
        source=source,
        flops_per_second=speed,
        shapes=shapes,
        sets=len(study.validation) or len(study.config.data.set_names),
        fork_tokens=validation.fork_tokens,
        end_tokens=validation.tokens,
        checkpoint_seconds=study.config.resources.checkpoint_seconds,
    )


def _speed(shape: Shape, times: ShapeTimes) -> float:
    model, batch_tokens = shape
    return batch_tokens * model.flops_exact_per_token / times.update


def _measured(study: Study) -> dict[Shape, list[float]]:
    """FLOP/s of training, one value per finished segment of a shape."""
    speeds: dict[Shape, list[float]] = defaultdict(list)
    begun = study.store.begun()
    for planned in study.plan.segments:
        record = study.store.segment(planned.id).record if planned.id in begun else None
        if record and record["outcome"] == "finished" and record["seconds"] > 0:
            model, batch_tokens = shape_of(planned)
            tokens = (record["reached"] - planned.segment.fork_step) * batch_tokens
            speeds[(model, batch_tokens)].append(
                tokens * model.flops_exact_per_token / record["seconds"]
            )
    return speeds


Part = Literal["evaluation_seconds", "checkpoint_seconds"]

PARTS: tuple[Part, ...] = ("evaluation_seconds", "checkpoint_seconds")


class Timers:
    """Seconds over a segment's life, repeated work included.

    They are written with every checkpoint and into the record; a crash loses what came after the
    last write.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)

    def go_on_from(self, *written: Mapping[str, Any]) -> None:
        """Continue from the larger value of two stored ones; a missing one counts as zero."""
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
