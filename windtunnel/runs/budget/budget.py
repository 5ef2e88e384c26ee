"""A study's budget: what it may take in all, what it has taken, and whether more may start.

Counted is what the store says of every segment that the study has ever planned, also of what has
left its plan since, as a search's earlier finalists; less what it said when the study took the
segment in, for that is another study's. What a crash has lost and what is replayed are not in it.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from windtunnel.config import Segment
from windtunnel.config.segment import flops_per_update
from windtunnel.config.study import BudgetConfig, Resources
from windtunnel.runs.budget.cost import RemainingWork
from windtunnel.runs.budget.throughput import Throughput
from windtunnel.runs.files import read_derived, read_json, write_json
from windtunnel.runs.gc import bytes_in
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.progress import known_tail
from windtunnel.runs.schemas import SPENT
from windtunnel.runs.store import Store
from windtunnel.runs.study import Study

FILE = "spent_before.json"

DISK_SHARE = 0.05
"""Of the time, at most, that looking at the disk may take."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Training FLOPs and seconds of slots, evaluations and checkpoints included."""

    flops: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(flops=self.flops + other.flops, seconds=self.seconds + other.seconds)

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(flops=self.flops - other.flops, seconds=self.seconds - other.seconds)


def spent_on(store: Store, segment: Segment) -> Spent:
    """What a segment has taken over its life, by its record and its curve."""
    folder = store.segment(segment.id)
    record = folder.record or {}
    last = (known_tail(folder.curve, most=1) or [{}])[-1]
    start = segment.fork_step
    reached = max(start, record.get("reached", 0), last.get("step", 0))
    training = max(record.get("seconds", 0.0), last.get("seconds", 0.0))
    beside = record.get("evaluation_seconds", 0.0) + record.get("checkpoint_seconds", 0.0)
    return Spent(flops=(reached - start) * flops_per_update(segment), seconds=training + beside)


class Account:
    """What a study has taken so far; only what may have changed is looked at again."""

    def __init__(self, study: Study) -> None:
        self._study = study
        # Without a budget nothing rests on it; with one, its loss would let a study take more.
        read = read_derived if study.config.budget == BudgetConfig() else read_json
        written = read(study.folder / FILE, SPENT) or {}
        self._before = {each: Spent(flops=f, seconds=s) for each, (f, s) in written.items()}
        self._first: dict[str, Spent] = {}
        self._now: dict[str, Spent] = {}
        self._total = Spent()
        begun = study.store.begun()
        segments = {planned.id: planned.segment for planned in study.plan.segments}
        for each in sorted(begun.intersection(self._before).difference(segments)):
            segment = study.store.segment(each).spec
            if segment is not None:
                segments[each] = segment
        self._take_in(segments, begun)

    def add(self, segments: Iterable[PlannedSegment]) -> None:
        """Take in segments; what one has taken before this study first planned it is not ours."""
        new = {each.id: each.segment for each in segments if each.id not in self._now}
        if new:
            self._take_in(new, self._study.store.begun())

    def _take_in(self, segments: Mapping[str, Segment], begun: Collection[str]) -> None:
        for each, segment in segments.items():
            now = spent_on(self._study.store, segment) if each in begun else Spent()
            self._first[each] = self._now[each] = now
            self._total += now - self._before.setdefault(each, now)

    def look(self, planned: PlannedSegment) -> None:
        """Ask the store what a segment that was taken in has taken by now."""
        now = spent_on(self._study.store, planned.segment)
        self._total += now - self._now[planned.id]
        self._now[planned.id] = now

    def seconds_since(self, planned: PlannedSegment) -> float:
        """Seconds that a segment has taken since it was taken in."""
        return self._now[planned.id].seconds - self._first[planned.id].seconds

    def total(self) -> Spent:
        """What the study has taken."""
        return self._total

    def save(self) -> None:
        """Write down what is not this study's."""
        values = {each: [spent.flops, spent.seconds] for each, spent in self._before.items()}
        write_json(self._study.folder / FILE, values)


def disk_use(study: Study) -> int:
    """Bytes of the study's segments in the store."""
    return _bytes_of(study.store, (planned.id for planned in study.plan.segments))


def _bytes_of(store: Store, ids: Iterable[str]) -> int:
    return sum(bytes_in(store.segment(each).root) for each in store.begun().intersection(ids))


def spent_of_budget(
    study: Study, spent: Spent, *, disk: int | None = None
) -> dict[str, tuple[float, float]]:
    """For each limit that the study has: what is spent of it, and the limit."""
    budget = study.config.budget
    found = {}
    if budget.flops is not None:
        found["flops"] = spent.flops, budget.flops
    if budget.device_hours is not None:
        hours = spent.seconds * _devices(study.config.resources) / 3600
        found["device_hours"] = hours, budget.device_hours
    if budget.disk is not None:
        used = disk_use(study) if disk is None else disk
        found["disk"] = float(used), float(budget.disk.bytes)
    return found


def over_budget(
    study: Study, remaining: RemainingWork, throughput: Throughput, disk_peak: int
) -> list[str]:
    """Why a sweep may not begin: a sentence for each limit that it would pass."""
    if study.config.budget == BudgetConfig():
        return []
    seconds = sum(
        throughput.seconds(planned, remaining.updates[planned.id])
        for planned in study.plan.segments
        if planned.id in remaining.updates
    )
    needs = {
        "flops": (remaining.flops(study), "FLOPs"),
        "device_hours": (
            seconds * _devices(study.config.resources) / 3600,
            f"device-hours at {throughput.flops_per_second:.1e} FLOP/s ({throughput.source})",
        ),
        "disk": (disk_peak, "bytes at the peak"),
    }
    spent = spent_of_budget(study, Account(study).total(), disk=0)
    return [
        f"budget.{name} is {limit:.4g}, and {used + needs[name][0]:.4g} {needs[name][1]} are needed"
        + (f" ({used:.3g} spent, {needs[name][0]:.3g} left)" if used else "")
        + f"; {_lever(name, study)}, or raise budget.{name}"
        for name, (used, limit) in spent.items()
        if used + needs[name][0] > limit
    ]


class BudgetWatch:
    """Asked before each segment starts; what runs already is never stopped."""

    def __init__(self, study: Study, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.study, self._clock = study, clock
        self.account = Account(study)
        self._planned = {planned.id for planned in study.plan.segments}
        self._running: dict[str, PlannedSegment] = {}
        self._disk, self._look_after = 0, -1.0

    def add(self, segments: Collection[PlannedSegment]) -> None:
        """Take in what a search has added to the plan, before it is begun.

        Raises:
            StoreError: The store cannot be written.
        """
        self.account.add(segments)
        self.account.save()
        self._planned.update(planned.id for planned in segments)

    def why_not(self, planned: PlannedSegment) -> str | None:
        """Why a segment may not start; None, and it counts as running, if it may."""
        if self.study.config.budget != BudgetConfig():
            for each in self._running.values():
                self.account.look(each)
        disk = self._disk_use() if self.study.config.budget.disk else 0
        spent = spent_of_budget(self.study, self.account.total(), disk=disk)
        for name, (used, limit) in spent.items():
            if used >= limit:
                return f"budget.{name} is spent: {used:.4g} of {limit:.4g}"
        self._running[planned.id] = planned
        return None

    def ended(self, planned: PlannedSegment) -> None:
        """A segment has ended."""
        self._running.pop(planned.id, None)
        self.account.look(planned)

    def took(self, planned: PlannedSegment) -> float:
        """Seconds that a segment has taken since this watch began."""
        self.account.look(planned)
        return self.account.seconds_since(planned)

    def _disk_use(self) -> int:
        """Bytes of the study's segments, looked at as often as that costs little."""
        now = self._clock()
        if now >= self._look_after:
            self._disk = _bytes_of(self.study.store, self._planned)
            after = self._clock()
            self._look_after = after + (after - now) / DISK_SHARE
        return self._disk


def _lever(name: str, study: Study) -> str:
    if name == "disk" and study.config.retain == "all":
        return "set `retain: last`, plan fewer sizes, horizons or seeds"
    return "plan fewer sizes, horizons or seeds"


def _devices(resources: Resources) -> float:
    return resources.gpus_per_trial or float(resources.cpus_per_trial)
