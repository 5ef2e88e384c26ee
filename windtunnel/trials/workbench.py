"""What a worker process is told, and what it keeps between segments."""

import json
from pathlib import Path

from pydantic import TypeAdapter

from windtunnel.data import Dataset, TrainStream, ValidationSet
from windtunnel.errors import StoreError, boundary
from windtunnel.spec import Branch, Trunk
from windtunnel.spec.config import Resources
from windtunnel.spec.dynamics import DynamicsConfig
from windtunnel.spec.strict import Strict
from windtunnel.train.execution import Execution, apply
from windtunnel.train.step import TrainStep
from windtunnel.trials.completion import WantedSet
from windtunnel.trials.json_schema import Schema
from windtunnel.trials.reading import Streams
from windtunnel.trials.store import Store


class WorkOrder(Strict):
    """What a worker must know besides the segment."""

    study: str
    store: str
    dataset: str
    extra_validation: dict[str, str]
    validation_tokens: int
    fork_tokens: int
    resources: Resources
    accept_execution_change: bool = False
    dynamics: DynamicsConfig | None = None

    @property
    def stop_file(self) -> Path:
        """While this file exists, runs save and return."""
        return Store(Path(self.store)).study(self.study) / "stop"


def read_order(path: Path) -> WorkOrder:
    """The order in a study's folder.

    Raises:
        StoreError: It is missing or damaged.
    """
    with boundary(path, ORDER.fix, StoreError, what="damaged"):
        return ORDER.read(path.read_bytes())


ORDER = Schema(TypeAdapter(WorkOrder), "run the same command again, which writes it anew")


class Workbench:
    """What a worker process keeps between segments: open data and compiled shapes."""

    def __init__(self, order: WorkOrder) -> None:
        self.order = order
        self.store = Store(Path(order.store))
        self.dataset = Dataset.open(Path(order.dataset))
        self.validation: tuple[ValidationSet, ...] = (
            *self.dataset.validation,
            *(
                each
                for name, folder in order.extra_validation.items()
                for each in ValidationSet.open(Path(folder), name=name)
            ),
        )
        self.wanted = {
            each.name: WantedSet(
                each.fingerprint,
                end_tokens=order.validation_tokens,
                fork_tokens=order.fork_tokens,
            )
            for each in self.validation
        }
        self._step: TrainStep | None = None
        self._key = ""
        self._work_of_before = 0
        self._streams = Streams(self.dataset)

    @property
    def work_done(self) -> int:
        """Updates and pieces of evaluation of this process's steps; it grows while work goes on."""
        step = self._step  # read once, for another thread asks
        return self._work_of_before + (step.work_done if step is not None else 0)

    def stream(self, segment: Trunk | Branch) -> TrainStream:
        """The training rows of a segment."""
        return self._streams.of(segment)

    def step(self, segment: Trunk | Branch, execution: Execution) -> TrainStep:
        """A train step of the segment's shape; its state holds whatever ran last."""
        execution = execution.for_segment(segment)
        apply(execution)
        key = json.dumps(
            [value.model_dump() for value in (segment.model, segment.recipe, execution)]
        )
        if self._step is None or key != self._key:
            self._work_of_before = self.work_done
            self._step = None  # one at a time: its memory is a model's
            self._step = TrainStep(segment.model, segment.recipe, execution)
            self._key = key
        return self._step
