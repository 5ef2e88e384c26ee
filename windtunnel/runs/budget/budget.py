"""A study's budget: its limits, what it has used, and whether more segments may start.

Usage covers every segment that the study has ever planned, also those no longer planned, such as a
search's earlier finalists. What a segment had used before this study planned it belongs to another
study and is subtracted. Work lost in a crash and replays are not counted.
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
"""Largest share of the time spent on measuring disk usage."""


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
    """Usage of a segment over its life, from its record and its curve."""
    folder = store.segment(segment.id)
    record = folder.record or {}
    last = (known_tail(folder.curve, most=1) or [{}])[-1]
    start = segment.fork_step
    reached = max(start, record.get("reached", 0), last.get("step", 0))
    training = max(record.get("seconds", 0.0), last.get("seconds", 0.0))
    beside = record.get("evaluation_seconds", 0.0) + record.get("checkpoint_seconds", 0.0)
    return Spent(flops=(reached - start) * flops_per_update(segment), seconds=training + beside)


class Account:
    """Usage of a study so far; only segments that may have changed are read again."""

    def __init__(self, study: Study) -> None:
        self._study = study
        # Needed only with a budget; without this file a study could exceed it.
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
        """Add segments; what one used before this study first planned it is not counted."""
        new = {each.id: each.segment for each in segments if each.id not in self._now}
        if new:
            self._take_in(new, self._study.store.begun())

    def _take_in(self, segments: Mapping[str, Segment], begun: Collection[str]) -> None:
        for each, segment in segments.items():
            now = spent_on(self._study.store, segment) if each in begun else Spent()
            self._first[each] = self._now[each] = now
            self._total += now - self._before.setdefault(each, now)

    def look(self, planned: PlannedSegment) -> None:
        """Read a segment's present usage from the store."""
        now = spent_on(self._study.store, planned.segment)
        self._total += now - self._now[planned.id]
        self._now[planned.id] = now

    def seconds_since(self, planned: PlannedSegment) -> float:
        """Seconds that a segment has used since it was added."""
        return self._now[planned.id].seconds - self._first[planned.id].seconds

    def total(self) -> Spent:
        """Usage of the study."""
        return self._total

    def save(self) -> None:
        """Store the usage that belongs to other studies."""
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
    """Usage and limit, for each limit of the study."""
    budget = study.config.budget
    usage = {}
    if budget.flops is not None:
        usage["flops"] = spent.flops, budget.flops
    if budget.device_hours is not None:
        hours = spent.seconds * _devices(study.config.resources) / 3600
        usage["device_hours"] = hours, budget.device_hours
    if budget.disk is not None:
        used = disk_use(study) if disk is None else disk
        usage["disk"] = float(used), float(budget.disk.bytes)
    return usage


def over_budget(
    study: Study, remaining: RemainingWork, throughput: Throughput, disk_peak: int
) -> list[str]:
    """One sentence for each limit that a sweep would exceed; empty if it may begin."""
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
    """Decides before each segment whether it may start; running segments are never stopped."""

    def __init__(self, study: Study, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.study, self._clock = study, clock
        self.account = Account(study)
        self._planned = {planned.id for planned in study.plan.segments}
        self._running: dict[str, PlannedSegment] = {}
        self._disk, self._look_after = 0, -1.0

    def add(self, segments: Collection[PlannedSegment]) -> None:
        """Add new segments of a search before they start.

        Raises:
            StoreError: The store cannot be written.
        """
        self.account.add(segments)
        self.account.save()
        self._planned.update(planned.id for planned in segments)

    def why_not(self, planned: PlannedSegment) -> str | None:
        """The reason why a segment may not start; None if it may, and then it counts as running."""
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
        """Count a segment as ended."""
        self._running.pop(planned.id, None)
        self.account.look(planned)

    def took(self, planned: PlannedSegment) -> float:
        """Seconds that a segment has used since this watch began."""
        self.account.look(planned)
        return self.account.seconds_since(planned)

    def _disk_use(self) -> int:
        """Bytes of the study's segments, measured as often as that is cheap."""
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
