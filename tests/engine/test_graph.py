"""The graph alone, over a store in memory: what is ready when, and what each report changes."""

import pytest

from windtunnel.config import Branch, DenseSpec, Recipe, ScheduleChange, Trunk
from windtunnel.engine.graph import BUSY_SECONDS, MOST_FALSE_STARTS, Graph, Status
from windtunnel.runs.plan import Label, PlannedSegment


class MemoryView:
    """A store in memory."""

    def __init__(self):
        self.finished, self.forks, self.given_up = set(), set(), {}
        self.attempts = 0

    def ended(self, planned):
        return Status.FINISHED if (planned.id, planned.end) in self.finished else None

    def fork_is_saved(self, branch):
        return (branch.segment.parent.id, branch.segment.fork_step) in self.forks

    def begun(self, planned):
        return self.attempts

    def give_up(self, planned, problem):
        self.given_up[planned.id] = problem or "died"
        return self.given_up[planned.id]


def trunk(*, seed=0, width=32, forks=(100, 200), held_out=False):
    model = DenseSpec(
        width=width, depth=2, head_dim=16, kv_heads=width // 16, vocab_size=256, context=64
    )
    recipe = Recipe(lr=1e-2, base_width=32, batch_tokens=64, warmup_steps=10)
    segment = Trunk(model=model, recipe=recipe, stream="s", init_seed=seed, data_seed=seed)
    return PlannedSegment(
        segment=segment, end=max(forks), forks=forks, labels=(label(seed, held_out),)
    )


def label(seed, held_out=False):
    return Label(experiment="scaling", horizon="10N", seed=seed, held_out=held_out)


def branch(parent, fork, *, steps=20, held_out=False):
    segment = Branch(
        parent=parent.segment, fork_step=fork, steps=steps, changes=(ScheduleChange(),)
    )
    return PlannedSegment(segment=segment, end=segment.end, labels=(label(0, held_out),))


def fork(graph, store, parent, step):
    store.forks.add((parent.id, step))
    graph.forked(parent.id, step)


def finish(graph, store, planned):
    store.finished.add((planned.id, planned.end))
    graph.report(planned.id, "finished")


def test_a_branch_is_ready_at_its_fork_and_not_before():
    store, stem = MemoryView(), trunk()
    first, second = branch(stem, 100), branch(stem, 200)
    graph = Graph([stem, first, second], store)
    assert graph.next_ready() == stem
    assert graph.next_ready() is None
    fork(graph, store, stem, 100)
    assert graph.next_ready() == first
    assert graph.next_ready() is None
    fork(graph, store, stem, 200)
    assert graph.next_ready() == second
    assert not graph.idle
    for planned in (stem, first, second):
        finish(graph, store, planned)
    assert graph.done
    assert graph.idle


def test_the_longest_path_goes_first():
    """A short trunk with a long branch comes before a longer trunk with a short one."""
    short, long = trunk(seed=1, forks=(100,)), trunk(seed=2, forks=(150,))
    graph = Graph(
        [long, short, branch(long, 150, steps=20), branch(short, 100, steps=90)], MemoryView()
    )
    assert graph.next_ready() == short
    assert graph.next_ready() == long


def test_the_barrier_lets_the_held_out_through_when_all_others_have_ended():
    store, passed = MemoryView(), []
    small, large = trunk(), trunk(width=64, held_out=True)
    graph = Graph([large, small], store, at_barrier=lambda: passed.append(True))
    assert graph.next_ready() == small
    assert graph.next_ready() is None
    assert not passed
    graph.give_up(small.id)
    assert graph.next_ready() == large
    assert passed == [True]


def test_branches_of_a_failed_trunk_are_blocked_but_for_the_forks_it_saved():
    store, stem = MemoryView(), trunk()
    first, second = branch(stem, 100), branch(stem, 200)
    graph = Graph([stem, first, second], store)
    graph.next_ready()
    fork(graph, store, stem, 100)
    graph.give_up(stem.id, "RuntimeError: no memory")
    assert store.given_up == {stem.id: "RuntimeError: no memory"}
    assert graph.errors[stem.id] == "RuntimeError: no memory"
    assert graph.status[second.id] is Status.BLOCKED
    assert graph.next_ready() == first
    finish(graph, store, first)
    assert graph.done


def test_a_segment_in_other_hands_is_looked_at_again_later():
    store, stem, now = MemoryView(), trunk(), [0.0]
    first = branch(stem, 100)
    graph = Graph([stem, first], store, clock=lambda: now[0])
    graph.next_ready()
    graph.report(stem.id, "busy", "in use by process 7 on host")
    assert graph.next_ready() is None
    assert not graph.idle
    now[0] += BUSY_SECONDS
    store.forks.add((stem.id, 100))  # the other process has come so far
    assert {graph.next_ready().id, graph.next_ready().id} == {stem.id, first.id}
    graph.report(stem.id, "busy", "in use by process 7 on host")
    finish(graph, store, first)
    store.finished.add((stem.id, stem.end))
    now[0] += BUSY_SECONDS
    assert graph.next_ready() is None
    assert graph.done
    assert not graph.errors


@pytest.mark.parametrize("trunk_runs", [True, False])
def test_a_lost_fork_sends_the_trunk_back(trunk_runs):
    store, stem = MemoryView(), trunk()
    first, second = branch(stem, 100), branch(stem, 200)
    graph = Graph([stem, first, second], store)
    graph.next_ready()
    fork(graph, store, stem, 100)
    assert graph.next_ready() == first
    if not trunk_runs:
        fork(graph, store, stem, 200)
        assert graph.next_ready() == second
        finish(graph, store, stem)
        finish(graph, store, second)
    store.forks.discard((stem.id, 100))
    store.finished.discard((stem.id, stem.end))  # a stop without its checkpoint is not complete
    graph.report(first.id, "lost_fork", "damaged")
    if trunk_runs:
        assert graph.next_ready() is None
        graph.report(stem.id, "finished")  # of what it was handed out for
    assert graph.next_ready() == stem
    fork(graph, store, stem, 100)
    assert graph.next_ready() == first
    finish(graph, store, first)
    assert first.id not in graph.errors


def test_a_fork_that_is_lost_again_and_again_fails_its_branch():
    store, stem = MemoryView(), trunk(forks=(100,))
    first = branch(stem, 100)
    graph = Graph([stem, first], store)
    graph.next_ready()
    for _ in range(20):
        fork(graph, store, stem, 100)
        graph.report(stem.id, "finished")
        assert graph.next_ready() == first
        store.forks.clear()
        graph.report(first.id, "lost_fork", "damaged")
        if graph.done:
            break
        assert graph.next_ready() == stem
    assert graph.status[first.id] is Status.FAILED
    assert graph.errors[first.id] == "damaged"


def test_a_plan_may_grow_and_a_running_trunk_may_be_asked_for_more():
    store, stem = MemoryView(), trunk(forks=(100,))
    first = branch(stem, 100)
    longer = trunk(forks=(100, 300))
    later = branch(longer, 300)
    grown = []

    def on_ended(planned, status):
        if planned.id == first.id:
            grown.append(status)
            return [longer, later]
        return []

    graph = Graph([stem, first], store, on_ended=on_ended)
    graph.next_ready()
    fork(graph, store, stem, 100)
    graph.next_ready()
    finish(graph, store, first)
    assert grown == [Status.FINISHED]
    assert graph.next_ready() is None  # the trunk still runs, as it was handed out
    finish(graph, store, stem)
    again = graph.next_ready()
    assert (again.id, again.end, again.forks) == (stem.id, 300, (100, 300))
    fork(graph, store, stem, 300)
    assert graph.next_ready().id == later.id


def test_nothing_starts_once_something_says_so():
    stem, other = trunk(), trunk(seed=1)
    graph = Graph([stem], MemoryView(), why_not=lambda planned: "budget.flops is spent")
    assert graph.next_ready() is None
    assert graph.stopping == "budget.flops is spent"
    assert graph.idle
    graph = Graph([stem, other], MemoryView())
    running = graph.next_ready()
    graph.report(running.id, "failed", "No space left", halt="no space is left in the store")
    assert graph.next_ready() is None
    assert graph.idle
    assert not graph.done


def test_trunk_tokens_count_everything_planned_on_a_trunk():
    stem = trunk(forks=(100, 200))
    graph = Graph([stem, branch(stem, 100), branch(stem, 200, steps=30)], MemoryView())
    assert graph.trunk_tokens(stem) == (200 + 20 + 30) * 64
    assert graph.trunk_tokens(graph.planned[branch(stem, 100).id]) == (200 + 20 + 30) * 64


def test_one_call_may_bring_a_trunk_twice():
    """Two searches that begin with the same suggestion share its trunk."""
    store, near, far = MemoryView(), trunk(forks=(100,)), trunk(forks=(200,))
    graph = Graph([], store)
    graph.add([near, branch(near, 100), far, branch(far, 200)])
    taken = graph.next_ready()
    assert (taken.id, taken.end, taken.forks) == (near.id, 200, (100, 200))
    assert graph.next_ready() is None


def test_a_segment_is_tried_again_until_its_attempts_are_used_up():
    store, stem = MemoryView(), trunk()
    graph = Graph([stem], store, retries=2)
    for _ in range(2):
        assert graph.next_ready() == stem
        store.attempts += 1  # killed in the middle of it
        graph.attempt_failed(stem.id)
        assert graph.status[stem.id] is Status.WAITING
    assert graph.next_ready() == stem
    graph.attempt_failed(stem.id, "RuntimeError: no memory")
    assert graph.status[stem.id] is Status.FAILED
    assert store.given_up == {stem.id: "RuntimeError: no memory"}
    assert graph.idle


def test_a_process_that_died_before_it_began_used_up_no_attempt():
    store, stem = MemoryView(), trunk()
    graph = Graph([stem], store, retries=0)
    for _ in range(MOST_FALSE_STARTS):
        assert graph.next_ready() == stem
        graph.attempt_failed(stem.id)
    assert graph.next_ready() == stem
    assert store.given_up == {}
    store.attempts += 1
    graph.attempt_failed(stem.id)
    assert graph.status[stem.id] is Status.FAILED


def test_where_no_process_begins_the_sweep_stops_and_nothing_has_failed():
    store, stem = MemoryView(), trunk()
    graph = Graph([stem], store, retries=9)
    tries = 0
    while graph.next_ready() is not None:
        tries += 1
        graph.attempt_failed(stem.id)
    assert tries == MOST_FALSE_STARTS + graph.slots + 1
    assert graph.stopping is not None
    assert graph.status[stem.id] is Status.WAITING
    assert graph.idle


def test_a_segment_that_alone_is_never_begun_fails_in_the_end():
    store, stem = MemoryView(), trunk()
    graph = Graph([stem], store, retries=0)
    while graph.next_ready() is not None:
        graph.attempt_failed(stem.id)
        graph.forked(stem.id, 0)  # others get on
    assert graph.status[stem.id] is Status.FAILED
