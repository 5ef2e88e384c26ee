"""Searches: suggestions, batches, rungs, repeats, and what they leave behind."""

import json
import math
import shutil

import optuna
import pytest
from typer.testing import CliRunner

from windtunnel.cli.app import app
from windtunnel.config import load_study
from windtunnel.engine.graph import Status
from windtunnel.engine.samplers import distributions, frozen_trials, suggest
from windtunnel.engine.search import promoted_trials
from windtunnel.engine.sweep import Sweep
from windtunnel.errors import ConfigError
from windtunnel.runs.measured import gather
from windtunnel.runs.search.trial_log import SuggestedTrial
from windtunnel.runs.search.trials import TrialResult
from windtunnel.runs.study import open_study

SPACE = "{recipe.lr: {low: 1e-3, high: 1e-1, log: true}, recipe.scale_emb: {low: 1, high: 12}}"


@pytest.fixture
def search_file(study_file):
    """A study whose only experiment is a search; keyword arguments are its further fields."""

    def write(*, space=SPACE, trials=6, batch=3, top=2, repeats=2, more="", clip=None):
        search = (
            f"  - kind: search\n    name: tune\n    space: {space}\n    trials: {trials}\n"
            f"    batch: {batch}\n    horizon: 120 steps\n    top: {top}\n    repeats: {repeats}\n"
            f"{more}resources:"
        )
        path = study_file(sizes="[16x1]")
        text = path.read_text()
        scaling = text[text.index("  - kind: scaling") : text.index("resources:")]
        text = text.replace(scaling + "resources:", search)
        if clip is not None:
            text = text.replace("warmup_steps: 10", f"warmup_steps: 10\n  clip: {clip}")
        path.write_text(text)
        return path

    return write


def sweep(path, **options):
    study = open_study(path, prepared=True)
    run = Sweep(study, **({"engine": "local"} | options))
    return run, run.run()


def suggested(path):
    study = open_study(path)
    return json.loads((study.folder / "search.tune.json").read_text())["suggested"]


def losses(path):
    study = open_study(path)
    return {run.segment: run.loss for run in gather(study.store, study.plan)}


def result(number, value, *, batch=0, outcome="finished", at=None, admitted=1, values=None):
    trial = SuggestedTrial(number=number, batch=batch, values=values or {}, admitted=admitted)
    return TrialResult(trial=trial, outcome=outcome, at=at or (value,), value=value)


def played(study, experiment, count):
    """Results of the first trials, had the loss been a bowl with its least at lr 1e-2, emb 4."""
    results = []
    while len(results) < count:
        batch = results[-1].trial.batch + 1 if results else 0
        for values in suggest(study, experiment, results):
            lr, emb = values["recipe.lr"], values["recipe.scale_emb"]
            value = (math.log10(lr) + 2) ** 2 + ((emb - 4) / 8) ** 2
            results.append(result(len(results), value, batch=batch, values=values))
    return results


@pytest.mark.parametrize("sampler", ["gp", "tpe", "cmaes", "sobol", "random"])
@pytest.mark.medium
def test_a_batch_follows_from_seed_number_and_results(search_file, sampler):
    path = search_file(trials=20, batch=5, more=f"    sampler: {sampler}\n")
    study = load_study(path)
    (experiment,) = study.experiments
    once, again = played(study, experiment, 20), played(study, experiment, 20)
    assert [r.trial for r in once] == [r.trial for r in again]
    values = [tuple(r.trial.values.values()) for r in once]
    assert len(set(values)) == 20
    assert all(1e-3 <= lr <= 1e-1 and 1 <= emb <= 12 for lr, emb in values)
    other = experiment.replace(seed=1)
    assert suggest(study, other, []) != suggest(study, experiment, [])


@pytest.mark.parametrize("sampler", ["gp", "tpe", "cmaes"])
@pytest.mark.medium
def test_samplers_that_learn_come_closer(search_file, sampler):
    path = search_file(trials=40, batch=8, more=f"    sampler: {sampler}\n")
    study = load_study(path)
    (experiment,) = study.experiments
    values = [each.value for each in played(study, experiment, 40)]
    assert sum(values[-8:]) < 0.5 * sum(values[:8])


def test_a_grid_is_run_once_through(search_file):
    space = (
        "{recipe.lr: {low: 1e-3, high: 1e-1, log: true, points: 3}, model.qk_norm: [true, false]}"
    )
    path = search_file(space=space, trials=40, batch=4, more="    sampler: grid\n")
    study = load_study(path)
    (experiment,) = study.experiments
    results = []
    while batch := suggest(study, experiment, results):
        number = results[-1].trial.batch + 1 if results else 0
        results += [
            result(len(results) + i, 1.0, batch=number, values=values)
            for i, values in enumerate(batch)
        ]
    cells = {
        (round(r.trial.values["recipe.lr"], 12), r.trial.values["model.qk_norm"]) for r in results
    }
    assert cells == {(lr, qk) for lr in (0.001, 0.01, 0.1) for qk in (True, False)}
    assert len(results) == 6


def test_whole_numbers_and_choices_stay_what_they_are(search_file):
    space = "{recipe.warmup_steps: {low: 5, high: 50, log: true}, recipe.beta2: [0.9, 0.95, 0.99]}"
    study = load_study(search_file(space=space, trials=12, batch=12))
    for values in suggest(study, study.experiments[0], []):
        assert isinstance(values["recipe.warmup_steps"], int)
        assert values["recipe.beta2"] in {0.9, 0.95, 0.99}


def test_a_diverged_trial_is_told_as_worse_than_the_worst(search_file):
    study = load_study(search_file())
    space = distributions(study, study.experiments[0])
    values = {"recipe.lr": 0.01, "recipe.scale_emb": 2.0}
    results = [
        result(0, 2.0, values=values),
        result(1, None, outcome="diverged", values=values),
        result(2, 3.5, values=values),
        result(3, None, outcome="failed", values=values),
    ]
    first, diverged, worst, failed = frozen_trials(space, results)
    assert (first.value, worst.value) == (2.0, 3.5)
    assert diverged.value == 3.5 + (3.5 - 2.0)
    assert diverged.user_attrs["outcome"] == "diverged"
    assert failed.state is optuna.trial.TrialState.FAIL


@pytest.mark.medium
def test_the_best_are_repeated_on_new_seeds_and_at_twice_the_horizon(search_file):
    path = search_file()
    run, outcome = sweep(path)
    assert not outcome.failed
    found = suggested(path)
    assert [trial["batch"] for trial in found["trials"]] == [0, 0, 0, 1, 1, 1]
    runs = gather(run.study.store, run.study.plan)
    branches = [each for each in runs if each.decayed]
    assert len(branches) == 6 + 2 * (2 + 3)  # new seeds at the horizon, all seeds at twice
    assert {each.horizon for each in branches} == {"120 steps", "240 steps"}
    first = {
        each.lr: each.loss
        for each in branches
        if each.init_seed == 0 and each.horizon == "120 steps"
    }
    best = sorted(first, key=first.get)[:2]
    assert [found["trials"][n]["values"]["recipe.lr"] for n in found["finalists"]] == best
    assert {each.lr for each in branches if each.init_seed in {1, 2}} == set(best)

    again = open_study(path)  # the plan is read from what was suggested
    assert {p.id for p in again.plan.segments} == {each.segment for each in runs}


@pytest.mark.medium
def test_a_lost_file_of_suggestions_is_made_again_and_nothing_is_run_twice(search_file):
    path = search_file()
    run, _ = sweep(path)
    before = suggested(path)
    written = {p.id: run.study.store.segment(p.id).record for p in run.study.plan.segments}
    (run.study.folder / "search.tune.json").unlink()
    run, outcome = sweep(path)
    assert not outcome.failed
    assert suggested(path) == before
    assert {p.id: run.study.store.segment(p.id).record for p in run.study.plan.segments} == written


@pytest.mark.medium
def test_more_trials_go_on_from_those_that_are_there(search_file):
    path = search_file(trials=3, top=0)
    sweep(path)
    before = suggested(path)["trials"]
    path = search_file(trials=6, top=0)
    sweep(path)
    after = suggested(path)["trials"]
    assert after[:3] == before
    assert len(after) == 6
    with pytest.raises(ConfigError, match=r"experiment 'tune': batch changed since .* `name:`"):
        open_study(search_file(trials=6, batch=2, top=0))


@pytest.mark.medium
def test_the_journal_opens_as_an_optuna_study(search_file):
    path = search_file()
    run, _ = sweep(path)
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(run.study.folder / "optuna.journal"))
    )
    study = optuna.load_study(study_name="small/tune", storage=storage)
    assert [t.params for t in study.trials] == [t["values"] for t in suggested(path)["trials"]]
    assert study.best_trial.number == suggested(path)["finalists"][0]


EARLY = (
    "    sampler: random\n"
    "    early_stopping: {rule: asha, rungs: [105 steps, 110 steps], reduction: 2}\n"
)


@pytest.mark.medium
def test_early_stopping_compares_decayed_losses_and_wastes_nothing(search_file, tmp_path):
    path = search_file(top=0, trials=8, batch=4, more=EARLY)
    run, outcome = sweep(path)
    assert not outcome.failed
    stopped = suggested(path)["trials"]
    assert sorted({trial["admitted"] for trial in stopped}) == [1, 2, 3]
    first = [trial for trial in stopped if trial["batch"] == 0]
    assert sorted(trial["admitted"] for trial in first) == [1, 1, 2, 3]
    to_the_end = {
        each.lr: each.loss
        for each in gather(run.study.store, run.study.plan)
        if each.horizon == "120 steps"
    }
    shutil.move(tmp_path / "store", tmp_path / "stopped")
    path = search_file(top=0, trials=8, batch=4, more="    sampler: random\n")
    run, _ = sweep(path)
    full = {each.lr: each.loss for each in gather(run.study.store, run.study.plan) if each.decayed}
    assert len(full) == 8
    assert to_the_end.items() <= full.items()  # bit for bit: a rung leaves the trunk as it was


def test_asha_and_the_median_rule_by_hand(search_file):
    asha = load_study(search_file(more=EARLY)).experiments[0]
    batch = [
        result(n, None, at=(loss,), outcome="stopped")
        for n, loss in enumerate([2.0, 3.0, 1.0, 4.0])
    ]
    assert promoted_trials(asha, batch, horizons=3) == {0, 2}
    higher = [
        result(0, None, at=(2.0, 1.9), outcome="stopped", admitted=2),
        result(2, None, at=(1.0, 1.1), outcome="stopped", admitted=2),
        result(1, None, at=(3.0,), outcome="stopped"),
        result(3, None, at=(4.0,), outcome="stopped"),
    ]
    assert promoted_trials(asha, higher, horizons=3) == {2}
    diverged = [result(n, None, at=(None,), outcome="diverged") for n in range(4)]
    assert promoted_trials(asha, diverged, horizons=3) == set()
    median = asha.replace(early_stopping={"rule": "median", "rungs": ["105 steps"]})
    assert promoted_trials(median, batch, horizons=2) == {0, 2}


def test_a_diverged_and_a_failed_trial_do_not_stop_a_search(search_file):
    space = "{recipe.lr: [1e-2, 3e-2, 1e5, 1e4]}"
    path = search_file(
        space=space, trials=4, batch=2, top=1, clip="1e9", more="    sampler: grid\n"
    )
    run, _ = sweep(path)
    counts = run.graph.counts()
    assert counts[Status.DIVERGED] >= 1
    found = suggested(path)
    assert len(found["trials"]) == 4
    assert found["trials"][found["finalists"][0]]["values"]["recipe.lr"] < 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": "{recipe.lrr: {low: 1, high: 2}}"}, "'recipe.lrr' is not a field of recipe"),
        ({"space": "{recipe.lr: {low: 0, high: 1, log: true}}"}, "log: true needs low above zero"),
        ({"space": "{recipe.lr: {low: 2, high: 1}}"}, "low = 2 is not below high = 1"),
        ({"space": "{recipe.warmup_steps: {low: 1.5, high: 9}}"}, "holds whole numbers"),
        ({"more": "    sampler: grid\n"}, "needs recipe.lr as a list, or with points"),
        ({"space": "{recipe.lr: {low: 1e-3, high: 1, logg: true}}"}, "did you mean 'log'"),
        ({"space": "{model.qk_norm: {low: 0, high: 1}}"}, "write a list of true and false"),
        ({"space": "{model.qk_norm: [yes, no]}"}, "write a list of true and false"),
        ({"space": "{recipe.batch_tokens: {low: 64, high: 256}}"}, "give a list of them"),
        ({"space": "{recipe.batch_tokens: [64, 100]}"}, "not a multiple of model.context"),
        ({"space": "{lr: {low: 1e-3, high: 1}}"}, "did you mean 'recipe.lr'"),
        ({"more": EARLY.replace("110", "130")}, "lie before the horizon of 120 steps"),
        ({"more": EARLY.replace("110 steps", "5N")}, "in one unit"),
        ({"more": "    objective: wrds\n"}, "allowed: mean, words"),
        ({"more": EARLY.replace("random", "gp")}, "gp learns nothing from trials"),
    ],
)
def test_bad_searches_are_refused(search_file, change, message):
    with pytest.raises(ConfigError, match=message):
        load_study(search_file(**change))


@pytest.mark.ray
@pytest.mark.slow
def test_trials_do_not_depend_on_the_engine_or_the_order_of_ends(search_file, tmp_path, cluster):
    path = search_file(trials=9, batch=3)
    sweep(path)
    expected, expected_losses = suggested(path), losses(path)
    shutil.move(tmp_path / "store", tmp_path / "local")
    sweep(path, engine="ray", address=cluster)
    assert suggested(path) == expected
    assert losses(path) == expected_losses


@pytest.mark.medium
def test_no_law_and_no_forecast_is_fitted_to_the_trials_of_a_search(study_file):
    path = study_file(
        sizes="[16x1, 16x2, 32x1, 32x2]",
        horizons="[110 steps, 140 steps, 180 steps]",
        hold_out="largest",
    )
    search = (
        "  - kind: search\n    name: tune\n    space: {recipe.lr: [1e-2, 3e-2, 1e-1]}\n"
        "    sampler: grid\n    horizon: 110 steps\n    top: 0\nresources:"
    )
    path.write_text(path.read_text().replace("resources:", search))
    run, outcome = sweep(path)
    (forecast,) = outcome.forecasts
    assert forecast["rows"] == 9
    assert len([r for r in gather(run.study.store, run.study.plan) if r.decayed]) == 14
    command = ["fit", str(path), "--json", "--bootstrap", "0", "--holdout", "none"]
    fitted = CliRunner().invoke(app, command)
    assert json.loads(fitted.stdout)["n"] == 12


@pytest.mark.medium
def test_two_searches_that_begin_alike_share_trunks(search_file):
    """Same space and sampler seed, other horizons: the first suggestions are the same trunks."""
    second = (
        f"  - kind: search\n    name: longer\n    space: {SPACE}\n    trials: 4\n    batch: 2\n"
        "    horizon: 150 steps\n    top: 0\n"
    )
    path = search_file(trials=4, batch=2, top=0, more=second)
    _, result = sweep(path)
    assert not result.failed
    opened = open_study(path)
    both = [
        planned
        for planned in opened.plan.trunks
        if {label.experiment for label in planned.labels} == {"tune", "longer"}
    ]
    assert both
    assert CliRunner().invoke(app, ["plan", str(path)]).exit_code == 0
