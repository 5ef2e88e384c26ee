"""`windtunnel import-runs` on real files, a real MLflow database and W&B's own layout."""

import csv
import json
import math
import sys

import numpy as np
import pytest

from windtunnel.cli import main
from windtunnel.laws import Chinchilla
from windtunnel.spec import Branch
from windtunnel.trials.gather import gather
from windtunnel.trials.imported import imported_file, read_imported
from windtunnel.trials.study import open_study

LAW = Chinchilla(E=1.1, A=30.0, B=120.0, alpha=0.33, beta=0.34)
TABLE = """\
name,N,D,val_loss,lr,good
big-0,1.2e9,2.4e10,2.50,3e-4,true
big-1,1.2e9,4.8e10,2.41,3e-4,true
big-2,2.4e9,4.8e10,2.33,2e-4,false
"""
COLUMNS = ("--params", "N", "--tokens", "D", "--loss", "val_loss")
TAKE = (*COLUMNS, "--decayed", "true")


@pytest.fixture
def windtunnel(monkeypatch, capsys):
    """Run the command line in this process: exit code, output, errors; no traceback passes."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["windtunnel", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return run


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "large.csv"
    path.write_text(TABLE)
    return path


def taken(path):
    """Of a study file: what is measured of every imported run, by label."""
    return {name: run.measured for name, run in read_imported(open_study(path).folder).items()}


def fill(study):
    """Finish every segment of a study with losses of the law and a little noise; no training."""
    rng = np.random.default_rng(0)
    for planned in study.plan.segments:
        folder, segment = study.store.segment(planned.id), planned.segment
        folder.create(segment)
        is_branch = isinstance(segment, Branch)
        for step in (planned.end,) if is_branch else planned.forks:
            tokens = step * segment.recipe.batch_tokens
            loss = float(LAW(segment.model.params, tokens)) * math.exp(0.002 * rng.normal())
            loss *= 1.0 if is_branch else 1.03
            folder.add_measurement(step, {
                "words": {"nats_per_token": loss, "bits_per_byte": loss / math.log(2),
                          "tokens": 2048, "fingerprint": study.validation[0].fingerprint},
            })  # fmt: skip
        folder.finish({
            "segment": planned.id, "outcome": "finished", "reached": planned.end, "seconds": 1.0,
            "epochs": {"words": 0.5}, "execution": {}, "written": 1.8e9,
        })  # fmt: skip


@pytest.fixture
def finished(study_file):
    """A finished study of four sizes; its data is prepared."""
    path = study_file(
        sizes="[16x1, 16x2, 32x1, 32x2]", horizons="[110 steps, 140 steps, 180 steps, 240 steps]"
    )
    fill(open_study(path, prepared=True))
    return path


def test_planted_large_runs_move_the_fit_and_come_out_again(finished, windtunnel, tmp_path):
    def fitted(*more, source=finished):
        code, out, err = windtunnel("fit", source, "--intervals", "none", "--json", *more)
        assert code == 0, err
        return json.loads(out)

    before = fitted()
    assert before["n"] == 16
    assert before["optimum"][0]["ratio_exact"] is not None
    largest = before["domain"]["params"][1]
    rows = [(100 * largest, 100 * largest * ratio) for ratio in (5, 10, 20, 40)]
    (tmp_path / "big.jsonl").write_text(
        "".join(
            json.dumps({"run": f"r{i}", "n": n, "d": d, "l": float(LAW(n, d)), "family": 1}) + "\n"
            for i, (n, d) in enumerate(rows)
        )
    )
    options = ("--params", "n", "--tokens", "d", "--loss", "l", "--decayed", "true",
               "--trunk", "family")  # fmt: skip
    code, out, err = windtunnel("import-runs", finished, tmp_path / "big.jsonl", *options)
    assert (code, err) == (0, "")
    assert "4 new, 0 known already; written to" in out

    after = fitted()
    assert after["n"] == 20
    assert after["n_trunks"] == before["n_trunks"] + 1
    assert after["domain"]["params"] == [before["domain"]["params"][0], 100 * largest]
    truth = LAW.alpha, LAW.beta, LAW.E
    miss = [
        [abs(fit["coefficients"][name] - value) for name, value in zip(
            ("alpha", "beta", "E"), truth, strict=True)]
        for fit in (before, after)
    ]  # fmt: skip
    assert all(now < then for then, now in zip(*miss, strict=True))  # a law pinned from both ends
    codes = [each["code"] for each in after["warnings"]]
    assert codes[0] == "imported-runs"
    assert "4 of 20 rows are imported (4 from csv big.jsonl)" in after["warnings"][0]["message"]
    assert "column-left-out" in codes  # the exact FLOPs
    assert after["optimum"][0].get("ratio_exact") is None
    assert after["inputs"]["runs"] != before["inputs"]["runs"]

    without = fitted("--where", "kind != imported")
    assert without["coefficients"] == before["coefficients"]
    assert "imported-runs" not in [each["code"] for each in without["warnings"]]
    # Laws of curves and of rates do not take them.
    code, out, _ = windtunnel("fit", finished, "--law", "lr-valley", "--json")
    assert "imported" not in out

    code, out, _ = windtunnel("runs", finished, "--out", tmp_path / "runs.csv")
    with (tmp_path / "runs.csv").open() as file:
        listed = list(csv.DictReader(file))
    assert [row["kind"] for row in listed].count("imported") == 4
    assert listed[-1]["label"] == "r3"
    assert listed[-1]["width"] == listed[-1]["flops_exact"] == ""
    assert fitted(source=tmp_path / "runs.csv")["coefficients"] == after["coefficients"]
    code, out, _ = windtunnel("runs", finished)
    assert (code, out.count(" imported ")) == (0, 4)

    code, _, err = windtunnel("report", finished, "--out", tmp_path / "page.html")
    assert (code, err) == (0, "")
    page = (tmp_path / "page.html").read_text()
    assert "4 of 20 rows are imported" in page
    assert "forecast and findings rest on the study" in page
    assert page.count("(csv big.jsonl)") == 4
    reported = json.loads((tmp_path / "fit.json").read_text())
    assert reported["coefficients"]["alpha"] == pytest.approx(after["coefficients"]["alpha"])
    assert reported["inputs"] == after["inputs"]

    code, _, err = windtunnel("records", finished, "--out", tmp_path / "records")
    assert code == 0, err
    with (tmp_path / "records" / "imported.csv").open() as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["r0", "r1", "r2", "r3"]
    with (tmp_path / "records" / "runs.csv").open() as file:
        assert "imported" not in file.read()

    for label in ("r0", "r1", "r2", "r3"):
        code, out, _ = windtunnel("import-runs", finished, "--remove", label)
        assert (code, f"took out '{label}'" in out) == (0, True)
    assert fitted() == before


def test_a_second_import_adds_nothing_and_other_numbers_are_refused(
    study_file, windtunnel, table
):  # fmt: skip
    study = study_file()
    assert windtunnel("import-runs", study, table, *TAKE)[0] == 0
    file = imported_file(open_study(study).folder)
    first = file.read_bytes()
    code, out, _ = windtunnel("import-runs", study, table, *TAKE)
    assert (code, "0 new, 3 known already; nothing was added" in out) == (0, True)
    assert file.read_bytes() == first

    table.write_text(TABLE.replace("2.41", "2.40") + "big-3,2.4e9,9.6e10,2.25,2e-4,true\n")
    code, _, err = windtunnel("import-runs", study, table, *TAKE)
    assert code == 2
    assert "'big-1' (of csv large.csv): loss 2.41 -> 2.4\n" in err
    assert "--replace" in err
    assert file.read_bytes() == first
    code, out, _ = windtunnel("import-runs", study, table, *TAKE, "--replace")
    assert (code, "1 new, 1 replaced, 2 known already" in out) == (0, True)
    assert taken(study)["big-1"].loss == 2.4
    assert file.read_bytes().startswith(first)  # nothing is lost

    code, out, _ = windtunnel("import-runs", study, "--list", "--json")
    runs = json.loads(out)["runs"]
    assert [each["label"] for each in runs] == ["big-0", "big-1", "big-2", "big-3"]
    origin = runs[0]["origin"]
    assert len(origin["sha256"]) == 64
    assert origin["columns"] == {
        "params": "N", "tokens": "D", "loss": "val_loss", "lr": "lr", "decayed": "--decayed",
        "run": "name",
    }  # fmt: skip
    code, out, _ = windtunnel("import-runs", study, "--list")
    assert out.count("csv large.csv, ") == 4


def test_a_dry_run_writes_nothing(study_file, windtunnel, table):
    study = study_file()
    code, out, _ = windtunnel("import-runs", study, table, *TAKE, "--dry-run")
    assert code == 0
    assert out.count(" new") == 4  # rows, and the sum
    assert "a dry run, nothing was written" in out
    assert not open_study(study).folder.exists()


def test_the_same_rows_as_jsonl_and_parquet_are_known(study_file, windtunnel, table, tmp_path):
    import pandas as pd

    study = study_file()
    frame = pd.read_csv(table)
    frame.to_json(tmp_path / "large.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "large.parquet")
    windtunnel("import-runs", study, table, *TAKE)
    for name in ("large.jsonl", "large.parquet"):
        code, out, _ = windtunnel("import-runs", study, tmp_path / name, *TAKE)
        assert (code, "0 new, 3 known already" in out) == (0, True)


def test_numbers_for_all_runs_derived_params_and_conditions(study_file, windtunnel, tmp_path):
    study = study_file()
    (tmp_path / "t.csv").write_text(
        "id,C,billions,l,done\na,7.2e19,12,2.6,yes\nb,1.44e20,24,2.5,yes\nc,2e20,30,2.4,no\n"
        "d,3e20,,2.3,yes\n"
    )
    options = ("--flops", "C", "--tokens", "billions", "--loss", "l", "--run", "id", "--scale",
               "billions=1e9", "--lr", "3e-4", "--decayed", "TRUE")  # fmt: skip
    code, out, err = windtunnel(
        "import-runs", study, tmp_path / "t.csv", *options, "--exclude", "done == no"
    )
    assert (code, err) == (0, "")
    assert "1 of 4 runs are left out: done == no (1)" in out
    assert "1 of 3 rows are left out: billions is missing (1)" in out
    found = taken(study)
    assert list(found) == ["a", "b"]
    assert (found["a"].params, found["a"].tokens) == (1_000_000_000, 12_000_000_000)
    assert (found["a"].flops, found["a"].lr) == (7.2e19, 3e-4)
    code, out, _ = windtunnel(
        "import-runs", study, tmp_path / "t.csv", *options, "--where", "l < 2.45", "--params",
        "1.1e9", "--where", "done == no",
    )  # fmt: skip
    assert (code, taken(study)["c"].params) == (0, 1_100_000_000)


def test_undecayed_runs_are_kept_and_the_law_leaves_them_out(finished, windtunnel, table):
    code, _, err = windtunnel("import-runs", finished, table, *COLUMNS)
    assert code == 2
    assert "--decayed true, --decayed false or --decayed COL" in err
    code, out, _ = windtunnel("import-runs", finished, table, *COLUMNS, "--decayed", "good")
    assert "1 runs are not decayed: they are kept, and the law leaves them out" in out
    assert [each.decayed for each in taken(finished).values()] == [True, True, False]
    code, out, _ = windtunnel("fit", finished, "--intervals", "none", "--json")
    assert json.loads(out)["n"] == 16 + 2
    table.write_text(TABLE.replace("2e-4,false", "2e-4,"))
    code, _, err = windtunnel("import-runs", finished, table, *COLUMNS, "--decayed", "good")
    assert code == 2
    assert "column 'good' does not say of every run" in err


def test_losses_by_set_and_units(study_file, windtunnel, table):
    """Bytes are the tokens of the default tokenizer: a bit per byte is ln 2 nats per token."""
    study = study_file()
    bits = (*COLUMNS[:4], "--decayed", "true", "--unit", "bits-per-byte")
    code, _, err = windtunnel("import-runs", study, table, *bits, "--loss", "val_loss")
    assert code == 2
    assert "its data is not prepared yet: `windtunnel sweep` does it" in err
    open_study(study, prepared=True)
    code, out, err = windtunnel("import-runs", study, table, *bits, "--loss-of", "words=val_loss")
    assert (code, err) == (0, "")
    assert "nats per token" not in out
    found = taken(study)["big-0"]
    assert found.loss == pytest.approx(2.5 * math.log(2), rel=1e-12)
    assert found.losses == {"words": found.loss}
    code, _, err = windtunnel("import-runs", study, table, *bits, "--loss-of", "word=val_loss")
    assert code == 2
    assert "no validation set 'word'; did you mean 'words'? It has: words" in err


def test_a_mean_per_byte_over_unlike_sets_is_refused(study_file, windtunnel, words, tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    (tmp_path / "digits.jsonl").write_text(
        "".join(json.dumps({"text": f"{i * 7919} {i * 104729} " * 40}) + "\n" for i in range(400))
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=600, show_progress=False,
                                  special_tokens=["<|end|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())  # fmt: skip
    tokenizer.train([str(words)], trainer)
    tokenizer.save(str(tmp_path / "bpe.json"))
    sources = f"sources: [{{path: {words}, name: words}}, {{path: digits.jsonl, name: digits}}]"
    study = study_file(
        replace=(
            f"sources: [{{path: {words}, name: words}}]",
            f"{sources}\n  tokenizer: bpe.json\n  end_of_text: <|end|>",
        )
    )
    opened = open_study(study, prepared=True)
    per_token = {each.name: each.bytes_per_token for each in opened.validation}
    assert per_token["words"] > 1.2 * per_token["digits"]
    (tmp_path / "t.csv").write_text("run,n,d,mean,w,x\na,1e9,2e10,1.05,1.0,1.1\n")
    options = ("--params", "n", "--tokens", "d", "--decayed", "true", "--unit", "bits-per-byte")
    code, _, err = windtunnel(
        "import-runs", study, tmp_path / "t.csv", *options, "--loss", "mean"
    )  # fmt: skip
    assert code == 2
    assert "its validation sets differ in bytes per token (digits 0.99" in err
    code, _, err = windtunnel(
        "import-runs", study, tmp_path / "t.csv", *options, "--loss-of", "words=w"
    )
    assert code == 2
    assert "give --loss-of digits=COL too" in err
    code, out, err = windtunnel(
        "import-runs", study, tmp_path / "t.csv", *options, "--loss-of", "words=w",
        "--loss-of", "digits=x",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "the loss is the mean over digits, words" in out
    want = {
        "words": math.log(2) * per_token["words"],
        "digits": 1.1 * math.log(2) * per_token["digits"],
    }
    assert taken(study)["a"].losses == pytest.approx(want)
    assert taken(study)["a"].loss == pytest.approx(sum(want.values()) / 2)


BAD = {
    "no source": ([], "give one of SOURCE (a table, mlflow:EXPERIMENT or a wandb folder), --list"),
    "two": (["{table}", "--list"], "give one of SOURCE"),
    "no file": (["none.csv", *TAKE], "none.csv: no such file"),
    "kind": (["large.pkl", *TAKE], "not a table that can be read; allowed are .csv"),
    "format": (["{table}", *TAKE, "--format", "wand"], "allowed are csv, mlflow, wandb; did you"),
    "no export": (["{table}", *TAKE, "--format", "wandb"], "which has the columns Name and State"),
    "column": (["{table}", *TAKE, "--loss", "val_los"], "did you mean 'val_loss'?"),
    "billions": (["{table}", *TAKE, "--scale", "N=1e-9"], "multiply it by 1e9 with --scale params"),
    "scale": (["{table}", *TAKE, "--scale", "N=x"], "'x' is not a number"),
    "perplexity": (["{table}", *TAKE, "--scale", "val_loss=100"], "looks like per cent or perplex"),
    "unit": (["{table}", *TAKE, "--unit", "nats"], "allowed are nats-per-token, nats-per-byte"),
    "experiment": (["{table}", *TAKE, "--experiment", "laws"], "did you mean 'law'? It has: law"),
    "condition": (["{table}", *TAKE, "--where", "N > 1e12"], "no row is left after"),
    "all out": (["{table}", *TAKE, "--exclude", "N > 1"], "no run is left after --exclude"),
    "no column": (["{table}", *TAKE, "--exclude", "State == x"], "has no column 'State'"),
    "loss of": (["{table}", *TAKE, "--loss-of", "val_loss"], "for example --loss-of words=COL"),
    "truth": (["{table}", *COLUMNS, "--decayed", "lr"], "allowed are true, false, 1 and 0"),
    "label": (["{table}", *TAKE, "--run", "N"], "2 runs are called '1.2e9'"),
    "remove": (["--remove", "big-9"], "no imported run 'big-9'. Imported: none"),
    "uri of a table": (["{table}", *TAKE, "--tracking-uri", "x"], "is no MLflow source"),
    "no uri": (["mlflow:big", *TAKE], "give --tracking-uri, for example"),
    "no name": (["mlflow:", *TAKE], "write mlflow:EXPERIMENT_NAME"),
    "no database": (["mlflow:big", *TAKE, "--tracking-uri", "sqlite:///no.db"], "no such database"),
    "no server": (["mlflow:b", *TAKE, "--tracking-uri", "http://u:pw@127.0.0.1:9"],
                  "http://127.0.0.1:9: "),
    "empty folder": (["empty", *TAKE], "no W&B run to read; it holds none of run-*/files/"),
}  # fmt: skip


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The working directory, where MLflow is not configured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.mark.parametrize("name", BAD)
def test_bad_input_exits_2_teaches_and_writes_nothing(
    study_file, windtunnel, table, elsewhere, name
):
    tmp_path = elsewhere
    (tmp_path / "empty").mkdir()
    (tmp_path / "large.pkl").write_bytes(b"\x80\x04.")
    arguments, message = BAD[name]
    study = study_file()
    there = set(tmp_path.rglob("*"))
    code, out, err = windtunnel(
        "import-runs", study, *(part.format(table=table) for part in arguments)
    )
    assert (code, out) == (2, "")
    assert message in err
    assert "pw@" not in err
    assert set(tmp_path.rglob("*")) == there


def test_the_only_scaling_experiment_or_the_one_named(study_file, windtunnel, table):
    two = study_file(replace=("experiments:\n", (
        "experiments:\n  - {kind: scaling, name: other, horizons: [110 steps], seeds: 1}\n"
    )))  # fmt: skip
    code, _, err = windtunnel("import-runs", two, table, *TAKE)
    assert (code, "several (other, law): choose one with --experiment" in err) == (2, True)
    assert windtunnel("import-runs", two, table, *TAKE, "--experiment", "other")[0] == 0
    assert {each.experiment for each in taken(two).values()} == {"other"}


def test_a_damaged_file_of_imports_is_an_error_of_the_store(study_file, windtunnel, table):
    study = study_file()
    windtunnel("import-runs", study, table, *TAKE)
    file = imported_file(open_study(study).folder)
    file.write_text(file.read_text().replace("2.41", "1.41"))
    for command in (("runs", study), ("import-runs", study, "--list"), ("fit", study)):
        code, _, err = windtunnel(*command)
        assert (code, "imported.jsonl: damaged: run 2" in err) == (2, True)


def test_a_studys_own_runs_do_not_come_back_as_imports(finished, windtunnel, tmp_path):
    windtunnel("runs", finished, "--out", tmp_path / "runs.csv")
    code, _, err = windtunnel("import-runs", finished, tmp_path / "runs.csv")
    assert code == 2
    assert "20 of 20 runs are segments of this study itself" in err
    assert len(gather(open_study(finished).store, open_study(finished).plan)) == 20
