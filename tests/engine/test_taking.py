"""Experiments that take values from earlier ones: planned ahead, resolved, exact on a re-run."""

import json
import shutil

import pytest

from windtunnel.engine.sweep import Sweep
from windtunnel.findings.taken import take
from windtunnel.runs.measured import gather
from windtunnel.runs.study import open_study
from windtunnel.runs.taken import read_taken

CHAIN = """\
transfer:
  lr: {length: measured}
  weight_decay: {length: timescale}
experiments:
  - kind: search
    name: tune
    recipe: {weight_decay: 0.2}
    space: {recipe.lr: {low: 1e-2, high: 1e-1, log: true}}
    size: 16x1
    horizon: 110 steps
    trials: 3
    batch: 3
    top: 1
    repeats: 2
  - kind: grid
    name: lengths
    recipe: {from: tune}
    axes: {size: [16x1], recipe.lr: {times: [0.06, 0.25, 1, 4, 16]}}
    horizons: [110 steps, 220 steps]
    seeds: 2
  - kind: forecast
    name: ahead
    recipe: {from: tune}
    sizes: [16x1, 16x2, 32x1]
    horizons: [110 steps, 140 steps, 220 steps]
    seeds: 1
    target: {size: 32x2, horizons: [220 steps, 300 steps]}
  - kind: forecast
    name: unchanged
    transfer: false
    recipe: {from: tune}
    sizes: [16x1, 16x2, 32x1]
    horizons: [110 steps, 140 steps, 220 steps]
    seeds: 1
    target: {size: 32x2, horizons: [300 steps]}
resources:"""


@pytest.fixture
def chain(study_file):
    path = study_file()
    text = path.read_text()
    text = text.replace(text[text.index("experiments:") : text.index("resources:")], "")
    path.write_text(text.replace("resources:", CHAIN))
    return path


def sweep(path, **options):
    run = Sweep(open_study(path, prepared=True), engine="local", take=take, **options)
    return run, run.run()


def test_what_another_study_has_trained_is_taken_in_one_sweep(chain):
    """No run of this sweep ends, since the store has them all; its experiments wait no longer."""
    first, done = sweep(chain)
    other = chain.with_name("other.yaml")
    name = open_study(chain).config.study
    other.write_text(chain.read_text().replace(f"study: {name}", "study: other"))
    second, again = sweep(other)
    assert again.waiting == done.waiting == {}
    assert set(second.graph.planned) == set(first.graph.planned)
    assert again.counts == done.counts


def stop_after(run, count):
    """Stop a sweep after so many segments have ended."""
    ended, grow = [], run.graph._on_ended

    def on_ended(planned, status):
        ended.append(planned.id)
        found = grow(planned, status)
        if len(ended) == count:
            run.graph.stopping = "stopped by the test"
        return found

    run.graph._on_ended = on_ended


def results(path):
    study = open_study(path)
    return {run.segment: (run.lr, run.loss) for run in gather(study.store, study.plan)}


@pytest.mark.slow
def test_a_chain_runs_through_and_is_the_same_wherever_it_was_stopped(chain, tmp_path):
    planned = open_study(chain)
    assert dict(planned.waits_for) == {
        "lengths": ("tune",), "ahead": ("lengths", "tune"), "unchanged": ("tune",),
    }  # fmt: skip
    assert {label.experiment for p in planned.plan.segments for label in p.labels} <= {"tune"}
    expected = {label.experiment for p in planned.expected_plan.segments for label in p.labels}
    assert expected == {"tune", "lengths", "ahead", "unchanged"}

    run, outcome = sweep(chain)
    assert not outcome.failed
    assert outcome.waiting == {}
    assert {each["experiment"] for each in outcome.forecasts} == {"ahead", "unchanged"}
    study, taken = run.study, read_taken(run.study.folder, run.study.written)
    (power,) = taken.powers
    assert (power.setting, power.along, power.source) == ("lr", "length", "lengths")
    assert power.low < power.power < power.high
    rate = taken.winners["ahead"].values["recipe.lr"]

    runs = [each for each in gather(study.store, study.plan) if each.is_of("ahead")]
    shortest = 110 * 128  # the length of the search, of a size that it trained
    for each in runs:
        if each.decayed:
            transferred = rate * (each.tokens / shortest) ** power.power
            assert each.lr == pytest.approx(transferred, rel=1e-9)
    unchanged = [each for each in gather(study.store, study.plan) if each.is_of("unchanged")]
    assert {each.lr for each in unchanged} == {rate}
    decays = {
        (each.segment.recipe.lr, each.segment.recipe.weight_decay)
        for each in study.plan.branches
        if any(label.experiment == "ahead" for label in each.labels)
    }
    for lr, weight_decay in decays:  # timescale: lr x weight_decay x tokens stays
        length = shortest * (lr / rate) ** (1 / power.power)
        assert lr * weight_decay * length == pytest.approx(rate * 0.2 * shortest, rel=1e-6)

    whole = results(chain)
    shutil.move(tmp_path / "store", tmp_path / "whole")
    for count in (2, 7, 20, 40, None):
        again = Sweep(open_study(chain, prepared=True), engine="local", take=take)
        if count is not None:
            stop_after(again, count)
        again.run()
    assert results(chain) == whole
    first = json.loads((tmp_path / "whole/studies/small/recipes.json").read_text())
    second = json.loads((tmp_path / "store/studies/small/recipes.json").read_text())
    for name in first["winners"]:
        assert first["winners"][name]["values"] == second["winners"][name]["values"]
    assert first["powers"][0]["power"] == second["powers"][0]["power"]


@pytest.mark.medium
def test_an_experiment_without_an_answer_leaves_the_others_waiting(chain):
    """Rates far below the best one have no optimum inside: nothing tells how they follow length."""
    chain.write_text(chain.read_text().replace("[0.06, 0.25, 1, 4, 16]", "[0.001, 0.002, 0.003]"))
    _, outcome = sweep(chain)
    assert outcome.failed
    assert set(outcome.waiting) == {"ahead"}
    assert "lengths" in outcome.waiting["ahead"]
    assert {each["experiment"] for each in outcome.forecasts} == {"unchanged"}


@pytest.mark.medium
def test_without_a_reader_of_results_nothing_is_taken(chain):
    run = Sweep(open_study(chain, prepared=True), engine="local")
    outcome = run.run()
    assert set(outcome.waiting) == {"lengths", "ahead", "unchanged"}


def test_plan_and_status_say_what_waits(chain, windtunnel):
    waits = {"lengths": ["tune"], "ahead": ["lengths", "tune"], "unchanged": ["tune"]}
    for command in ("plan", "status"):
        code, out, _ = windtunnel(command, chain, "--json")
        assert code == 0
        assert json.loads(out)["waits_for"] == waits
    _, out, _ = windtunnel("plan", chain)
    assert "waiting      ahead, for lengths and tune" in out


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"recipe.lr": "fast"}, "not-a-number"),
        ({"recipe.lr": -1}, "out-of-range"),
        ({"recipe.lr": None}, "not-a-number"),
        ({"recipe.rate": 1}, "unknown-key"),
        ({"rate": 1}, "unknown-axis"),
        ({"model.qk_norm": True}, "unknown-axis"),
    ],
)
def test_values_that_no_search_has_are_damage(chain, windtunnel, values, code):
    folder = chain.parent / "store" / "studies" / "small"
    folder.mkdir(parents=True)
    winner = {"source": "tune", "trial": 0, "values": values, "loss": 2.0, "taken": 0.0}
    (folder / "recipes.json").write_text(json.dumps({"winners": {"lengths": winner}}))
    status, out, _ = windtunnel("status", chain, "--json")
    assert status == 2
    error = json.loads(out)["error"]
    assert (error["code"], error["values"]["place"]) == (code, "winners.lengths.values")
