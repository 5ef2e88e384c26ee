"""The phase of each experiment, from what has ended."""

import json

import pytest

from windtunnel.runs import phases as module
from windtunnel.runs.phases import current, phases
from windtunnel.runs.study import open_study

SEARCH = """\
  - kind: search
    name: tune
    space: {recipe.lr: {low: 1e-3, high: 1e-1, log: true}}
    trials: 4
    horizon: 120 steps
    top: 2
    repeats: 2
  - kind: grid
    name: rates
    recipe: {from: tune}
    axes: {size: [16x1, 32x1], recipe.lr: {times: [1, 2]}}
    horizons: [110 steps]
    seeds: 2
resources:"""


@pytest.fixture
def file(study_file):
    return study_file(
        sizes="[16x1, 16x2, 32x1, 32x2]",
        horizons="[110 steps, 140 steps, 180 steps]",
        hold_out="largest",
        replace=("resources:", SEARCH),
    )


def branches(study, name, *, held_out=False):
    return {
        each.id
        for each in study.expected_plan.branches
        if each.held_out is held_out and any(label.experiment == name for label in each.labels)
    }


def states(study, ended):
    return {each.experiment: each.state for each in phases(study, ended)}


def test_every_experiment_counts_what_it_is_yet_to_run(file):
    law, tune, rates = phases(open_study(file), ())
    assert (law.planned, law.held_out, law.ended, law.forecast) == (9, 3, 0, None)
    assert (tune.planned, tune.held_out) == (
        4 + 2 * (2 * 2 + 1),
        0,
    )  # finalists go on to twice the length
    assert (rates.planned, rates.state) == (8, "waits")


def test_a_law_is_trained_then_forecast_then_checked(file, monkeypatch):
    study = open_study(file)
    ladder, held = branches(study, "law"), branches(study, "law", held_out=True)
    search = branches(study, "tune")
    assert states(study, ()) == {"law": "runs", "tune": "runs", "rates": "waits"}
    assert states(study, ladder)["law"] == "held-out runs"
    assert states(study, ladder | held | search) == {
        "law": "done",
        "tune": "done",
        "rates": "waits",
    }
    assert [each.experiment for each in current(phases(study, ladder | search))] == ["law"]
    points = [{"segment": segment} for segment in held]
    written = [{"written": 1.8e9, "points": points}, {"written": 1.9e9, "points": points[:1]}]
    monkeypatch.setattr(module, "read_forecasts", lambda folder: written)
    law, *_ = phases(study, ladder | set(list(held)[:1]))
    assert (law.forecast, law.held_out_ended, law.held_out) == (1.8e9, 1, 3)


def test_the_status_has_the_phases(file, windtunnel):
    _, out, _ = windtunnel("status", file, "--json")
    found = {each["experiment"]: each for each in json.loads(out)["phases"]}
    assert list(found) == ["law", "tune", "rates"]
    assert (found["law"]["kind"], found["law"]["held_out"]) == ("scaling", 3)
    _, out, _ = windtunnel("status", file)
    assert [name for name in found if f"experiment {name}: " in out] == list(found)
