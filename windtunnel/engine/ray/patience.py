"""Tune lets a worker that is starting finish its start, and keeps the ones that are idle.

When a trial ends, Tune gives its process to a trial that waits for its own, and kills the one that
is being started. Where segments are shorter than the start of a process (seconds), a new process is
killed time and again, and one worker does the work of all slots: with two slots and segments of
0.1 s, each lost 170 ms of its slot (Ray 2.60, measured). And of several processes that are idle
before the barrier, Tune keeps one. Nothing public turns this off.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from ray.tune import tune as runs
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.utils.object_cache import _ObjectCache


class _KeepsAll(_ObjectCache):
    """Processes of one sweep are all alike, so an idle one takes nothing from a trial to come."""

    def cache_object(self, key: Any, obj: Any) -> bool:
        self._cached_objects[key].append(obj)
        self._num_cached_objects += 1
        return True

    def flush_cached_objects(self, force_all: bool = False) -> Generator[Any, None, None]:
        if force_all:
            yield from super().flush_cached_objects(force_all=True)


class PatientController(TuneController):
    """Keeps a trial with its own process once that has its resources and is being started."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._actor_cache = _KeepsAll()

    def _maybe_reuse_cached_actor(self, trial: Trial) -> bool:
        own = self._trial_to_actor.get(trial)
        if own is not None and self._actor_manager.is_actor_started(own):
            return False
        return bool(super()._maybe_reuse_cached_actor(trial))


@contextmanager
def patient() -> Iterator[None]:
    """Tune runs begun in here have the patient controller."""
    runs.TuneController = PatientController  # type: ignore[attr-defined]
    try:
        yield
    finally:
        runs.TuneController = TuneController  # type: ignore[attr-defined]
