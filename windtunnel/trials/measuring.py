"""Losses of one segment at its stops, on every validation set that is not measured there yet."""

import math
from typing import Any

from windtunnel.data import ValidationSet
from windtunnel.train.evaluate import evaluate
from windtunnel.train.step import TrainStep
from windtunnel.trials.completion import WantedSet
from windtunnel.trials.plan import PlannedSegment
from windtunnel.trials.workbench import Workbench


class Measuring:
    """What is asked of a segment, what the store holds of it, and how the rest is found."""

    def __init__(self, bench: Workbench, planned: PlannedSegment) -> None:
        self._bench, self._planned = bench, planned
        self._folder = bench.store.segment(planned.id)

    def lacking(self, step: int) -> list[tuple[ValidationSet, WantedSet]]:
        """The sets that are not measured after `step` updates as the study wants them."""
        known = self._folder.measurements.get(step, {})
        wanted = self._bench.wanted
        return [
            (validation, wanted[validation.name])
            for validation in self._bench.validation
            if not wanted[validation.name].is_met_by(known.get(validation.name), self._planned)
        ]

    def measure(self, step: int, trained: TrainStep) -> None:
        """Evaluate a state that stands at `step` on every set that is lacking, and write it."""
        found = {
            validation.name: self._losses(validation, wanted.tokens(self._planned), trained)
            for validation, wanted in self.lacking(step)
        }
        if found:
            self._folder.add_measurement(step, found)

    def _losses(self, validation: ValidationSet, tokens: int, trained: TrainStep) -> dict[str, Any]:
        rows = validation.rows(self._planned.segment.model.context, tokens)
        nats, bytes_each = evaluate(trained, rows), validation.bytes_per_token
        return {
            "fingerprint": validation.fingerprint,
            "asked": tokens,
            "tokens": int((rows[:, 1:] >= 0).sum()),
            "nats_per_token": nats,
            "bits_per_byte": None if bytes_each is None else nats / math.log(2) / bytes_each,
        } | ({"conditional": True} if validation.conditional else {})
