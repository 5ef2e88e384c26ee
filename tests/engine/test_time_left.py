"""The time left of a sweep on a clock that costs nothing, against the time that it then takes."""

import pytest

from windtunnel.engine import time_left
from windtunnel.engine.time_left import TimeLeft
from windtunnel.runs.budget.cost import RemainingWork
from windtunnel.runs.budget.throughput import Throughput, throughput_of
from windtunnel.runs.study import open_study

SEARCH = """\
  - kind: search
    name: tune
    space: {recipe.lr: {low: 1e-3, high: 1e-1, log: true}}
    trials: 8
    batch: 4
    horizon: 120 steps
    top: 2
    repeats: 2
resources:"""


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Sweep:
    """One slot that trains a plan in its order, slower than predicted; each start costs time."""

    def __init__(self, study, monkeypatch, *, slower, start=0.0):
        self.study, self.slower, self.start = study, slower, start
        self.clock, self.done = Clock(), dict[str, str]()
        self.throughput: Throughput = throughput_of(study)
        monkeypatch.setattr(time_left, "remaining_work", lambda study: self.remaining())
        monkeypatch.setattr(time_left, "replanned", lambda study: study)
        monkeypatch.setattr(time_left, "LEAST_WAIT", 0.0)
        self.estimate = TimeLeft(lambda: study, slots=1, clock=self.clock)
        self.estimate.left({})

    def remaining(self):
        plan = self.study.expected_plan.segments
        updates = {each.id: each.steps for each in plan if each.id not in self.done}
        return RemainingWork(updates=updates, ended=dict(self.done))

    def seconds(self, planned):
        return self.start + self.slower * self.throughput.seconds(planned)

    def run(self):
        """Estimates, and the time that was left, at the middle of every segment."""
        plan = self.study.expected_plan.segments
        left = sum(map(self.seconds, plan))
        for planned in plan:
            took = self.seconds(planned)
            self.clock.now += took / 2
            half = planned.segment.fork_step + planned.steps // 2
            yield self.estimate.left({planned.id: half}), left - took / 2
            self.clock.now += took / 2
            left -= took
            self.done[planned.id] = "finished"


@pytest.fixture
def study(study_file):
    """A law and a search, none of whose trials are suggested."""
    return open_study(
        study_file(
            sizes="[16x1, 32x1, 32x2]",
            horizons="[2000 steps, 3000 steps, 6000 steps]",
            seeds="2",
            replace=("resources:", SEARCH),
        )
    )


@pytest.mark.parametrize(("slower", "start"), [(1.0, 0.0), (40.0, 0.0), (40.0, 0.1), (500.0, 0.5)])
def test_the_estimate_learns_how_much_slower_a_sweep_is(study, monkeypatch, slower, start):
    sweep = Sweep(study, monkeypatch, slower=slower, start=start)
    whole = sum(map(sweep.seconds, study.expected_plan.segments))
    off = [abs(left - true) / whole for left, true in sweep.run()]
    later = off[len(off) // 4 :]
    assert max(later) < 0.15
    assert sum(later[-5:]) / 5 < 0.02


def test_trials_to_come_are_part_of_what_is_left(study, monkeypatch):
    assert len(study.expected_plan.segments) > len(study.plan.segments)
    sweep = Sweep(study, monkeypatch, slower=1.0)
    left, true = next(iter(sweep.run()))
    assert left == pytest.approx(true, rel=0.02)


def test_starting_workers_is_no_work(study, monkeypatch):
    sweep = Sweep(study, monkeypatch, slower=1.0)
    for _ in range(60):
        sweep.clock.now += 1.0
        assert sweep.estimate.left({}) is None
    left, true = next(iter(sweep.run()))
    assert left == pytest.approx(true, rel=0.02)


def test_between_two_simulations_the_clock_counts_down(study, monkeypatch):
    sweep = Sweep(study, monkeypatch, slower=40.0)
    estimates = sweep.run()
    left, _ = next(estimates)
    monkeypatch.setattr(time_left, "remaining_work", None)  # would fail
    sweep.estimate._next = sweep.clock.now + 100
    sweep.clock.now += 2.5
    assert sweep.estimate.left({}) == pytest.approx(left - 2.5)
