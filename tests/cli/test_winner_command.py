"""`windtunnel winner` after a real sweep: what it prints, its JSON, and its run in MLflow."""

import json
import shutil
from pathlib import Path
from statistics import fmean

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from windtunnel.cli.app import app
from windtunnel.cli.sweep import _searches
from windtunnel.cli.tracking import log_results
from windtunnel.cli.winner import winner_line
from windtunnel.config import load_study
from windtunnel.engine.sweep import Sweep
from windtunnel.errors import ConfigError
from windtunnel.report import collect, render
from windtunnel.runs.search.winner import search_outcomes
from windtunnel.runs.study import open_study
from windtunnel.tracking import Mirror, locate

SEARCH = """\
  - kind: search
    name: tune
    space:
      recipe.lr: {low: 1e-3, high: 1e-1, log: true}
      model.qk_norm: [true, false]
    trials: 4
    batch: 2
    sampler: sobol
    horizon: 120 steps
    top: 2
    repeats: 2
"""


def as_search(path):
    """The study file, with a search in place of its law."""
    text = path.read_text()
    scaling = text[text.index("  - kind: scaling") : text.index("resources:")]
    path.write_text(text.replace(scaling, SEARCH))
    return path


@pytest.fixture
def search_file(study_file):
    return as_search(study_file(sizes="[16x1]"))


@pytest.fixture(scope="module")
def original(tmp_path_factory, write_study):
    """The folder of a finished search, which stays as it is."""
    file = as_search(write_study(tmp_path_factory.mktemp("original"), sizes="[16x1]"))
    Sweep(open_study(file, prepared=True), engine="local").run()
    return file.parent


@pytest.fixture
def swept(original, search_file):
    """A copy of it."""
    shutil.copytree(original, search_file.parent, dirs_exist_ok=True)
    return search_file


def run(*arguments):
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


@pytest.mark.usefixtures("undrawn")
@pytest.mark.medium
def test_a_search_end_to_end(swept):
    study = open_study(swept)
    (outcome,) = search_outcomes(study)
    (found,) = json.loads(run("winner", swept, "--json"))
    assert found["counts"] == {"finished": 4}
    assert found["missing"] == []
    # The winner is the finalist whose losses on the seeds 1 and 2 are lowest, read from the store.
    means = {
        each["trial"]: fmean(each["losses"][seed] for seed in ("1", "2"))
        for each in found["finalists"]
    }
    assert len(means) == 2
    winner = found["winner"]
    assert winner["trial"] == min(means, key=means.get)
    assert winner["loss"] == pytest.approx(min(means.values()))
    assert winner["interval"][0] < winner["loss"] < winner["interval"][1]
    assert winner["seeds"] == [1, 2]
    best_two = sorted(found["trials"], key=lambda each: each["losses"][-1])[:2]
    assert set(means) == {each["trial"] for each in best_two}
    rival = found["finalists"][1]["behind"]
    assert rival["low"] < rival["value"] == pytest.approx(max(means.values()) - winner["loss"])

    text = run("winner", swept)
    assert "every loss is that on" not in text
    assert "search tune, 16x1: 4 of 4 trials to 120 steps by sobol: 4 finished" in text
    assert f"winner: trial {winner['trial']}, loss {winner['loss']:.4f}" in text
    assert f"+{rival['value']:.4f} ±{rival['high'] - rival['value']:.4f}" in text
    fragment = YAML(typ="safe").load(text[text.index("its values") :].partition("\n")[2])
    assert fragment["recipe"]["lr"] == winner["values"]["recipe.lr"]
    assert fragment["model"]["qk_norm"] == winner["values"]["model.qk_norm"]
    line = winner_line(outcome)
    assert line.startswith(f"search tune: trial {winner['trial']} wins with loss")
    assert " other finalist within noise" in line
    page = render(collect(study))
    assert f"Trial {winner['trial']} wins with a loss of" in page


@pytest.mark.medium
def test_a_loss_of_one_validation_set_is_said_to_be_that(search_file):
    text = search_file.read_text()
    search_file.write_text(text.replace("    top: 2\n", "    top: 2\n    objective: words\n"))
    Sweep(open_study(search_file, prepared=True), engine="local").run()
    (outcome,) = search_outcomes(open_study(search_file))
    (found,) = json.loads(run("winner", search_file, "--json"))
    assert found["objective"] == "words"
    winner = found["winner"]
    said = run("winner", search_file)
    assert "every loss is that on words" in said
    assert f"winner: trial {winner['trial']}, loss on words {winner['loss']:.4f} (" in said
    assert f"wins with loss on words {winner['loss']:.4f} (" in winner_line(outcome)


def test_the_pasted_fragment_finds_the_winners_runs(swept):
    (found,) = json.loads(run("winner", swept, "--json"))
    values = found["winner"]["values"]
    text = swept.read_text().replace(SEARCH, "  - {kind: scaling, horizons: [120 steps], "
        "sizes: [16x1], seeds: [1, 2], hold_out: none}\n")  # fmt: skip
    text = text.replace("lr: 1e-2", f"lr: {values['recipe.lr']!r}").replace(
        "context: 32", f"context: 32\n  qk_norm: {str(values['model.qk_norm']).lower()}"
    )
    swept.with_name("law.yaml").write_text(text.replace("study: small", "study: law"))
    law = open_study(swept.with_name("law.yaml"), prepared=True)
    records = [law.store.segment(planned.id).record for planned in law.plan.branches]
    assert len(records) == 2
    assert all(record["outcome"] == "finished" for record in records)


def test_before_the_repeats_it_says_what_is_missing(search_file, swept):
    study = open_study(search_file)
    (outcome,) = search_outcomes(study)
    numbers = [each.result.trial.number for each in outcome.finalists]
    (experiment,) = load_study(search_file).experiments
    # As if the sweep had been stopped: one repeat has not run.
    label = next(
        planned
        for planned in study.plan.branches
        if planned.labels[0].seed == 1 and planned.labels[0].horizon == str(experiment.horizon)
    )
    (study.store.segment(label.id).root / "record.json").unlink()
    text = run("winner", search_file)
    assert "1 of 4 repeats to 120 steps have not ended" in text
    assert "winner:" not in text
    assert all(f"  {number} " in text for number in numbers)
    (found,) = json.loads(run("winner", search_file, "--json"))
    assert found["winner"] is None
    (outcome,) = search_outcomes(open_study(search_file))
    assert winner_line(outcome).startswith("search tune: no winner yet: 1 of 4 repeats")
    first = outcome.leaders[0]
    assert (
        f"not repeated yet: trial {first.trial.number} with loss {first.value:.4f}"
        in winner_line(outcome)
    )
    assert "provisional: not repeated yet" in text
    assert all(f"{each.value:.4f}" in text for each in outcome.leaders)
    assert found["best_so_far"][0] == {
        "trial": first.trial.number,
        "loss_in_search": first.value,
    }
    said = run("status", search_file)
    assert "search tune: 4 of 4 trials; repeats of the best 2: 1 run to come" in said


@pytest.mark.medium
def test_plan_and_status_follow_a_search_that_goes_on(search_file):
    assert "search tune  4 trials of 16x1 to 120 steps, 0 suggested; then 2 x 2 new seeds" in run(
        "plan", search_file
    )
    assert "search tune: 0 of 4 trials" in run("status", search_file)
    Sweep(open_study(search_file, prepared=True), engine="local").run()
    before = run("status", search_file)
    assert "; 100% of the training FLOPs done" in before
    assert "search tune: 4 of 4 trials; the best 2 repeated" in before
    search_file.write_text(search_file.read_text().replace("trials: 4", "trials: 8"))
    after = run("status", search_file)
    assert "search tune: 4 of 8 trials" in after
    assert "to come" in after
    found = json.loads(run("status", search_file, "--json"))
    assert 0.3 < found["share_of_flops"] < 0.9
    assert found["segments_to_be_suggested"] == 8  # a trunk and a branch each
    assert found["searches"][0]["ended"] == 4
    assert "8 trials of 16x1 to 120 steps, 4 suggested" in run("plan", search_file)
    sweep = Sweep(open_study(search_file, prepared=True), engine="local")
    assert _searches(sweep.study) == ["search tune: 4 of 8 trials suggested, repeats of the best 2"]
    search_file.write_text(search_file.read_text().replace("trials: 8", "trials: 3"))
    text = run("winner", search_file, "--all")
    assert "search tune, 16x1: 4 trials to 120 steps by sobol" in text
    (outcome,) = search_outcomes(open_study(search_file))
    every = text[text.index("loss, seed 0") :]
    ordered = sorted(outcome.results, key=lambda each: each.value)
    places = [every.index(f"{each.value:.4f}") for each in ordered]
    assert places == sorted(places)


def test_a_study_without_a_search_is_refused(study_file):
    result = CliRunner().invoke(app, ["winner", str(study_file())])
    assert isinstance(result.exception, ConfigError)
    assert result.exception.exit_code == 2
    assert result.exception.code == "no-experiment"
    assert result.exception.values["kinds"] == ["scaling"]


@pytest.mark.medium
def test_a_search_is_one_run_in_mlflow(swept, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    study = open_study(swept)
    for _ in range(2):
        mirror = Mirror(study, locate(study.store, study.config.tracking))
        mirror.sync()
        log_results(mirror)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=mirror.location.uri)
    runs = client.search_runs([mirror.experiment_id()], "tags.kind = 'search.tune'")
    assert len(runs) == 1
    (found,) = json.loads(run("winner", swept, "--json"))
    data = runs[0].data
    assert data.tags["winner"] == str(found["winner"]["trial"])
    assert float(data.tags["winner.recipe.lr"]) == found["winner"]["values"]["recipe.lr"]
    assert data.metrics["loss"] == pytest.approx(found["winner"]["loss"])
    assert data.metrics["noise"] == pytest.approx(found["noise"])
    assert data.metrics["trials"] == 4
    assert len(client.get_metric_history(runs[0].info.run_id, "loss")) == 1
    local = client.download_artifacts(runs[0].info.run_id, "winner.tune.json", str(tmp_path))
    assert json.loads(Path(local).read_text()) == found


@pytest.mark.medium
def test_another_study_takes_the_recipe_that_was_written(swept, tmp_path):
    path = tmp_path / "winner.yaml"
    run("winner", swept, "--out", path)
    (outcome,) = search_outcomes(open_study(swept))
    values = outcome.winner.result.trial.values
    text = swept.read_text()
    recipe = text[text.index("recipe:") : text.index("experiments:")]
    other = tmp_path / "other.yaml"
    other.write_text(f"extends: {path.name}\n" + text.replace(recipe, ""))
    searched, taken = load_study(swept), load_study(other)
    assert taken.recipe == searched.recipe.replace(lr=values["recipe.lr"])
    assert taken.model.qk_norm == values["model.qk_norm"]
    assert taken.schedule == searched.schedule


@pytest.mark.medium
def test_a_winner_is_written_only_if_there_is_one_and_it_is_named(swept, tmp_path, windtunnel):
    path = tmp_path / "winner.yaml"
    swept.write_text(swept.read_text().replace(SEARCH, SEARCH + SEARCH.replace("tune", "again")))
    status, out, _ = windtunnel("winner", swept, "--search", "again", "--out", path, "--json")
    assert (status, json.loads(out)["error"]["code"]) == (2, "no-winner")
    status, out, _ = windtunnel("winner", swept, "--out", path, "--json")
    error = json.loads(out)["error"]
    assert (status, error["code"], error["values"]["known"]) == (
        2, "missing-option", ["tune", "again"],
    )  # fmt: skip
    assert not path.exists()
    status, out, _ = windtunnel("winner", swept, "--search", "tune", "--out", path, "--json")
    assert (status, [each["experiment"] for each in json.loads(out)]) == (0, ["tune"])
    assert path.exists()
    assert windtunnel("winner", swept, "--search", "tone")[0] == 2
