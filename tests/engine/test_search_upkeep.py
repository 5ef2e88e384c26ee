"""What a search's segments take counts towards the budget, and `retain: last` frees their forks."""

import os
import signal
import threading
import time

import pytest

from windtunnel.engine.graph import Status
from windtunnel.engine.sweep import Sweep
from windtunnel.runs.budget.budget import Account
from windtunnel.runs.gc import find_garbage
from windtunnel.runs.measured import gather
from windtunnel.runs.study import open_study

ASHA = (
    "    sampler: random\n"
    "    early_stopping: {rule: asha, rungs: [105 steps, 110 steps], reduction: 2}\n"
)
RETAIN_LAST = ("store: store", "store: store\nretain: last")


@pytest.fixture
def search_file(study_file):
    """A study whose only experiment is a search of two hyperparameters."""

    def write(*, name="small", trials=6, more="", replace=("", "")):
        path = study_file(name=name, sizes="[16x1]", replace=replace)
        text = path.read_text()
        search = (
            "  - kind: search\n    name: tune\n"
            "    space: {recipe.lr: {low: 1e-3, high: 1e-1, log: true},\n"
            "            recipe.scale_emb: {low: 1, high: 12}}\n"
            f"    trials: {trials}\n    batch: 3\n    horizon: 120 steps\n    top: 2\n"
            f"    repeats: 2\n{more}"
        )
        before, rest = text[: text.index("  - kind:")], text[text.index("resources:") :]
        path.write_text(before + search + rest)
        return path

    return write


def sweep(path):
    run = Sweep(open_study(path, prepared=True), engine="local")
    result = run.run()
    assert not result.failed
    return run.study, result


def interrupt_after(segments, run):
    """Send this process a Ctrl-C once so many segments have ended."""

    def watch():
        while run.graph.counts()[Status.FINISHED] < segments:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


def flops(*studies):
    """By segment: what the runs of several sweeps of a study say that it took, at its longest."""
    found = {}
    for study in studies:
        for run in gather(study.store, study.plan):
            found[run.segment] = max(run.flops_spent, found.get(run.segment, 0.0))
    return found


def spent(path):
    return Account(open_study(path)).total().flops


@pytest.mark.medium
def test_what_a_search_spends_is_counted_over_sweeps_and_interruptions(search_file):
    path = search_file(trials=3)
    run = Sweep(open_study(path, prepared=True), engine="local")
    interrupt_after(5, run)
    assert run.run().interrupted
    cut = sum(flops(run.study).values())
    assert 0 < cut <= spent(path)  # what has not ended yet has no row
    first, _ = sweep(path)
    assert spent(path) == sum(flops(first).values())

    path = search_file(trials=9)
    second, _ = sweep(path)
    taken = flops(first, second)
    assert spent(path) == sum(taken.values())
    left = set(first.plan.by_id()) - set(open_study(path).plan.by_id())
    assert left  # a finalist of the first sweep is none any more, and still counts
    assert sum(taken[each] for each in left) > 0


@pytest.mark.medium
def test_what_another_study_has_spent_on_a_search_is_not_charged(search_file):
    first, _ = sweep(search_file())
    path = search_file(name="other")
    sweep(path)
    assert spent(path) == 0
    path = search_file(name="other", trials=9)
    second, _ = sweep(path)
    of_first = flops(first)
    own = {each: took for each, took in flops(second).items() if each not in of_first}
    longer = [
        planned
        for planned in second.plan.trunks
        if planned.id in of_first and planned.end > first.plan.by_id()[planned.id].end
    ]
    own |= {each.id: flops(second)[each.id] - of_first[each.id] for each in longer}
    assert spent(path) == sum(own.values()) > 0


@pytest.mark.parametrize("more", ["", ASHA], ids=["finalists", "rungs"])
@pytest.mark.medium
def test_retain_last_leaves_a_search_no_forks_to_free(search_file, more):
    for trials in (6, 9):
        path = search_file(trials=trials, more=more, replace=RETAIN_LAST)
        study, _ = sweep(path)
        extended = [trunk for trunk in study.plan.trunks if len(trunk.forks) > 1]
        assert extended
        found, _ = find_garbage(open_study(path))
        assert not [each for each in found if each.kind == "forks"]
        for trunk in extended:
            assert study.store.segment(trunk.id).saved_steps() == [trunk.end]
