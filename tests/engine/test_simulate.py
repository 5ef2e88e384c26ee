"""The policy on a clock that costs nothing: what must hold for any plan, and how good it is."""

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windtunnel.config import Branch, DenseSpec, Recipe, ScheduleChange, Trunk
from windtunnel.engine.graph import Status
from windtunnel.engine.simulate import simulate
from windtunnel.runs.plan import Label, PlannedSegment

BENCHMARKS = Path(__file__).resolve().parents[2] / "experiments" / "benchmarks"


def planned(segment, end, *, forks=(), held_out=False):
    label = Label(experiment="scaling", horizon="10N", seed=0, held_out=held_out)
    return PlannedSegment(segment=segment, end=end, forks=forks, labels=(label,))


def family(seed, forks, decay, *, held_out=False):
    """A trunk and one branch a fork."""
    model = DenseSpec(width=32, depth=2, head_dim=16, kv_heads=2, vocab_size=256, context=64)
    recipe = Recipe(lr=1e-2, base_width=32, batch_tokens=64, warmup_steps=10)
    trunk = Trunk(model=model, recipe=recipe, stream="s", init_seed=seed, data_seed=seed)
    branches = [
        Branch(parent=trunk, fork_step=fork, steps=decay, changes=(ScheduleChange(),))
        for fork in forks
    ]
    return [
        planned(trunk, max(forks), forks=tuple(sorted(forks)), held_out=held_out),
        *(planned(branch, branch.end, held_out=held_out) for branch in branches),
    ]


def by_steps(segment):
    """A second an update."""
    return float(segment.steps)


class Witness:
    """Stands between engine and graph, and minds what is allowed."""

    def __init__(self, graph, slots, log):
        self.graph, self.slots, self.log = graph, slots, log
        self.running, self.saved = set(), set()

    def next_ready(self):
        chosen = self.graph.next_ready()
        if chosen is None:
            return None
        segment = chosen.segment
        if isinstance(segment, Branch):
            assert (segment.parent.id, segment.fork_step) in self.saved
        if chosen.held_out:
            others = [i for i, p in self.graph.planned.items() if not p.held_out]
            assert all(self.graph.status[i] is not Status.RUNNING for i in others)
            assert all(self.graph.status[i] is not Status.WAITING for i in others)
        assert chosen.id not in self.log
        self.running.add(chosen.id)
        self.log.append(chosen.id)
        assert len(self.running) <= self.slots
        return chosen

    def forked(self, segment_id, step):
        self.saved.add((segment_id, step))
        self.graph.forked(segment_id, step)

    def report(self, segment_id, outcome):
        self.running.remove(segment_id)
        self.saved.add((segment_id, self.graph.planned[segment_id].end))
        self.graph.report(segment_id, outcome)

    def give_up(self, segment_id):
        self.running.remove(segment_id)
        self.graph.give_up(segment_id)


families = st.tuples(
    st.lists(st.integers(1, 50), min_size=1, max_size=5, unique=True),
    st.integers(1, 30),
    st.booleans(),
)


@settings(max_examples=200, deadline=None)
@given(
    shapes=st.lists(families, min_size=1, max_size=6),
    slots=st.integers(1, 6),
    fault_rate=st.sampled_from([0.0, 0.2, 0.7]),
    seed=st.integers(0, 99),
)
@pytest.mark.medium
def test_what_holds_for_every_plan(shapes, slots, fault_rate, seed):
    plan = [
        each
        for number, (forks, decay, held_out) in enumerate(shapes)
        for each in family(number, forks, decay, held_out=held_out)
    ]
    log = []
    found = simulate(
        plan,
        by_steps,
        slots=slots,
        fault_rate=fault_rate,
        seed=seed,
        through=lambda graph: Witness(graph, slots, log),
    )
    ended = {Status.FINISHED, Status.FAILED, Status.BLOCKED}
    assert sum(found.counts[status] for status in ended) == len(plan)
    assert found.counts[Status.BLOCKED] == len(plan) - len(log)
    assert found.makespan >= found.bound - 1e-9
    assert found.busy <= found.makespan * slots + 1e-9
    if not fault_rate:
        assert found.counts[Status.FINISHED] == len(plan)
        assert found.busy == pytest.approx(sum(map(by_steps, plan)))
        # Never idle while something is ready: at most twice the bound (Graham 1966).
        assert found.makespan <= 2 * found.bound + 1e-9


def test_one_slot_takes_the_work_and_many_the_longest_path():
    plan = family(0, (100, 300), 50)
    alone = simulate(plan, by_steps, slots=1)
    assert alone.makespan == alone.bound == 300 + 50 + 50
    assert alone.utilisation == 1.0
    many = simulate(plan, by_steps, slots=9)
    assert many.makespan == many.bound == 350


def test_the_barrier_is_part_of_the_bound():
    plan = family(0, (100,), 20) + family(1, (200,), 40, held_out=True)
    found = simulate(plan, by_steps, slots=9)
    assert found.makespan == found.bound == 120 + 240


def test_a_failed_attempt_goes_on_from_the_last_fork():
    """Faults on every attempt: whatever is left after the last fork is lost each time."""
    found = simulate(family(0, (100,), 20), by_steps, slots=1, fault_rate=1.0, retries=2)
    assert found.faults == 3
    assert found.counts[Status.FAILED] == found.counts[Status.BLOCKED] == 1
    assert found.makespan == found.busy < 300
    assert found.bound == 0.0


def test_what_has_ended_before_is_not_run():
    plan = family(0, (100, 300), 50)
    found = simulate(
        plan,
        by_steps,
        slots=1,
        ended=lambda each: None if isinstance(each.segment, Branch) else Status.FINISHED,
    )
    assert found.makespan == found.bound == 100


@pytest.fixture
def through_searcher(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from scale import ThroughSearcher

    return ThroughSearcher


@pytest.mark.medium
def test_ten_thousand_segments_on_a_hundred_workers_come_within_5_percent(through_searcher):
    """With 1% of attempts failing; and the Ray engine's Searcher changes nothing."""
    forks = [round(200 * 16 ** (place / 23)) for place in range(24)]
    plan = [
        each
        for seed in range(400)
        for each in family(seed, forks, 20 + seed % 200, held_out=seed % 50 == 0)
    ]
    assert len(plan) == 10_000
    found = simulate(plan, by_steps, slots=100, fault_rate=0.01)
    assert found.faults > 50
    assert found.counts[Status.FINISHED] == len(plan)
    assert found.makespan < 1.05 * found.bound
    assert simulate(plan, by_steps, slots=100, fault_rate=0.01, through=through_searcher) == found


def test_it_loads_neither_ray_nor_torch():
    import subprocess

    code = "import sys, windtunnel.engine.simulate; print({'ray', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
