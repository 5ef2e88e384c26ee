"""Which forks nobody needs any more, and freeing them. No result is ever lost with one.

A fork serves the branches planned from it, by every study of the store. Once all of them have ended
it only saves time: a branch that is added later makes its trunk replay up to there, to the same
bits. A trunk's last fork stays, for a longer horizon goes on from it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from pydantic import TypeAdapter

from windtunnel.errors import StoreError
from windtunnel.spec import Branch
from windtunnel.trials.completion import WantedSet, missing_stops, outcome_of
from windtunnel.trials.curve_damage import reaches
from windtunnel.trials.json_file import read_json
from windtunnel.trials.json_schema import Schema
from windtunnel.trials.plan import Plan, PlannedSegment
from windtunnel.trials.store import SegmentFolder, Store

PLAN_FILE = "plan.json"
PLAN: Schema[Plan] = Schema(
    TypeAdapter(Plan), "run `windtunnel sweep` on that study's file once, which writes it again"
)


class Needs:
    """The branches planned from every fork, and the update at which each segment is to end."""

    def __init__(self, segments: Iterable[PlannedSegment] = ()) -> None:
        self.ends: dict[str, int] = {}
        self._branches: dict[tuple[str, int], list[PlannedSegment]] = defaultdict(list)
        self.add(segments)

    def add(self, segments: Iterable[PlannedSegment]) -> None:
        """Take in what else is planned, or planned for longer."""
        for planned in segments:
            self.ends[planned.id] = max(planned.end, self.ends.get(planned.id, 0))
            if isinstance(planned.segment, Branch):
                start = planned.segment.parent.id, planned.segment.fork_step
                self._branches[start].append(planned)

    def some_wait(self, store: Store, parent: str, fork: int) -> bool:
        """Whether a branch that has not ended yet starts from a fork."""
        return any(not has_ended(store, each) for each in self._branches.get((parent, fork), ()))


def needs_of_others(store: Store, study: str) -> Needs:
    """The needs of every study but one, by the plans that their last sweeps have left.

    Raises:
        StoreError: A study has been swept and left no plan, or a damaged one, so what it needs is
            unknown.
    """
    needs = Needs()
    for orders in sorted((store.root / "studies").glob("*/orders.json")):
        if orders.parent.name == study:
            continue
        written = read_json(orders.parent / PLAN_FILE, PLAN)
        if written is None:
            raise StoreError(
                f"{orders.parent}: what this study still needs is unknown, for it has no "
                f"{PLAN_FILE}; run `windtunnel sweep` on its file once, or remove the folder"
            )
        needs.add(written.segments)
    return needs


def has_ended(
    store: Store, planned: PlannedSegment, wanted: dict[str, WantedSet] | None = None
) -> bool:
    """Whether nothing has to be trained for a segment any more."""
    folder = store.segment(planned.id)
    outcome = outcome_of(folder.record, planned)
    if outcome == "finished":
        whole = reaches(folder.curve, planned.end)
        return whole and not missing_stops(folder, planned, wanted or {})
    return outcome == "diverged"


def done_forks(store: Store, folder: SegmentFolder, *needs: Needs) -> list[int]:
    """Forks that are measured and whose branches have all ended, but not a trunk's last."""
    trunk, saved = folder.root.name, folder.saved_steps()
    last = {*saved[-1:], *(each.ends.get(trunk) for each in needs)}
    measured = folder.measurements
    return [
        step
        for step in saved
        if step not in last
        and measured.get(step)
        and not any(each.some_wait(store, trunk, step) for each in needs)
    ]


class RetainLast:
    """`retain: last`: forks go as soon as the last branch planned from them has ended."""

    def __init__(self, store: Store, study: str, segments: Iterable[PlannedSegment]) -> None:
        self.store, self.study = store, study
        self.needs = Needs(segments)
        self._others = Needs()
        self._others_written: dict[str, int] | None = None

    def ended(self, planned: PlannedSegment) -> None:
        """Free what a segment was the last to need."""
        segment = planned.segment
        trunk = segment.parent.id if isinstance(segment, Branch) else planned.id
        folder = self.store.segment(trunk)
        if not done_forks(self.store, folder, self.needs):
            return
        try:
            self._ask_others()
        except StoreError:  # what is not known to be free stays; `gc` says why
            return
        for step in done_forks(self.store, folder, self.needs, self._others):
            folder.release(step, why="retain: last")

    def _ask_others(self) -> None:
        """Read the plans of the other studies, if one has been written since."""
        plans = (self.store.root / "studies").glob(f"*/{PLAN_FILE}")
        written = {str(path): path.stat().st_mtime_ns for path in plans}
        if written != self._others_written:
            self._others = needs_of_others(self.store, self.study)
            self._others_written = written


def wanted_back(
    store: Store, segments: Iterable[PlannedSegment], wanted: dict[str, WantedSet]
) -> Iterator[tuple[SegmentFolder, int]]:
    """Forks that were freed and that a planned branch has still to start from, up its path."""
    has_released: dict[str, bool] = {}
    again: set[str] = set()
    for planned in reversed(list(segments)):  # children first, for they may want a parent again
        if not isinstance(planned.segment, Branch):
            continue
        parent, fork = planned.segment.parent.id, planned.segment.fork_step
        folder = store.segment(parent)
        if parent not in has_released:
            has_released[parent] = folder.has_released
        if (
            has_released[parent]
            and folder.is_released(fork)
            and (planned.id in again or not has_ended(store, planned, wanted))
        ):
            again.add(parent)
            yield folder, fork
