"""`windtunnel import-runs` from MLflow and Weights & Biases: real databases, W&B's layouts."""

import json

import pytest

from windtunnel.runs.imported import read_imported
from windtunnel.runs.study import open_study

TAKE = ("--params", "n_params", "--tokens", "tokens", "--loss", "val/loss", "--decayed", "true")


def imported(path):
    return read_imported(open_study(path).folder)


def log(client, experiment, name, *, loss, status="FINISHED", tags=None, params=1.2e9):
    run = client.create_run(experiment, run_name=name, tags=tags).info.run_id
    client.log_param(run, "n_params", params)
    client.log_param(run, "lr", "3e-4")
    for step, value in enumerate((loss + 1, loss)):
        client.log_metric(run, "val/loss", value, step=step)
    client.log_metric(run, "tokens", 2.4e10)
    if status != "RUNNING":
        client.set_terminated(run, status=status)
    return run


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A tracking URI and a client; a database takes seconds to make."""
    from windtunnel.tracking.mlflow import connect

    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'theirs.db'}"
    return uri, connect(uri)


def test_finished_runs_of_an_mlflow_experiment(study_file, windtunnel, database, monkeypatch):
    uri, client = database
    experiment = client.create_experiment("large runs")
    first = log(client, experiment, "base", loss=2.5)
    log(client, experiment, "wide", loss=2.4, tags={"team": "a"})
    log(client, experiment, "dead", loss=9.0, status="FAILED")
    log(client, experiment, "going", loss=9.0, status="RUNNING")
    log(client, experiment, "nan", loss=float("nan"))
    client.delete_run(log(client, experiment, "deleted", loss=2.0))
    study = study_file()
    code, out, err = windtunnel(
        "import-runs", study, "mlflow:large runs", *TAKE, "--tracking-uri", uri
    )
    assert (code, err) == (0, "")
    assert "2 of 5 runs are left out: failed (1), running (1)" in out
    assert "1 of 3 rows are left out: val/loss is missing (1)" in out
    found = imported(study)
    assert {label: run.measured.loss for label, run in found.items()} == {"base": 2.5, "wide": 2.4}
    assert (found["base"].measured.params, found["base"].measured.lr) == (1_200_000_000, 3e-4)
    origin = found["base"].origin
    assert (origin["run_id"], origin["experiment_id"], origin["uri"]) == (first, experiment, uri)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    again = ("import-runs", study, "large runs", "--format", "mlflow", *TAKE)
    code, out, _ = windtunnel(*again, "--loss", "metrics.val/loss", "--where", "tags.team == a")
    assert (code, "0 new, 1 known already" in out) == (0, True)
    code, _, err = windtunnel("import-runs", study, "mlflow:large run", *TAKE)
    assert (code, "no experiment 'large run'; did you mean 'large runs'?" in err) == (2, True)


def test_runs_of_one_name_need_a_label_and_our_own_are_refused(study_file, windtunnel, database):
    uri, client = database
    experiment = client.create_experiment("alike")
    study = study_file()
    own = open_study(study).plan.trunks[0].id
    log(client, experiment, "base", loss=2.5)
    log(client, experiment, "base", loss=2.4, params=2.4e9)
    source = ("import-runs", study, "mlflow:alike", *TAKE, "--tracking-uri", uri)
    code, _, err = windtunnel(*source)
    assert (code, "2 runs are called 'base'" in err, "--run run_id" in err) == (2, True, True)
    log(client, experiment, "ours", loss=2.3, tags={"windtunnel.segment": own})
    code, _, err = windtunnel(*source, "--run", "run_id")
    assert (code, "1 of 3 runs are segments of this study itself" in err) == (2, True)
    assert not imported(study)
    code, _, err = windtunnel(*source, "--run", "run_id", "--exclude", "run == ours")
    assert (code, len(imported(study))) == (0, 2), err


def test_an_experiment_without_a_finished_run(study_file, windtunnel, database):
    uri, client = database
    log(client, client.create_experiment("going"), "going", loss=9.0, status="RUNNING")
    code, _, err = windtunnel(
        "import-runs", study_file(), "mlflow:going", *TAKE, "--tracking-uri", uri
    )
    assert code == 2
    assert "no finished run: 1 of 1 runs are left out: running (1)" in err


EXPORT = """\
"Name","State","Notes","User","Tags","Created","Runtime","Sweep","n_params","optim.lr","tokens","val/loss"
"big-0","finished","-","me","","2026-03-01T10:15:00.000Z","86400","","1200000000","0.0003","24000000000","2.5"
"big-1","crashed","-","me","","2026-03-01T10:15:00.000Z","1000","","1200000000","0.0003","1000000000","4.5"
"big-2","finished","-","me","","2026-03-02T10:15:00.000Z","86400","","2400000000","0.0002","48000000000","2.3"
"big-3","running","-","me","","2026-03-03T10:15:00.000Z","10","","2400000000","0.0002","","NaN"
"""


def test_the_csv_of_a_wandb_table(study_file, windtunnel, tmp_path):
    study, path = study_file(), tmp_path / "wandb_export.csv"
    path.write_text(EXPORT)
    code, out, err = windtunnel("import-runs", study, path, *TAKE, "--lr", "optim.lr")
    assert (code, err) == (0, "")
    assert "2 of 4 rows are left out as unfinished: State is crashed (1), State is running" in out
    found = imported(study)
    assert {label: run.measured.lr for label, run in found.items()} == {
        "big-0": 3e-4,
        "big-2": 2e-4,
    }
    assert found["big-0"].source == "wandb wandb_export.csv"
    path.write_text(EXPORT.replace("finished", "crashed"))
    code, _, err = windtunnel("import-runs", study, path, *TAKE)
    assert (code, "no finished run: 4 of 4 rows are left out" in err) == (2, True)
    keep = ("--lr", "optim.lr", "--where", "State in crashed", "--dry-run", "--json")
    code, out, _ = windtunnel("import-runs", study, path, *TAKE, *keep)
    assert (code, json.loads(out)["new"]) == (0, ["big-1"])


def wandb_run(root, folder, *, config, summary):
    files = root / folder / "files"
    files.mkdir(parents=True)
    (files / "config.yaml").write_text(config)
    (files / "wandb-summary.json").write_text(summary)
    (files / "wandb-metadata.json").write_text('{"program": "train.py"}')
    (root / folder / f"run-{folder.rpartition('-')[2]}.wandb").write_bytes(b":W&B\x1e\xbe\x00")
    return files


OLD = """\
wandb_version: 1

_wandb:
  desc: null
  value:
    cli_version: 0.16.0
n_params:
  desc: null
  value: 1200000000
optim:
  desc: null
  value:
    lr: 0.0003
    betas: [0.9, 0.95]
"""
NEW = """\
_wandb:
    value:
        cli_version: 0.31.0
n_params:
    value: 2.4e+09
optim:
    value:
        lr: 2e-04
"""


@pytest.fixture
def folder(tmp_path):
    """A `wandb` folder of both generations, a resumed run, one that was offline."""
    root = tmp_path / "project" / "wandb"
    summary = {"val/loss": 2.5, "tokens": 24e9, "_step": 9, "_wandb": {"runtime": 5}, "n": {"x": 1}}
    wandb_run(root, "run-20260301_101500-3f2k9x1a", config=OLD, summary=json.dumps(summary))
    late = {"val/loss": 2.3, "tokens": 48e9, "_runtime": 7.5}
    early = {"val/loss": 3.3, "tokens": 8e9}
    wandb_run(root, "run-20260302_101500-7c1m0q2b", config=NEW, summary=json.dumps(early))
    wandb_run(root, "run-20260303_101500-7c1m0q2b", config=NEW, summary=json.dumps(late))
    wandb_run(root, "run-20260304_101500-0nan0nan", config=NEW, summary='{"val/loss": "NaN"}')
    (root / "offline-run-20260305_101500-5z5z5z5z" / "files").mkdir(parents=True)
    (root / "latest-run").symlink_to("run-20260304_101500-0nan0nan")
    (root / "debug.log").write_text("")
    return root


@pytest.mark.parametrize("above", [False, True])
def test_a_wandb_folder(study_file, windtunnel, folder, above):
    study = study_file()
    code, out, err = windtunnel(
        "import-runs", study, folder.parent if above else folder, *TAKE, "--lr", "optim.lr"
    )
    assert (code, err) == (0, "")
    assert "2 of 5 runs are left out: " in out
    assert "earlier part of a resumed run (1)" in out
    assert "no files/wandb-summary.json, as of a run that was offline or died at once (1)" in out
    assert "does not say whether a run finished" in out
    found = imported(study)
    assert {label: run.measured.loss for label, run in found.items()} == {
        "3f2k9x1a": 2.5, "7c1m0q2b": 2.3,
    }  # fmt: skip
    assert {label: (run.measured.params, run.measured.lr) for label, run in found.items()} == {
        "3f2k9x1a": (1_200_000_000, 3e-4), "7c1m0q2b": (2_400_000_000, 2e-4),
    }  # fmt: skip
    assert found["3f2k9x1a"].source == "wandb project/wandb"
    assert len(found["3f2k9x1a"].origin["sha256"]) == 64


DAMAGED = [
    ("wandb-summary.json", "{"),
    ("wandb-summary.json", "[1]"),
    ("wandb-summary.json", '{"eval": {"loss": 2.0}, "eval.loss": 3.0}'),
    ("config.yaml", "a: [1"),
    ("config.yaml", "n_params: 1\nn_params: 2\n"),
    ("config.yaml", "a: !!python/object/apply:os.system ['touch hacked']\n"),
]


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_run_of_a_wandb_folder(study_file, windtunnel, folder, monkeypatch, damage):
    file, text = damage
    monkeypatch.chdir(folder)
    bad = folder / "run-20260301_101500-3f2k9x1a" / "files" / file
    bad.write_text(text)
    code, _, err = windtunnel("import-runs", study_file(), folder, *TAKE)
    assert code == 2
    assert f"{bad}: cannot be read: " in err
    assert "export the runs table as CSV" in err
    assert not (folder / "hacked").exists()


def test_files_of_a_wandb_folder_that_no_reader_foresees(study_file, windtunnel, folder):
    files = folder / "run-20260301_101500-3f2k9x1a" / "files"
    summary, config = (files / "wandb-summary.json"), (files / "config.yaml")
    whole = summary.read_text()
    study = study_file()
    for path, content in (
        (summary, b'{"tokens": ' + b"9" * 5000 + b"}"),
        (summary, b"[" * 100_000),
        (summary, b"\xff\xfe"),
        (config, b"a: !!python/tuple [1, 2]\n"),
        (config, b"a: &a [*a]\n? [1, 2]\n: 3\n" + b"\x00"),
        (config, b"\xff\xfe\x00"),
    ):
        path.write_bytes(content)
        code, out, err = windtunnel("import-runs", study, folder, *TAKE)
        assert (code, out) == (2, ""), content[:20]
        assert f"{path}: cannot be read: " in err
        summary.write_text(whole)
        config.write_text(OLD)
