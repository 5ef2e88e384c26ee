"""The section on a search: its table, its pictures, and how much each value matters."""

import dataclasses
import re

import numpy as np
import planted
import pytest

from windtunnel.engine.samplers import FEWEST_TRIALS, importances
from windtunnel.report import collect, render
from windtunnel.report.figures.search import above_scale
from windtunnel.runs.search.trial_log import SuggestedTrial, TrialLog, write_suggested
from windtunnel.runs.study import open_study

SEARCH = """\
  - kind: search
    name: tune
    space:
      recipe.lr: {low: 1e-3, high: 1e-1, log: true}
      recipe.scale_emb: {low: 1, high: 20}
      model.qk_norm: [true, false]
    trials: 16
    sampler: tpe
    horizon: 20N
    top: 2
    repeats: 2
"""
STOPPING = "    early_stopping: {rungs: [5N, 10N]}\n"


def searched(folder, *, stopped=(), diverged=(), more=""):
    """A study whose search has run, its losses a bowl in ln lr alone with a little noise."""
    study = planted.make_study(folder, sizes="32x2", batch=256, experiments=SEARCH + more)
    (experiment,) = study.config.experiments
    rng = np.random.default_rng(0)
    trials = [
        SuggestedTrial(
            number=number,
            batch=number // 8,
            values={
                "recipe.lr": float(10 ** rng.uniform(-3, -1)),
                "recipe.scale_emb": float(rng.uniform(1, 20)),
                "model.qk_norm": bool(rng.integers(2)),
            },
            admitted=1 if number in stopped else 3 if more else 1,
        )
        for number in range(16)
    ]
    bowl = {t.number: 2 + 0.3 * (np.log10(t.values["recipe.lr"]) + 2) ** 2 for t in trials}
    able = [t.number for t in trials if t.number not in {*stopped, *diverged}]
    finalists = tuple(sorted(able, key=bowl.get)[:2])
    write_suggested(study.folder, experiment, TrialLog(trials=tuple(trials), finalists=finalists))
    study = open_study(study.file)
    lrs = {t.values["recipe.lr"]: t.number for t in trials}
    for planned in study.plan.segments:
        number = lrs[planned.segment.recipe.lr]
        if number in diverged:
            planted.diverge(study, planned, reached=5)
            continue
        value = bowl[number] + 0.003 * rng.standard_normal()
        planted.fill_one(study, planned, loss=value)
    return study, finalists


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return searched(tmp_path_factory.mktemp("plain"), diverged=(3,))


@pytest.fixture(scope="module")
def halved(tmp_path_factory):
    stopped = tuple(range(0, 16, 2))
    return searched(tmp_path_factory.mktemp("halved"), stopped=stopped, more=STOPPING)


@pytest.mark.medium
def test_the_winner_and_its_rival_are_in_the_table(plain, read):
    study, finalists = plain
    inputs = collect(study)
    (search,) = inputs.searches
    page = read(render(inputs))
    text = page.section("search")
    winner, rival = search.outcome.finalists
    assert {winner.result.trial.number, rival.result.trial.number} == set(finalists)
    assert f"Trial {winner.result.trial.number} wins with a loss of {winner.mean:.4f}" in text
    assert f"{rival.mean:.4f} +{rival.behind.value:.4f} ± " in text
    assert "16 of 16 trials to 20N by tpe: 15 finished, 1 diverged" in text
    assert "Crosses at the top are the 1 that diverged" in text
    assert "Hollow" not in text
    assert page.faults == []


@pytest.mark.medium
def test_both_pictures_are_drawn_twice_in_css_colours(plain):
    page = render(collect(plain[0]))
    section = re.search(r'<section id="search">.*?</section>', page, re.DOTALL)[0]
    drawings = re.findall(r"<svg.*?</svg>", section, re.DOTALL)
    course = re.search(r'<section id="course-1">.*?</section>', page, re.DOTALL)[0]
    drawings += re.findall(r"<svg.*?</svg>", course, re.DOTALL)
    assert len(drawings) == 4
    for drawing in drawings:
        assert "<text" in drawing
        assert not re.search(r"#[0-9a-f]{6}\b", re.sub(r'(?:href="|url\()#[^")]+', "", drawing))
    titles = re.findall(r"<text[^>]*>([^<]*%)</text>", drawings[0])
    assert titles[0].startswith("lr, ")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.medium
def test_stopped_trials_are_hollow_and_said_to_be_shorter(halved, read):
    inputs = collect(halved[0])
    (search,) = inputs.searches
    assert search.outcome.counts == {"stopped": 8, "finished": 8}
    assert search.outcome.flops_spent < search.outcome.flops_without_stopping
    page = read(render(inputs))
    assert "Hollow dots are the 8 trials stopped early" in page.section("search")
    text = page.section("course-1")
    assert "saved by early stopping" in text
    assert "fitted to 16 trials at the shortest rung" in text


def test_importance_finds_the_axis_that_matters(plain):
    study, _ = plain
    (search,) = collect(study).searches
    shares = search.importances
    assert sum(shares.values()) == pytest.approx(1.0)
    assert next(iter(shares)) == "recipe.lr"
    assert shares["recipe.lr"] > 0.7
    outcome = search.outcome
    few = outcome.results[: FEWEST_TRIALS - 1]
    assert importances(study.config, outcome.experiment, few) == {}
    # Trial 3 has diverged: twelve results with it are too few.
    assert importances(study.config, outcome.experiment, outcome.results[:FEWEST_TRIALS]) == {}


def test_far_losses_do_not_set_the_scale(plain):
    (search,) = collect(plain[0]).searches
    before = above_scale(search)
    (last,) = search.outcome.results[-1:]
    far = dataclasses.replace(last, value=9.0, at=(9.0,))
    outcome = dataclasses.replace(search.outcome, results=(*search.outcome.results, far))
    assert above_scale(dataclasses.replace(search, outcome=outcome)) == before + 1


def test_a_search_that_has_not_begun_renders(tmp_path, read):
    study = planted.make_study(tmp_path, sizes="32x2", batch=256, experiments=SEARCH)
    page = read(render(collect(study)))
    assert page.faults == []
    assert "16 of 16 trials are still to be suggested" in page.section("search")
